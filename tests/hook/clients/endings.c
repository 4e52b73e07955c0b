/* A kernel is submitted, what it runs on ends at once, and another one is submitted: endings CASE KNOWN
 *
 * CASE: none, stream, context, reset, release, fork. KNOWN: 1 when the kernel ran once before. Prints in microseconds how
 * long it took until the second one was let pass. */
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver_calls.h"
#include "memory_client.h"

enum { LONG_US = 50000 };
static const uint64_t PAID_NS = 1000000000;

static CUcontext context;
static CUfunction spin;
static CUstream stream;

static void open_context(bool own) {
    if (own) MUST(cuCtxCreate_v2(&context, 0, 0));
    else context = begin();
    spin = kernel("egpu_spin_us");
    MUST(cuStreamCreate(&stream, 1));
}

static void launch(void) {
    unsigned int us = LONG_US;
    void *parameters[] = {&us};
    MUST(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static void fork_once(void) {
    pid_t child = fork();
    if (child == 0) _exit(0);
    egpuSimDetach();
    waitpid(child, NULL, 0);
}

static void end(const char *what) {
    if (strcmp(what, "none") == 0) return;
    if (strcmp(what, "fork") == 0) {
        fork_once();
        return;
    }
    if (strcmp(what, "stream") == 0) {
        MUST(cuStreamDestroy_v2(stream));
        MUST(cuStreamCreate(&stream, 1));
        return;
    }
    bool own = strcmp(what, "context") == 0;
    if (own) MUST(cuCtxDestroy_v2(context));
    else if (strcmp(what, "reset") == 0) MUST(cuDevicePrimaryCtxReset_v2(0));
    else MUST(cuDevicePrimaryCtxRelease_v2(0));
    open_context(own);
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    MUST(cuInit(0));
    open_context(strcmp(arguments[1], "context") == 0);
    if (arguments[2][0] == '1') {
        launch();
        MUST(cuStreamSynchronize(stream));
        egpuSimSleep(PAID_NS);
    }
    uint64_t began_ns = egpuSimNow();
    launch();
    end(arguments[1]);
    launch();
    say("again", (int64_t)(egpuSimNow() - began_ns) / 1000);
    MUST(cuCtxSynchronize());
    return 0;
}
