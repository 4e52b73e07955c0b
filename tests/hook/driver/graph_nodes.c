/* Explicit nodes. Each is made by a stream that captures into the graph for a moment, so that a node and a captured
 * call are the same thing. */
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "graphs.h"
#include "simulated.h"

CUresult sim_cuGraphAddKernelNode_v2(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                     const CUDA_KERNEL_NODE_PARAMS *parameters)
{
    struct sim_builder builder;
    CUresult result = parameters != NULL ? sim_builder_begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;
    CUfunction function;

    if (result != CUDA_SUCCESS)
        return result;
    function = parameters->func != NULL ? parameters->func : (CUfunction)(void *)parameters->kern;
    result = sim_cuLaunchKernel(function, parameters->gridDimX, parameters->gridDimY, parameters->gridDimZ,
                                parameters->blockDimX, parameters->blockDimY, parameters->blockDimZ,
                                parameters->sharedMemBytes, sim_builder_stream(&builder), parameters->kernelParams,
                                parameters->extra);
    return sim_builder_end(&builder, result, made);
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
    struct sim_builder builder;
    CUresult result = parameters != NULL ? sim_builder_begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    (void)context;
    if (result != CUDA_SUCCESS)
        return result;
    result = sim_cuMemcpy3DAsync_v2(parameters, sim_builder_stream(&builder));
    sim_builder_keep(&builder, result, parameters, sizeof(*parameters));
    return sim_builder_end(&builder, result, made);
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
    struct sim_builder builder;
    CUresult result = parameters != NULL ? sim_builder_begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    (void)context;
    if (result != CUDA_SUCCESS)
        return result;
    result = set_memory(parameters, sim_builder_stream(&builder));
    sim_builder_keep(&builder, result, parameters, sizeof(*parameters));
    return sim_builder_end(&builder, result, made);
}

CUresult sim_cuGraphAddHostNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                const CUDA_HOST_NODE_PARAMS *parameters)
{
    struct sim_builder builder;
    CUresult result = parameters != NULL ? sim_builder_begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    return sim_builder_end(&builder, sim_cuLaunchHostFunc(sim_builder_stream(&builder), parameters->fn, parameters->userData), made);
}

/* A node that only its graph knows: empty, child graph, event. */
static CUresult add_plain(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count, unsigned type)
{
    struct sim_operation operation = {.kind = SIM_JOIN, .node_type = (int)type};
    struct sim_builder builder;
    CUresult result = made != NULL ? sim_builder_begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    return sim_builder_end(&builder, sim_capture_add(&builder.stream, &operation), made);
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
    struct sim_builder builder;
    CUresult result = parameters != NULL ? sim_builder_begin(&builder, graph, after, count) : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    result = sim_cuMemAllocAsync(&parameters->dptr, parameters->bytesize, sim_builder_stream(&builder));
    if (result == CUDA_SUCCESS)
        builder.stream.after.nodes[0]->memory = parameters->dptr;
    return sim_builder_end(&builder, result, made);
}

CUresult sim_cuGraphAddMemFreeNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                   CUdeviceptr pointer)
{
    struct sim_builder builder;
    CUresult result = sim_builder_begin(&builder, graph, after, count);

    if (result != CUDA_SUCCESS)
        return result;
    result = sim_cuMemFreeAsync(pointer, sim_builder_stream(&builder));
    if (result == CUDA_SUCCESS)
        builder.stream.after.nodes[0]->memory = pointer;
    return sim_builder_end(&builder, result, made);
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
    const void *more = parameters != NULL ? parameters->reserved1 : NULL; /* what the union does not name */

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
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
        return sim_cuGraphAddEventRecordNode(made, graph, after, count, *(const CUevent *)more);
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
        return sim_cuGraphAddEventWaitNode(made, graph, after, count, *(const CUevent *)more);
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
        return sim_cuGraphAddExternalSemaphoresSignalNode(made, graph, after, count, more);
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
        return sim_cuGraphAddExternalSemaphoresWaitNode(made, graph, after, count, more);
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
        return sim_cuGraphAddBatchMemOpNode(made, graph, after, count, more);
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
