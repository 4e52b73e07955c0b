/* Graphs built node by node: order, data, time, child graphs, memory nodes, updates. Prints what differs. */
#include <stdio.h>
#include <string.h>

#include "driver_calls.h"
#include "expect.h"

#define WORDS 1024
#define BYTES (WORDS * sizeof(float))

static CUmodule module;
static CUcontext context;

static CUgraphNode kernel_node(CUgraph graph, CUgraphNode after, const char *name, void **parameters)
{
    CUDA_KERNEL_NODE_PARAMS kernel = {.gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
                                      .blockDimZ = 1, .kernelParams = parameters};
    CUgraphNode node = NULL;

    DO(cuModuleGetFunction(&kernel.func, module, name));
    DO(cuGraphAddKernelNode_v2(&node, graph, after != NULL ? &after : NULL, after != NULL, &kernel));
    return node;
}

static CUgraphNode spin_node(CUgraph graph, CUgraphNode after, unsigned us)
{
    void *parameters[] = {&us};

    return kernel_node(graph, after, "egpu_spin_us", parameters);
}

static long run_us(CUgraphExec exec)
{
    uint64_t began = egpuSimNow();

    DO(cuGraphLaunch(exec, NULL));
    DO(cuCtxSynchronize());
    return (long)((egpuSimNow() - began) / 1000U);
}

static void order_and_time(void)
{
    CUgraph graph;
    CUgraph child;
    CUgraph clone;
    CUgraphNode nodes[8] = {NULL};
    CUgraphNode found = NULL;
    CUgraphExec exec;
    size_t count = 0;

    DO(cuGraphCreate(&graph, 0));
    DO(cuGraphCreate(&child, 0));
    spin_node(child, NULL, 40);
    nodes[0] = spin_node(graph, NULL, 100);
    nodes[1] = spin_node(graph, nodes[0], 50);
    DO(cuGraphAddChildGraphNode(&nodes[2], graph, &nodes[1], 1, child));
    DO(cuGraphAddEmptyNode(&nodes[3], graph, &nodes[2], 1));
    DO(cuGraphDestroy(child)); /* the node has a copy */
    DO(cuGraphGetNodes(graph, NULL, &count));
    EXPECT(count, 4);
    DO(cuGraphGetRootNodes(graph, NULL, &count));
    EXPECT(count, 1);
    DO(cuGraphGetEdges(graph, NULL, NULL, &count));
    EXPECT(count, 3);
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    EXPECT(run_us(exec), 190);
    EXPECT(run_us(exec), 190);
    DO(cuGraphNodeSetEnabled(exec, nodes[0], 0));
    EXPECT(run_us(exec), 90);
    DO(cuGraphClone(&clone, graph));
    DO(cuGraphNodeFindInClone(&found, nodes[1], clone));
    EXPECT(found != NULL && found != nodes[1], 1);
    /* A cycle is refused. */
    DO(cuGraphAddDependencies(graph, &nodes[3], &nodes[0], 1));
    EXPECT(cuGraphInstantiateWithFlags(&exec, graph, 0), CUDA_ERROR_INVALID_VALUE);
    DO(cuGraphDestroy(clone));
    DO(cuGraphDestroy(graph));
}

static void updates(void)
{
    CUDA_KERNEL_NODE_PARAMS kernel = {.gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
                                      .blockDimZ = 1};
    CUgraphExecUpdateResultInfo information;
    CUgraph graph;
    CUgraph other;
    CUgraphExec exec;
    CUgraphNode node;
    unsigned us = 7;
    void *parameters[] = {&us};

    DO(cuGraphCreate(&graph, 0));
    node = spin_node(graph, NULL, 10);
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    EXPECT(run_us(exec), 10);
    DO(cuModuleGetFunction(&kernel.func, module, "egpu_spin_us"));
    kernel.kernelParams = parameters;
    DO(cuGraphExecKernelNodeSetParams_v2(exec, node, &kernel));
    EXPECT(run_us(exec), 7);
    DO(cuGraphCreate(&other, 0));
    node = spin_node(other, NULL, 33);
    DO(cuGraphExecUpdate_v2(exec, other, &information));
    EXPECT(run_us(exec), 33);
    spin_node(other, node, 1);
    EXPECT(cuGraphExecUpdate_v2(exec, other, &information), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
    EXPECT(run_us(exec), 33);
    DO(cuGraphExecDestroy(exec));
    EXPECT(cuGraphLaunch(NULL, NULL), CUDA_ERROR_INVALID_VALUE);
}

static void parameters_of_nodes(void)
{
    CUDA_KERNEL_NODE_PARAMS kernel;
    CUDA_MEMSET_NODE_PARAMS set = {.value = 7, .elementSize = 1, .width = 16, .height = 1};
    CUDA_MEMSET_NODE_PARAMS told;
    CUdeviceptr memory;
    unsigned char byte = 0;
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode node;
    CUgraphNode memset_node;
    unsigned us = 21;
    void *parameters[] = {&us};

    DO(cuMemAlloc_v2(&memory, 64));
    set.dst = memory;
    DO(cuGraphCreate(&graph, 0));
    node = spin_node(graph, NULL, 10);
    DO(cuGraphAddMemsetNode(&memset_node, graph, &node, 1, &set, context));
    DO(cuGraphMemsetNodeGetParams(memset_node, &told));
    EXPECT(told.dst == memory && told.value == 7, 1);
    DO(cuGraphKernelNodeGetParams_v2(node, &kernel));
    EXPECT(*(unsigned *)kernel.kernelParams[0], 10);
    kernel.kernelParams = parameters;
    DO(cuGraphKernelNodeSetParams_v2(node, &kernel));
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    EXPECT(run_us(exec) >= 21, 1);
    DO(cuMemcpyDtoH_v2(&byte, memory + 15, 1));
    EXPECT(byte, 7);
    set.value = 9;
    DO(cuGraphExecMemsetNodeSetParams(exec, memset_node, &set, context));
    run_us(exec);
    DO(cuMemcpyDtoH_v2(&byte, memory + 15, 1));
    EXPECT(byte, 9);
    EXPECT(cuGraphMemsetNodeGetParams(node, &told), CUDA_ERROR_INVALID_VALUE);
    DO(cuGraphExecDestroy(exec));
    DO(cuGraphDestroy(graph));
    DO(cuMemFree_v2(memory));
}

static void count_up(void *data)
{
    ++*(int *)data;
}

static void data(void)
{
    static float results[WORDS];
    CUDA_MEMSET_NODE_PARAMS set = {.value = 0x3f800000, .elementSize = 4, .width = WORDS, .height = 1}; /* 1.0F */
    CUDA_MEMCPY3D copy = {.srcMemoryType = CU_MEMORYTYPE_DEVICE, .dstMemoryType = CU_MEMORYTYPE_HOST,
                          .dstHost = results, .WidthInBytes = BYTES, .Height = 1, .Depth = 1};
    CUDA_MEM_ALLOC_NODE_PARAMS memory = {.bytesize = BYTES};
    CUDA_HOST_NODE_PARAMS host = {count_up, NULL};
    CUdeviceptr one;
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode before;
    CUgraphNode node;
    int counted = 0;
    unsigned count = WORDS;

    memory.poolProps.allocType = CU_MEM_ALLOCATION_TYPE_PINNED;
    memory.poolProps.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    DO(cuMemAlloc_v2(&one, BYTES));
    DO(cuGraphCreate(&graph, 0));
    DO(cuGraphAddMemAllocNode(&before, graph, NULL, 0, &memory));
    set.dst = one;
    DO(cuGraphAddMemsetNode(&node, graph, &before, 1, &set, context));
    void *parameters[] = {&memory.dptr, &one, &one, &count};
    node = kernel_node(graph, node, "egpu_vadd", parameters);
    copy.srcDevice = memory.dptr;
    DO(cuGraphAddMemcpyNode(&before, graph, &node, 1, &copy, context));
    host.userData = &counted;
    DO(cuGraphAddHostNode(&node, graph, &before, 1, &host));
    DO(cuGraphAddMemFreeNode(&before, graph, &node, 1, memory.dptr));
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    EXPECT(results[WORDS - 1], 0);
    for (int round = 1; round <= 3; round++) {
        memset(results, 0, sizeof(results));
        run_us(exec);
        EXPECT(results[0] == 2.0F && results[WORDS - 1] == 2.0F, 1);
        EXPECT(counted, round);
    }
    DO(cuGraphExecDestroy(exec));
    DO(cuGraphDestroy(graph));
}

static void objects(void)
{
    CUuserObject object;
    CUgraph graph;
    CUgraphExec exec;
    int ended = 0;

    DO(cuUserObjectCreate(&object, &ended, count_up, 1, 1));
    DO(cuGraphCreate(&graph, 0));
    DO(cuGraphRetainUserObject(graph, object, 1, 1)); /* moves the reference */
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    DO(cuGraphDestroy(graph));
    EXPECT(ended, 0);
    DO(cuGraphExecDestroy(exec));
    EXPECT(ended, 1);
}

static void green_context(void)
{
    CUdevResourceDesc description;
    CUdevResource whole;
    CUgreenCtx green;
    CUcontext own;
    CUstream stream;
    CUfunction spin;
    CUevent event;
    unsigned us = 30;
    void *parameters[] = {&us};
    uint64_t began = egpuSimNow();

    DO(cuDeviceGetDevResource(0, &whole, 1));
    DO(cuDevResourceGenerateDesc(&description, &whole, 1));
    DO(cuGreenCtxCreate(&green, description, 0, 1));
    DO(cuCtxFromGreenCtx(&own, green));
    DO(cuGreenCtxStreamCreate(&stream, green, CU_STREAM_NON_BLOCKING, 0));
    DO(cuCtxPushCurrent_v2(own));
    DO(cuModuleGetFunction(&spin, module, "egpu_spin_us"));
    DO(cuEventCreate(&event, CU_EVENT_DEFAULT));
    DO(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
    DO(cuStreamSynchronize(stream));
    EXPECT((egpuSimNow() - began) / 1000U, 30);
    DO(cuCtxRecordEvent(own, event));
    DO(cuEventQuery(event));
    DO(cuCtxPopCurrent_v2(NULL));
    DO(cuGreenCtxDestroy(green));
    EXPECT(cuGreenCtxDestroy(NULL), CUDA_ERROR_INVALID_HANDLE);
}

int main(void)
{
    DO(cuInit(0));
    DO(cuCtxCreate_v2(&context, 0, 0));
    DO(cuModuleLoadData(&module, "any"));
    order_and_time();
    updates();
    parameters_of_nodes();
    data();
    objects();
    green_context();
    return failures != 0;
}
