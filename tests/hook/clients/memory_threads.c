/* Threads of one process that take and give back memory of several kinds at once; what is left at the end is counted. */
#include <pthread.h>

#include "memory_client.h"

#define THREADS 4
#define ROUNDS 300

static CUcontext context;

static void *work(void *argument) {
    uint64_t number = (uint64_t)argument;
    CUstream stream;
    CUdeviceptr small, large, pooled, managed;
    MUST(cuCtxSetCurrent(context));
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    for (uint64_t round = 0; round < ROUNDS; round++) {
        uint32_t out = (uint32_t)(number * ROUNDS + round), in = 0;
        MUST(cuMemAlloc_v2(&small, 100 + round));
        MUST(cuMemAlloc_v2(&large, 3 * MIB));
        MUST(cuMemAllocAsync(&pooled, 100000, stream));
        MUST(cuMemAllocManaged(&managed, 4 * MIB, CU_MEM_ATTACH_GLOBAL));
        touch(managed, 4 * MIB, 1, stream);
        MUST(cuMemcpyHtoD_v2(small, &out, sizeof out));
        MUST(cuMemcpy(pooled, small, sizeof out));
        MUST(cuMemcpyDtoH_v2(&in, pooled, sizeof in));
        if (in != out)
            exit(2);
        MUST(cuMemFreeAsync(pooled, stream));
        MUST(cuMemFree_v2(managed));
        MUST(cuMemFree_v2(large));
        MUST(cuMemFree_v2(small));
    }
    egpuSimDetach();
    return NULL;
}

int main(void) {
    pthread_t threads[THREADS];
    context = begin();
    for (uint64_t index = 0; index < THREADS; index++)
        pthread_create(&threads[index], NULL, work, (void *)index);
    egpuSimDetach();
    for (uint64_t index = 0; index < THREADS; index++)
        pthread_join(threads[index], NULL);
    MUST(cuCtxSynchronize());
    say("left", (int64_t)used_mib());
    return 0;
}
