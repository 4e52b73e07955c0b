/* Graphs that allocate. Each argument does one thing and prints one line:
 *
 *   make:NAME:BYTES        a graph with an allocation node and, after it, a node that frees it again
 *   keep:NAME:BYTES        the same without the second node: its memory stays until `free`
 *   capture:NAME:BYTES     as `keep`, recorded from cuMemAllocAsync on a capturing stream
 *   launch:NAME upload:NAME free:NAME destroy:NAME      NAME is a digit
 *   alloc:BYTES            cuMemAlloc
 *   trim used              used: MiB that cuMemGetInfo says are taken */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver_calls.h"

enum { GRAPHS_MAX = 10, MIB_BITS = 20 };

static struct {
    CUgraph graph;
    CUgraphExec exec;
    CUdeviceptr address;
} graphs[GRAPHS_MAX];
static CUstream stream;

static CUresult make(int name, size_t bytes, int freed)
{
    CUgraphNode allocation, release;
    CUDA_MEM_ALLOC_NODE_PARAMS parameters = {.bytesize = bytes};
    parameters.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    parameters.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    CUresult result = cuGraphCreate(&graphs[name].graph, 0);
    if (result == CUDA_SUCCESS)
        result = cuGraphAddMemAllocNode(&allocation, graphs[name].graph, NULL, 0, &parameters);
    if (result == CUDA_SUCCESS && freed)
        result = cuGraphAddMemFreeNode(&release, graphs[name].graph, &allocation, 1, parameters.dptr);
    graphs[name].address = parameters.dptr;
    return result == CUDA_SUCCESS ? cuGraphInstantiateWithFlags(&graphs[name].exec, graphs[name].graph, 0) : result;
}

static CUresult capture(int name, size_t bytes)
{
    CUresult result = cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL);
    if (result == CUDA_SUCCESS)
        result = cuMemAllocAsync(&graphs[name].address, bytes, stream);
    if (result == CUDA_SUCCESS)
        result = cuStreamEndCapture(stream, &graphs[name].graph);
    return result == CUDA_SUCCESS ? cuGraphInstantiateWithFlags(&graphs[name].exec, graphs[name].graph, 0) : result;
}

static size_t used_mib(void)
{
    size_t unused = 0, total = 0;
    cuCtxSynchronize();
    cuMemGetInfo_v2(&unused, &total);
    return (total - unused) >> MIB_BITS;
}

static CUresult with_graph(const char *word, int name, size_t bytes)
{
    if (strcmp(word, "make") == 0)
        return make(name, bytes, 1);
    if (strcmp(word, "keep") == 0)
        return make(name, bytes, 0);
    if (strcmp(word, "capture") == 0)
        return capture(name, bytes);
    if (strcmp(word, "launch") == 0)
        return cuGraphLaunch(graphs[name].exec, stream);
    if (strcmp(word, "upload") == 0)
        return cuGraphUpload(graphs[name].exec, stream);
    if (strcmp(word, "free") == 0)
        return cuMemFreeAsync(graphs[name].address, stream);
    return cuGraphExecDestroy(graphs[name].exec);
}

static void run(const char *argument)
{
    char word[16] = "";
    int name = 0;
    unsigned long long bytes = 0;
    CUdeviceptr address;
    if (strcmp(argument, "used") == 0)
        printf("used %zu\n", used_mib());
    else if (strcmp(argument, "trim") == 0)
        printf("trim %d\n", cuDeviceGraphMemTrim(0));
    else if (sscanf(argument, "alloc:%llu", &bytes) == 1)
        printf("alloc %d\n", cuMemAlloc_v2(&address, bytes));
    else if (sscanf(argument, "%15[a-z]:%1d:%llu", word, &name, &bytes) >= 2)
        printf("%s %d\n", word, with_graph(word, name, bytes));
    fflush(stdout);
}

int main(int count, char **words)
{
    CUcontext context;
    if (cuInit(0) != CUDA_SUCCESS || cuCtxCreate_v2(&context, 0, 0) != CUDA_SUCCESS)
        return 2;
    if (cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS)
        return 3;
    for (int i = 1; i < count; i++)
        run(words[i]);
    return 0;
}
