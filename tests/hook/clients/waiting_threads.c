/* Threads of one process that launch side by side, each in a stream of its own:
 * waiting_threads threads=16 kernel_us=1000 new=0 wait=0 until_ms=1500
 *
 * new=1: each launch is of a kernel never seen before. wait=1: for each before the next. A line at the end: the launches of
 * each thread, and what the longest call of any of them took. */
#include <pthread.h>
#include <stdio.h>

#include "task.h"

void egpuSimExpect(uint32_t);
void egpuSimDetach(void);

enum { THREADS_MAX = 64 };

static struct {
    unsigned int launches;
    uint64_t longest_ns;
} done[THREADS_MAX];
static CUcontext context;
static CUfunction function;
static uint64_t until, is_new, waits;
static unsigned int kernel_us;

static void *run(void *own) {
    size_t self = (size_t)own;
    CUstream stream;
    MUST(cuCtxSetCurrent(context));
    MUST(cuStreamCreate(&stream, 1));
    for (uint64_t before = now_ns(); before < until; before = now_ns()) {
        void *parameters[] = {&kernel_us};
        unsigned int grid = is_new ? 1 + done[self].launches * THREADS_MAX + (unsigned int)self : 1;
        MUST(cuLaunchKernel(function, grid, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        uint64_t took = now_ns() - before;
        done[self].launches++;
        if (took > done[self].longest_ns) done[self].longest_ns = took;
        if (waits) MUST(cuStreamSynchronize(stream));
    }
    egpuSimDetach();
    return NULL;
}

int main(int count, char **arguments) {
    pthread_t thread[THREADS_MAX];
    uint64_t threads = option(count, arguments, "threads", 16), longest_ns = 0;
    CUstream stream;
    if (threads > THREADS_MAX) return 2;
    kernel_us = (unsigned int)option(count, arguments, "kernel_us", 1000);
    is_new = option(count, arguments, "new", 0);
    waits = option(count, arguments, "wait", 0);
    task_begin(&function, "egpu_spin_us", &stream);
    MUST(cuCtxGetCurrent(&context));
    MUST(cuStreamSynchronize(stream)); /* from here on this thread takes part in the clock */
    if (egpuSimNow()) sleep_until(NS_PER_SECOND);
    until = now_ns() + option(count, arguments, "until_ms", 1500) * NS_PER_MS;
    egpuSimExpect((uint32_t)threads);
    for (size_t each = 0; each < threads; each++) pthread_create(&thread[each], NULL, run, (void *)each);
    egpuSimDetach();
    printf("{\"launches\": [");
    for (size_t each = 0; each < threads; each++) {
        pthread_join(thread[each], NULL);
        if (done[each].longest_ns > longest_ns) longest_ns = done[each].longest_ns;
        printf("%s%u", each ? ", " : "", done[each].launches);
    }
    printf("], \"longest_ns\": %llu}\n", (unsigned long long)longest_ns);
    return 0;
}
