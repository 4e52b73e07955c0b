/* Threads that make contexts, use them and end them while others look at what is outstanding: context_churn THREADS ROUNDS.
 * The last thread only waits for an empty stream of its own, which is when all others' batches are looked at. */
#include <pthread.h>
#include <stdbool.h>

#include "driver_calls.h"
#include "memory_client.h"

void egpuSimExpect(uint32_t);

enum { THREADS_MAX = 8, KERNEL_US = 20, BYTES = 1 << 20 };

static int rounds;
static unsigned int at_work;

static void launch(CUfunction function, CUstream stream, unsigned int grid) {
    unsigned int us = KERNEL_US;
    void *parameters[] = {&us};
    MUST(cuLaunchKernel(function, grid, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

/* Everything dies with the context, in the middle of its work. */
static void use(int round) {
    CUfunction function = kernel("egpu_spin_us");
    CUstream streams[3];
    CUdeviceptr from, to;
    CUevent event;
    MUST(cuMemAlloc_v2(&from, BYTES));
    MUST(cuMemAlloc_v2(&to, BYTES));
    MUST(cuEventCreate(&event, 0));
    for (int each = 0; each < 3; each++) {
        MUST(cuStreamCreate(&streams[each], 1));
        launch(function, streams[each], 1);
        launch(function, streams[each], 1 + (unsigned int)round);
        MUST(cuEventRecord(event, streams[each]));
        MUST(cuStreamWaitEvent(streams[0], event, 0));
    }
    launch(function, NULL, 1);
    MUST(cuMemcpyAsync(to, from, BYTES, streams[1]));
    launch(function, streams[0], 1);
    MUST(cuStreamDestroy_v2(streams[1]));
}

static void *own_contexts(void *unused) {
    for (int round = 0; round < rounds; round++) {
        CUcontext context;
        MUST(cuCtxCreate_v2(&context, 0, 0));
        use(round);
        MUST(cuCtxDestroy_v2(context));
    }
    __atomic_sub_fetch(&at_work, 1, __ATOMIC_ACQ_REL);
    egpuSimDetach();
    return unused;
}

/* Only one thread may use and end the primary context; the others retain and release it. */
static void *primary_context(void *user) {
    for (int round = 0; round < rounds; round++) {
        CUcontext context;
        MUST(cuDevicePrimaryCtxRetain(&context, 0));
        if (user) {
            MUST(cuCtxSetCurrent(context));
            use(round);
            MUST(cuCtxSetCurrent(NULL));
        }
        MUST(cuDevicePrimaryCtxRelease_v2(0));
    }
    __atomic_sub_fetch(&at_work, 1, __ATOMIC_ACQ_REL);
    egpuSimDetach();
    return NULL;
}

static void *look(void *unused) {
    CUcontext context;
    CUstream stream;
    MUST(cuCtxCreate_v2(&context, 0, 0));
    MUST(cuStreamCreate(&stream, 1));
    while (__atomic_load_n(&at_work, __ATOMIC_ACQUIRE) > 0) MUST(cuStreamSynchronize(stream));
    MUST(cuCtxDestroy_v2(context));
    egpuSimDetach();
    return unused;
}

int main(int count, char **arguments) {
    pthread_t threads[THREADS_MAX];
    int thread_count = count == 3 ? atoi(arguments[1]) : 0;
    if (thread_count < 3 || thread_count > THREADS_MAX) return 2;
    rounds = atoi(arguments[2]);
    MUST(cuInit(0));
    at_work = (unsigned int)thread_count - 1;
    for (int each = 0; each < thread_count; each++) {
        bool last = each == thread_count - 1, primary = each % 2 == 1, user = each == 1;
        if (last || user || !primary) egpuSimExpect(1); /* the others neither launch nor wait */
        pthread_create(&threads[each], NULL, last ? look : primary ? primary_context : own_contexts,
                       user ? &rounds : NULL);
    }
    egpuSimDetach();
    for (int each = 0; each < thread_count; each++) pthread_join(threads[each], NULL);
    say("rounds", rounds);
    return 0;
}
