/* Explicit nodes. Each is made by a stream that captures into the graph for a moment, so that a node and a captured
 * call are the same thing. */
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "graphs.h"
#include "simulated.h"

struct builder {
    struct sim_stream stream;
    struct sim_capture capture;
};

static CUresult begin(struct builder *builder, CUgraph graph, const CUgraphNode *after, size_t count)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    memset(builder, 0, sizeof(*builder));
    if (result != CUDA_SUCCESS)
        return result;
    if (sim_graph_of(graph) == NULL || (count > 0 && after == NULL))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t index = 0; index < count; index++) {
        if (sim_node_of(after[index]) == NULL)
            return CUDA_ERROR_INVALID_VALUE;
        sim_nodes_append(&builder->stream.after, after[index]);
    }
    builder->stream.magic = SIM_STREAM_MAGIC;
    builder->stream.flags = CU_STREAM_NON_BLOCKING;
    builder->stream.context = sim_context_current();
    if (builder->stream.context == NULL)
        builder->stream.context = sim_context_first();
    if (builder->stream.context == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    builder->stream.capture = &builder->capture;
    builder->capture.graph = graph;
    builder->capture.mode = CU_STREAM_CAPTURE_MODE_RELAXED;
    builder->capture.thread = pthread_self();
    builder->capture.origin = &builder->stream;
    return CUDA_SUCCESS;
}

static CUresult end(struct builder *builder, CUresult result, CUgraphNode *made)
{
    if (result == CUDA_SUCCESS && made != NULL)
        *made = builder->stream.after.nodes[0];
    sim_nodes_clear(&builder->stream.after);
    return result;
}

/* Keeps the parameters of a node for those who ask for them later. */
static void keep(struct builder *builder, CUresult result, const void *parameters, size_t bytes)
{
    struct sim_operation *operation;

    if (result != CUDA_SUCCESS)
        return;
    operation = &builder->stream.after.nodes[0]->operation;
    free((void *)(uintptr_t)operation->details);
    operation->details = sim_copied(parameters, bytes);
    operation->details_bytes = operation->details != NULL ? bytes : 0;
}

static CUstream handle(struct builder *builder)
{
    return (CUstream)(void *)&builder->stream;
}

CUresult sim_cuGraphAddKernelNode_v2(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                     const CUDA_KERNEL_NODE_PARAMS *parameters)
{
    struct builder builder;
    CUresult result = parameters != NULL ? begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;
    CUfunction function;

    if (result != CUDA_SUCCESS)
        return result;
    function = parameters->func != NULL ? parameters->func : (CUfunction)(void *)parameters->kern;
    result = sim_cuLaunchKernel(function, parameters->gridDimX, parameters->gridDimY, parameters->gridDimZ,
                                parameters->blockDimX, parameters->blockDimY, parameters->blockDimZ,
                                parameters->sharedMemBytes, handle(&builder), parameters->kernelParams,
                                parameters->extra);
    return end(&builder, result, made);
}

CUresult sim_cuGraphAddKernelNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                  const CUDA_KERNEL_NODE_PARAMS_v1 *parameters)
{
    CUDA_KERNEL_NODE_PARAMS newer = {0};

    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&newer, parameters, sizeof(*parameters));
    return sim_cuGraphAddKernelNode_v2(made, graph, after, count, &newer);
}

CUresult sim_cuGraphAddMemcpyNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                  const CUDA_MEMCPY3D *parameters, CUcontext context)
{
    struct builder builder;
    CUresult result = parameters != NULL ? begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    (void)context;
    if (result != CUDA_SUCCESS)
        return result;
    result = sim_cuMemcpy3DAsync_v2(parameters, handle(&builder));
    keep(&builder, result, parameters, sizeof(*parameters));
    return end(&builder, result, made);
}

static CUresult set_memory(const CUDA_MEMSET_NODE_PARAMS *parameters, CUstream stream)
{
    size_t pitch = parameters->height > 1 ? parameters->pitch : parameters->width * parameters->elementSize;

    switch (parameters->elementSize) {
    case 1:
        return sim_cuMemsetD2D8Async(parameters->dst, pitch, (unsigned char)parameters->value, parameters->width,
                                     parameters->height, stream);
    case 2:
        return sim_cuMemsetD2D16Async(parameters->dst, pitch, (unsigned short)parameters->value, parameters->width,
                                      parameters->height, stream);
    case 4:
        return sim_cuMemsetD2D32Async(parameters->dst, pitch, parameters->value, parameters->width,
                                      parameters->height, stream);
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult sim_cuGraphAddMemsetNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                  const CUDA_MEMSET_NODE_PARAMS *parameters, CUcontext context)
{
    struct builder builder;
    CUresult result = parameters != NULL ? begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    (void)context;
    if (result != CUDA_SUCCESS)
        return result;
    result = set_memory(parameters, handle(&builder));
    keep(&builder, result, parameters, sizeof(*parameters));
    return end(&builder, result, made);
}

CUresult sim_cuGraphAddHostNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                const CUDA_HOST_NODE_PARAMS *parameters)
{
    struct builder builder;
    CUresult result = parameters != NULL ? begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    return end(&builder, sim_cuLaunchHostFunc(handle(&builder), parameters->fn, parameters->userData), made);
}

/* A node that only its graph knows: empty, child graph, event. */
static CUresult add_plain(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count, unsigned type)
{
    struct sim_operation operation = {.kind = SIM_JOIN, .node_type = (int)type};
    struct builder builder;
    CUresult result = made != NULL ? begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    return end(&builder, sim_capture_add(&builder.stream, &operation), made);
}

CUresult sim_cuGraphAddEmptyNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count)
{
    return add_plain(made, graph, after, count, CU_GRAPH_NODE_TYPE_EMPTY);
}

CUresult sim_cuGraphAddChildGraphNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                      CUgraph child)
{
    CUgraph clone = NULL;
    CUresult result = sim_cuGraphClone(&clone, child);

    if (result == CUDA_SUCCESS)
        result = add_plain(made, graph, after, count, CU_GRAPH_NODE_TYPE_GRAPH);
    if (result == CUDA_SUCCESS)
        (*made)->child = clone;
    return result;
}

CUresult sim_cuGraphChildGraphNodeGetGraph(CUgraphNode node, CUgraph *graph)
{
    if (sim_node_of(node) == NULL || node->child == NULL || graph == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *graph = node->child;
    return CUDA_SUCCESS;
}

static CUresult add_event(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count, CUevent event,
                          unsigned type)
{
    CUresult result = event != NULL && event->magic == SIM_EVENT_MAGIC ? add_plain(made, graph, after, count, type)
                                                                       : CUDA_ERROR_INVALID_VALUE;

    if (result == CUDA_SUCCESS)
        (*made)->event = event;
    return result;
}

CUresult sim_cuGraphAddEventRecordNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                       CUevent event)
{
    return add_event(made, graph, after, count, event, CU_GRAPH_NODE_TYPE_EVENT_RECORD);
}

CUresult sim_cuGraphAddEventWaitNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                     CUevent event)
{
    return add_event(made, graph, after, count, event, CU_GRAPH_NODE_TYPE_WAIT_EVENT);
}

CUresult sim_cuGraphAddMemAllocNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                    CUDA_MEM_ALLOC_NODE_PARAMS *parameters)
{
    struct builder builder;
    CUresult result = parameters != NULL ? begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    result = sim_cuMemAllocAsync(&parameters->dptr, parameters->bytesize, handle(&builder));
    if (result == CUDA_SUCCESS)
        builder.stream.after.nodes[0]->memory = parameters->dptr;
    return end(&builder, result, made);
}

CUresult sim_cuGraphAddMemFreeNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                   CUdeviceptr pointer)
{
    struct builder builder;
    CUresult result = begin(&builder, graph, after, count);

    if (result != CUDA_SUCCESS)
        return result;
    result = sim_cuMemFreeAsync(pointer, handle(&builder));
    if (result == CUDA_SUCCESS)
        builder.stream.after.nodes[0]->memory = pointer;
    return end(&builder, result, made);
}

CUresult sim_cuGraphMemAllocNodeGetParams(CUgraphNode node, CUDA_MEM_ALLOC_NODE_PARAMS *parameters)
{
    if (sim_node_of(node) == NULL || node->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC || parameters == NULL
        || node->operation.details_bytes != sizeof(*parameters))
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(parameters, node->operation.details, sizeof(*parameters));
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphMemFreeNodeGetParams(CUgraphNode node, CUdeviceptr *pointer)
{
    if (sim_node_of(node) == NULL || node->type != CU_GRAPH_NODE_TYPE_MEM_FREE || pointer == NULL
        || node->operation.details_bytes != sizeof(*pointer))
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(pointer, node->operation.details, sizeof(*pointer));
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphAddNode_v2(CUgraphNode *made, CUgraph graph, const CUgraphNode *after,
                               const CUgraphEdgeData *edges, size_t count, CUgraphNodeParams *parameters)
{
    (void)edges;
    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    switch (parameters->type) {
    case CU_GRAPH_NODE_TYPE_KERNEL:
        return sim_cuGraphAddKernelNode_v2(made, graph, after, count, &parameters->kernel);
    case CU_GRAPH_NODE_TYPE_MEMCPY:
        return sim_cuGraphAddMemcpyNode(made, graph, after, count, &parameters->memcpy.copyParams, NULL);
    case CU_GRAPH_NODE_TYPE_MEMSET:
        return sim_cuGraphAddMemsetNode(made, graph, after, count, &parameters->memset, NULL);
    case CU_GRAPH_NODE_TYPE_HOST:
        return sim_cuGraphAddHostNode(made, graph, after, count, &parameters->host);
    case CU_GRAPH_NODE_TYPE_GRAPH:
        return sim_cuGraphAddChildGraphNode(made, graph, after, count, parameters->graph);
    case CU_GRAPH_NODE_TYPE_EMPTY:
        return sim_cuGraphAddEmptyNode(made, graph, after, count);
    case CU_GRAPH_NODE_TYPE_MEM_ALLOC:
        return sim_cuGraphAddMemAllocNode(made, graph, after, count, &parameters->alloc);
    case CU_GRAPH_NODE_TYPE_MEM_FREE:
        return sim_cuGraphAddMemFreeNode(made, graph, after, count, parameters->free);
    default:
        return CUDA_ERROR_NOT_SUPPORTED;
    }
}

CUresult sim_cuGraphAddNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                            CUgraphNodeParams *parameters)
{
    return sim_cuGraphAddNode_v2(made, graph, after, NULL, count, parameters);
}
