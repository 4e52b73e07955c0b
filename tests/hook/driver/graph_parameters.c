/* What nodes were made with, and making them something else: a new node is built and takes the old one's place. */
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "graphs.h"
#include "simulated.h"

/* Pointers into the packed parameters of a kernel node, as its signature says. */
static void **unpacked(struct CUgraphNode_st *node, const struct sim_launch *launch)
{
    const struct sim_kernel *kernel = launch->function->kernel;
    size_t bytes = SIM_PARAMETERS_MAX * sizeof(void *);
    size_t offset = 0;
    void **pointers;

    if (node->operation.details == NULL)
        node->operation.details = calloc(1, bytes);
    if (node->operation.details == NULL || kernel == NULL)
        return NULL;
    node->operation.details_bytes = bytes;
    pointers = (void **)(uintptr_t)node->operation.details;
    for (int index = 0; index < SIM_PARAMETERS_MAX && kernel->parameters[index] != 0; index++) {
        size_t size = kernel->parameters[index];

        offset = (offset + size - 1) / size * size;
        pointers[index] = (void *)(uintptr_t)(launch->packed + offset);
        offset += size;
    }
    return pointers;
}

static CUresult enter(CUgraphNode node, unsigned type, const void *parameters)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    return sim_node_of(node) != NULL && node->type == type && parameters != NULL ? CUDA_SUCCESS
                                                                                 : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphKernelNodeGetParams_v2(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS *parameters)
{
    CUresult result = enter(node, CU_GRAPH_NODE_TYPE_KERNEL, parameters);
    const struct sim_launch *launch;

    if (result != CUDA_SUCCESS)
        return result;
    launch = node->operation.argument;
    *parameters = (CUDA_KERNEL_NODE_PARAMS){
        .func = (CUfunction)(void *)launch->function,
        .gridDimX = launch->grid[0],
        .gridDimY = launch->grid[1],
        .gridDimZ = launch->grid[2],
        .blockDimX = launch->block[0],
        .blockDimY = launch->block[1],
        .blockDimZ = launch->block[2],
        .sharedMemBytes = launch->shared_bytes,
        .kernelParams = unpacked(node, launch),
        .ctx = (CUcontext)(void *)launch->context,
    };
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphKernelNodeGetParams(CUgraphNode node, CUDA_KERNEL_NODE_PARAMS_v1 *parameters)
{
    CUDA_KERNEL_NODE_PARAMS newer;
    CUresult result = parameters != NULL ? sim_cuGraphKernelNodeGetParams_v2(node, &newer) : CUDA_ERROR_INVALID_VALUE;

    if (result == CUDA_SUCCESS)
        memcpy(parameters, &newer, sizeof(*parameters));
    return result;
}

static CUresult kept(CUgraphNode node, void *parameters, size_t bytes)
{
    if (node->operation.details_bytes != bytes)
        return CUDA_ERROR_NOT_SUPPORTED; /* captured: only its effect is known here */
    memcpy(parameters, node->operation.details, bytes);
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphMemcpyNodeGetParams(CUgraphNode node, CUDA_MEMCPY3D *parameters)
{
    CUresult result = enter(node, CU_GRAPH_NODE_TYPE_MEMCPY, parameters);

    return result != CUDA_SUCCESS ? result : kept(node, parameters, sizeof(*parameters));
}

CUresult sim_cuGraphMemsetNodeGetParams(CUgraphNode node, CUDA_MEMSET_NODE_PARAMS *parameters)
{
    CUresult result = enter(node, CU_GRAPH_NODE_TYPE_MEMSET, parameters);

    return result != CUDA_SUCCESS ? result : kept(node, parameters, sizeof(*parameters));
}

CUresult sim_cuGraphHostNodeGetParams(CUgraphNode node, CUDA_HOST_NODE_PARAMS *parameters)
{
    CUresult result = enter(node, CU_GRAPH_NODE_TYPE_HOST, parameters);

    if (result == CUDA_SUCCESS)
        *parameters = (CUDA_HOST_NODE_PARAMS){node->host, node->host_data};
    return result;
}

CUresult sim_cuGraphEventRecordNodeGetEvent(CUgraphNode node, CUevent *event)
{
    CUresult result = enter(node, CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);

    if (result == CUDA_SUCCESS)
        *event = node->event;
    return result;
}

CUresult sim_cuGraphEventWaitNodeGetEvent(CUgraphNode node, CUevent *event)
{
    CUresult result = enter(node, CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);

    if (result == CUDA_SUCCESS)
        *event = node->event;
    return result;
}

/* The place of `node` in its graph or executable graph stays; what it does is that of a node made of `parameters`. */
static CUresult become(struct CUgraphNode_st *node, const CUgraphNodeParams *parameters)
{
    CUgraphNodeParams copy = *parameters;
    struct CUgraph_st *graph;
    struct sim_operation before;
    CUgraphNode made;
    CUresult result;

    if (node == NULL || node->type != parameters->type)
        return CUDA_ERROR_INVALID_VALUE;
    graph = sim_graph_make();
    if (graph == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = sim_cuGraphAddNode(&made, graph, NULL, 0, &copy);
    if (result == CUDA_SUCCESS) {
        before = node->operation;
        node->operation = made->operation;
        made->operation = before;
        node->event = made->event;
        node->host = made->host;
        node->host_data = made->host_data;
    }
    sim_graph_free(graph);
    return result;
}

static struct CUgraphNode_st *live(CUgraphNode node)
{
    return sim_enter(SIM_CALL_OTHER) == CUDA_SUCCESS ? sim_node_of(node) : NULL;
}

CUresult sim_cuGraphNodeSetParams(CUgraphNode node, CUgraphNodeParams *parameters)
{
    return parameters != NULL ? become(live(node), parameters) : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphExecNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraphNodeParams *parameters)
{
    return parameters != NULL ? become(sim_exec_node(exec, node), parameters) : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphKernelNodeSetParams_v2(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS *parameters)
{
    CUgraphNodeParams any = {.type = CU_GRAPH_NODE_TYPE_KERNEL};

    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    any.kernel = *parameters;
    return become(live(node), &any);
}

CUresult sim_cuGraphKernelNodeSetParams(CUgraphNode node, const CUDA_KERNEL_NODE_PARAMS_v1 *parameters)
{
    CUgraphNodeParams any = {.type = CU_GRAPH_NODE_TYPE_KERNEL};

    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&any.kernel, parameters, sizeof(*parameters));
    return become(live(node), &any);
}

static CUresult copy_becomes(struct CUgraphNode_st *node, const CUDA_MEMCPY3D *parameters)
{
    CUgraphNodeParams any = {.type = CU_GRAPH_NODE_TYPE_MEMCPY};

    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    any.memcpy.copyParams = *parameters;
    return become(node, &any);
}

CUresult sim_cuGraphMemcpyNodeSetParams(CUgraphNode node, const CUDA_MEMCPY3D *parameters)
{
    return copy_becomes(live(node), parameters);
}

CUresult sim_cuGraphExecMemcpyNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_MEMCPY3D *parameters,
                                            CUcontext context)
{
    (void)context;
    return copy_becomes(sim_exec_node(exec, node), parameters);
}

static CUresult set_becomes(struct CUgraphNode_st *node, const CUDA_MEMSET_NODE_PARAMS *parameters)
{
    CUgraphNodeParams any = {.type = CU_GRAPH_NODE_TYPE_MEMSET};

    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    any.memset = *parameters;
    return become(node, &any);
}

CUresult sim_cuGraphMemsetNodeSetParams(CUgraphNode node, const CUDA_MEMSET_NODE_PARAMS *parameters)
{
    return set_becomes(live(node), parameters);
}

CUresult sim_cuGraphExecMemsetNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                            const CUDA_MEMSET_NODE_PARAMS *parameters, CUcontext context)
{
    (void)context;
    return set_becomes(sim_exec_node(exec, node), parameters);
}

static CUresult host_becomes(struct CUgraphNode_st *node, const CUDA_HOST_NODE_PARAMS *parameters)
{
    CUgraphNodeParams any = {.type = CU_GRAPH_NODE_TYPE_HOST};

    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    any.host = *parameters;
    return become(node, &any);
}

CUresult sim_cuGraphHostNodeSetParams(CUgraphNode node, const CUDA_HOST_NODE_PARAMS *parameters)
{
    return host_becomes(live(node), parameters);
}

CUresult sim_cuGraphExecHostNodeSetParams(CUgraphExec exec, CUgraphNode node, const CUDA_HOST_NODE_PARAMS *parameters)
{
    return host_becomes(sim_exec_node(exec, node), parameters);
}

static CUresult set_event(struct CUgraphNode_st *node, unsigned type, CUevent event)
{
    if (node == NULL || node->type != type || event == NULL || event->magic != SIM_EVENT_MAGIC)
        return CUDA_ERROR_INVALID_VALUE;
    node->event = event;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphEventRecordNodeSetEvent(CUgraphNode node, CUevent event)
{
    return set_event(live(node), CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);
}

CUresult sim_cuGraphEventWaitNodeSetEvent(CUgraphNode node, CUevent event)
{
    return set_event(live(node), CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);
}

CUresult sim_cuGraphExecEventRecordNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event)
{
    return set_event(sim_exec_node(exec, node), CU_GRAPH_NODE_TYPE_EVENT_RECORD, event);
}

CUresult sim_cuGraphExecEventWaitNodeSetEvent(CUgraphExec exec, CUgraphNode node, CUevent event)
{
    return set_event(sim_exec_node(exec, node), CU_GRAPH_NODE_TYPE_WAIT_EVENT, event);
}
