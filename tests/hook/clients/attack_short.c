/* Processes that come, run one kernel that nobody has seen before, and go: attack_short end=exit|kill|wait lanes=1
 * kernel_us=20000 live_us=22000 until_ms=2000
 *
 * Each lane starts the next process when its last one is gone. They see their kernel done by the clock alone, as programs
 * do that look at memory of the host, or do not see it done, and end by _exit or by SIGKILL `live_us` after its launch, or
 * after a call that waits for the card. */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "task.h"

static uint64_t until, kernel_us, live_us;

/* 1: the time is over. */
static int live(const char *end) {
    CUfunction function;
    CUstream stream;
    unsigned int us = (unsigned int)kernel_us;
    void *parameters[] = {&us};
    task_begin(&function, "egpu_spin_us", &stream);
    MUST(cuStreamSynchronize(stream)); /* from here on this thread takes part in the clock */
    uint64_t passed = egpuSimNow();
    if (passed < NS_PER_SECOND) sleep_until(NS_PER_SECOND);
    MUST(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
    if (end[0] == 'w') MUST(cuStreamSynchronize(stream));
    else rest(live_us * 1000);
    int over = egpuSimNow() >= until;
    if (end[0] == 'k' && !over) kill(getpid(), SIGKILL);
    _exit(over);
}

static void lane(const char *end) {
    for (int status = 0; !(WIFEXITED(status) && WEXITSTATUS(status) != 0);) {
        pid_t child = fork();
        if (child == 0) live(end);
        if (child < 0 || waitpid(child, &status, 0) != child) _exit(1);
    }
    _exit(0);
}

int main(int count, char **arguments) {
    uint64_t lanes = option(count, arguments, "lanes", 1);
    const char *end = option_text(count, arguments, "end", "exit");
    kernel_us = option(count, arguments, "kernel_us", 20000);
    live_us = option(count, arguments, "live_us", kernel_us * 11 / 10);
    until = NS_PER_SECOND + option(count, arguments, "until_ms", 2000) * NS_PER_MS;
    for (uint64_t each = 0; each < lanes; each++)
        if (fork() == 0) lane(end);
    int status, failed = 0;
    while (wait(&status) > 0) failed |= status;
    return failed != 0;
}
