/* A graph as its arguments say, launched twice in a row: prints how long that took on the virtual clock.
 *
 * graph_branches KIND:AMOUNT:AFTER,AFTER...   kernel:US, copy:BYTES or empty:0, after earlier ones by their number */
#include <stdlib.h>
#include <string.h>

#include "driver_calls.h"
#include "memory_client.h"

enum { NODES_MAX = 256, LAUNCHES = 2, COPY_BYTES_MAX = 1 << 24 };

static CUgraph graph;
static CUgraphNode nodes[NODES_MAX];
static char host[COPY_BYTES_MAX];
static CUdeviceptr device;

static void add(CUgraphNode *node, const char *kind, unsigned int amount, const CUgraphNode *after, size_t count) {
    void *parameters[] = {&amount};
    if (strcmp(kind, "kernel") == 0) {
        CUDA_KERNEL_NODE_PARAMS spin = {.func = kernel("egpu_spin_us"), .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1,
                                        .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1, .kernelParams = parameters};
        MUST(cuGraphAddKernelNode_v2(node, graph, after, count, &spin));
    } else if (strcmp(kind, "copy") == 0) {
        CUDA_MEMCPY3D copy = {.srcMemoryType = CU_MEMORYTYPE_HOST, .srcHost = host, .srcPitch = amount,
                              .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = device, .dstPitch = amount,
                              .WidthInBytes = amount, .Height = 1, .Depth = 1};
        MUST(cuGraphAddMemcpyNode(node, graph, after, count, &copy, NULL));
    } else {
        MUST(cuGraphAddEmptyNode(node, graph, after, count));
    }
}

int main(int count, char **words) {
    CUgraphExec exec;
    begin();
    MUST(cuMemAlloc_v2(&device, COPY_BYTES_MAX));
    MUST(cuGraphCreate(&graph, 0));
    for (int each = 1; each < count && each < NODES_MAX; each++) {
        CUgraphNode after[NODES_MAX];
        size_t before = 0;
        char *kind = strtok(words[each], ":"), *amount = strtok(NULL, ":");
        for (char *number = strtok(NULL, ","); number != NULL; number = strtok(NULL, ","))
            after[before++] = nodes[atoi(number)];
        add(&nodes[each - 1], kind, (unsigned int)atoi(amount), after, before);
    }
    MUST(cuGraphInstantiateWithFlags(&exec, graph, 0));
    MUST(cuCtxSynchronize());
    uint64_t began = egpuSimNow();
    for (int each = 0; each < LAUNCHES; each++) MUST(cuGraphLaunch(exec, NULL));
    MUST(cuCtxSynchronize());
    say("took_ns", (int64_t)(egpuSimNow() - began));
    return 0;
}
