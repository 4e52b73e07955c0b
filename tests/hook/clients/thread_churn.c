/* Threads of one process that do at once all that the hook keeps books of: thread_churn THREADS ROUNDS. Memory, launches to
 * a stream of their own and to a common one, graphs, host functions, events, streams that come and go, and questions.
 * Each answers itself whether its calls succeeded; the program prints how much memory is left in use beyond its context. */
#include <pthread.h>

#include "driver_calls.h"
#include "must.h"

#define THREADS_MAX 16

static CUcontext context;
static CUmodule module;
static CUfunction spin;
static CUstream common;
static int rounds;

static void launch(CUstream stream)
{
    unsigned us = 5;
    void *parameters[] = {&us};
    MUST(cuLaunchKernel(spin, 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
}

static void called(void *count) { (*(int *)count)++; }

static void use_graph(CUstream stream)
{
    CUgraph graph;
    CUgraphExec exec;
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    launch(stream);
    launch(stream);
    MUST(cuStreamEndCapture(stream, &graph));
    MUST(cuGraphInstantiateWithFlags(&exec, graph, 0));
    MUST(cuGraphLaunch(exec, stream));
    MUST(cuStreamSynchronize(stream));
    MUST(cuGraphExecDestroy(exec));
    MUST(cuGraphDestroy(graph));
}

static void use_memory(CUstream stream, int round)
{
    CUdeviceptr plain, pooled, managed;
    size_t free_bytes, total_bytes;
    char host[64] = {0};
    MUST(cuMemAlloc_v2(&plain, (size_t)(round + 1) << 12));
    MUST(cuMemAllocAsync(&pooled, MIB, stream));
    MUST(cuMemAllocManaged(&managed, MIB, CU_MEM_ATTACH_GLOBAL));
    MUST(cuMemcpyHtoD_v2(plain, host, sizeof host));
    MUST(cuMemGetInfo_v2(&free_bytes, &total_bytes));
    MUST(cuMemFree_v2(managed));
    MUST(cuMemFreeAsync(pooled, stream));
    MUST(cuMemFree_v2(plain));
}

static void *work(void *unused)
{
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    for (int round = 0; round < rounds; round++) {
        CUstream stream;
        CUevent event;
        int calls = 0;
        MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
        MUST(cuEventCreate(&event, CU_EVENT_DEFAULT));
        for (int i = 0; i < 4; i++)
            launch(i % 2 == 0 ? stream : common);
        MUST(cuLaunchHostFunc(stream, called, &calls));
        MUST(cuEventRecord(event, stream));
        MUST(cuEventSynchronize(event));
        if (calls != 1)
            exit(2);
        use_memory(stream, round);
        use_graph(stream);
        MUST(cuEventDestroy_v2(event));
        launch(stream);
        MUST(cuStreamDestroy_v2(stream));
    }
    egpuSimDetach();
    return NULL;
}

static long used_mib(void)
{
    size_t free_bytes, total_bytes;
    MUST(cuMemGetInfo_v2(&free_bytes, &total_bytes));
    return (long)((total_bytes - free_bytes) / MIB);
}

int main(int argc, char **argv)
{
    pthread_t threads[THREADS_MAX];
    int count = argc > 2 ? atoi(argv[1]) : 0;
    if (count < 1 || count > THREADS_MAX)
        return 3;
    rounds = atoi(argv[2]);
    MUST(cuInit(0));
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
    MUST(cuModuleLoadData(&module, "any"));
    MUST(cuModuleGetFunction(&spin, module, "egpu_spin_us"));
    MUST(cuStreamCreate(&common, CU_STREAM_NON_BLOCKING));
    long before = used_mib();
    egpuSimExpect((uint32_t)count);
    for (int i = 0; i < count; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    egpuSimDetach();
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    MUST(cuCtxSynchronize());
    printf("left %ld\n", used_mib() - before);
    MUST(cuStreamDestroy_v2(common));
    MUST(cuModuleUnload(module));
    MUST(cuDevicePrimaryCtxRelease_v2(0));
    return 0;
}
