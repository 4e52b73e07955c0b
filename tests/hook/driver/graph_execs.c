/* Executable graphs: an order made of the nodes once, then submitted as often as wanted. */
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "graphs.h"
#include "simulated.h"

#define INSTANTIATE_SUCCESS 0
#define INSTANTIATE_INVALID_STRUCTURE 2
#define UPDATE_SUCCESS 0
#define UPDATE_TOPOLOGY_CHANGED 2
#define UPDATE_NODE_TYPE_CHANGED 3

/* MEMORY's share: a launch takes the bytes of an allocation node, and may find the card full. */
CUresult sim_graph_memory_allocate(CUdeviceptr address) __attribute__((weak));

static struct CUgraphExec_st *exec_of(CUgraphExec exec)
{
    return exec != NULL && exec->magic == SIM_EXEC_MAGIC ? exec : NULL;
}

static bool unfold(struct CUgraph_st *graph, struct CUgraph_st *copies)
{
    struct sim_nodes ordered = {0};
    bool fine = sim_graph_order(graph, &ordered);

    for (size_t index = 0; fine && index < ordered.count; index++) {
        const struct CUgraphNode_st *node = ordered.nodes[index];

        fine = node->type == CU_GRAPH_NODE_TYPE_GRAPH && node->child != NULL ? unfold(node->child, copies)
                                                                           : sim_node_copy(copies, node) != NULL;
    }
    sim_nodes_clear(&ordered);
    return fine;
}

static CUresult fill(struct CUgraphExec_st *exec, struct CUgraph_st *graph)
{
    struct CUgraph_st *copies = sim_graph_make();

    if (copies == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (!unfold(graph, copies)) {
        sim_graph_free(copies);
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (unsigned index = 0; index < graph->object_count; index++)
        if (graph->object_references[index] > 0)
            sim_cuGraphRetainUserObject(copies, graph->objects[index], 1, 0);
    exec->nodes = copies->nodes;
    memset(&copies->nodes, 0, sizeof(copies->nodes));
    exec->holder = copies;
    return CUDA_SUCCESS;
}

static void empty(struct CUgraphExec_st *exec)
{
    for (size_t index = 0; index < exec->nodes.count; index++)
        sim_node_free(exec->nodes.nodes[index]);
    sim_nodes_clear(&exec->nodes);
    sim_graph_free(exec->holder);
}

CUresult sim_cuGraphInstantiateWithFlags(CUgraphExec *made, CUgraph graph, unsigned long long flags)
{
    struct CUgraphExec_st *exec;
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (made == NULL || sim_graph_of(graph) == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    exec = calloc(1, sizeof(*exec));
    if (exec == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    exec->magic = SIM_EXEC_MAGIC;
    exec->flags = flags;
    result = fill(exec, graph);
    if (result != CUDA_SUCCESS) {
        free(exec);
        return result;
    }
    *made = exec;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphInstantiate_v2(CUgraphExec *made, CUgraph graph, CUgraphNode *error, char *text, size_t bytes)
{
    if (error != NULL)
        *error = NULL;
    if (text != NULL && bytes > 0)
        *text = '\0';
    return sim_cuGraphInstantiateWithFlags(made, graph, 0);
}

CUresult sim_cuGraphInstantiate(CUgraphExec *made, CUgraph graph, CUgraphNode *error, char *text, size_t bytes)
{
    return sim_cuGraphInstantiate_v2(made, graph, error, text, bytes);
}

CUresult sim_cuGraphInstantiateWithParams(CUgraphExec *made, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters)
{
    CUresult result;

    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    result = sim_cuGraphInstantiateWithFlags(made, graph, parameters->flags);
    parameters->hErrNode_out = NULL;
    parameters->result_out = result == CUDA_SUCCESS ? INSTANTIATE_SUCCESS : INSTANTIATE_INVALID_STRUCTURE;
    return result;
}

CUresult sim_cuGraphExecGetFlags(CUgraphExec exec, uint64_t *flags)
{
    if (exec_of(exec) == NULL || flags == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = exec->flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExecDestroy(CUgraphExec exec)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (exec_of(exec) == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    empty(exec);
    exec->magic = 0;
    free(exec);
    return CUDA_SUCCESS;
}

/* A run of kernels without other effects is one operation: nothing could come between them anyway. */
static CUresult launch_kernels(struct sim_stream *stream, const struct sim_nodes *nodes, size_t *index)
{
    struct sim_operation sum = nodes->nodes[*index]->operation;

    sum.duration_ns = nodes->nodes[*index]->disabled ? 0 : sum.duration_ns;
    while (sum.effect == NULL && sum.extra_ns == NULL && *index + 1 < nodes->count) {
        const struct CUgraphNode_st *next = nodes->nodes[*index + 1];

        if (next->type != CU_GRAPH_NODE_TYPE_KERNEL || next->operation.effect != NULL
            || next->operation.extra_ns != NULL)
            break;
        sum.duration_ns += next->disabled ? 0 : next->operation.duration_ns;
        ++*index;
    }
    return sim_submit_now(stream, &sum, NULL);
}

static CUresult launch_node(struct sim_stream *stream, const struct CUgraphNode_st *node)
{
    CUstream handle = (CUstream)(void *)stream;

    if (node->disabled)
        return CUDA_SUCCESS;
    switch (node->type) {
    case CU_GRAPH_NODE_TYPE_HOST:
        return sim_host_submit(stream, node->host, node->host_data);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
        return sim_cuEventRecord(node->event, handle);
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
        return sim_cuStreamWaitEvent(handle, node->event, 0);
    case CU_GRAPH_NODE_TYPE_EMPTY:
        return CUDA_SUCCESS;
    default:
        return sim_submit_now(stream, &node->operation, NULL);
    }
}

/* Nodes that take bytes of the card: a launch that finds it full is refused before anything runs. */
static CUresult allocate(const struct CUgraphExec_st *exec)
{
    CUresult result = CUDA_SUCCESS;

    for (size_t index = 0; index < exec->nodes.count && result == CUDA_SUCCESS; index++) {
        const struct CUgraphNode_st *node = exec->nodes.nodes[index];

        if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC && sim_graph_memory_allocate != NULL)
            result = sim_graph_memory_allocate(*(const CUdeviceptr *)node->operation.argument);
    }
    return result;
}

CUresult sim_cuGraphLaunch(CUgraphExec exec, CUstream handle)
{
    struct sim_stream *stream;
    CUresult result;

    sim_participate();
    result = sim_enter(SIM_CALL_LAUNCH);
    if (result == CUDA_SUCCESS)
        result = sim_stream_of(handle, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (exec_of(exec) == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (sim_capture_active(stream))
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (stream == stream->context->legacy)
        result = sim_capture_implicit(stream);
    if (result == CUDA_SUCCESS)
        result = sim_fault_launch();
    if (result == CUDA_SUCCESS)
        result = allocate(exec);
    for (size_t index = 0; index < exec->nodes.count && result == CUDA_SUCCESS; index++)
        result = exec->nodes.nodes[index]->type == CU_GRAPH_NODE_TYPE_KERNEL
            ? launch_kernels(stream, &exec->nodes, &index)
            : launch_node(stream, exec->nodes.nodes[index]);
    return result;
}

CUresult sim_cuGraphUpload(CUgraphExec exec, CUstream handle)
{
    struct sim_stream *stream;
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result == CUDA_SUCCESS)
        result = sim_stream_of(handle, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    return exec_of(exec) != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

struct CUgraphNode_st *sim_exec_node(CUgraphExec exec, CUgraphNode node)
{
    if (exec_of(exec) == NULL)
        return NULL;
    for (size_t index = 0; index < exec->nodes.count; index++)
        if (exec->nodes.nodes[index]->origin == node)
            return exec->nodes.nodes[index];
    return NULL;
}

CUresult sim_cuGraphNodeSetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int enabled)
{
    struct CUgraphNode_st *own = sim_exec_node(exec, node);

    if (own == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    own->disabled = enabled == 0;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphNodeGetEnabled(CUgraphExec exec, CUgraphNode node, unsigned int *enabled)
{
    const struct CUgraphNode_st *own = sim_exec_node(exec, node);

    if (own == NULL || enabled == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *enabled = !own->disabled;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExecKernelNodeSetParams_v2(CUgraphExec exec, CUgraphNode node,
                                               const CUDA_KERNEL_NODE_PARAMS *parameters)
{
    struct CUgraphNode_st *own = sim_exec_node(exec, node);
    struct sim_launch launch;
    struct sim_operation operation;
    CUresult result;

    if (own == NULL || own->type != CU_GRAPH_NODE_TYPE_KERNEL || parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&launch, own->operation.argument, sizeof(launch));
    launch.function = sim_function_of(parameters->func);
    if (launch.function == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    result = sim_kernel_pack(&launch, parameters->kernelParams, parameters->extra);
    if (result != CUDA_SUCCESS)
        return result;
    memcpy((void *)(uintptr_t)own->operation.argument, &launch, sizeof(launch));
    operation = sim_launch_operation(&launch);
    own->operation.duration_ns = operation.duration_ns;
    own->operation.effect = operation.effect;
    own->operation.extra_ns = operation.extra_ns;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExecKernelNodeSetParams(CUgraphExec exec, CUgraphNode node,
                                            const CUDA_KERNEL_NODE_PARAMS_v1 *parameters)
{
    CUDA_KERNEL_NODE_PARAMS newer = {0};

    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&newer, parameters, sizeof(*parameters));
    return sim_cuGraphExecKernelNodeSetParams_v2(exec, node, &newer);
}

CUresult sim_cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo *information)
{
    struct CUgraphExec_st newer = {0};
    CUgraphExecUpdateResult why = UPDATE_SUCCESS;
    CUresult result = exec_of(exec) != NULL && sim_graph_of(graph) != NULL ? fill(&newer, graph)
                                                                            : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    if (newer.nodes.count != exec->nodes.count)
        why = UPDATE_TOPOLOGY_CHANGED;
    for (size_t index = 0; why == UPDATE_SUCCESS && index < newer.nodes.count; index++)
        if (newer.nodes.nodes[index]->type != exec->nodes.nodes[index]->type)
            why = UPDATE_NODE_TYPE_CHANGED;
    if (information != NULL)
        *information = (CUgraphExecUpdateResultInfo){.result = why};
    if (why != UPDATE_SUCCESS) {
        empty(&newer);
        return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    }
    empty(exec);
    exec->nodes = newer.nodes;
    exec->holder = newer.holder;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode *error, CUgraphExecUpdateResult *result)
{
    CUgraphExecUpdateResultInfo information = {0};
    CUresult outcome = sim_cuGraphExecUpdate_v2(exec, graph, &information);

    if (error != NULL)
        *error = NULL;
    if (result != NULL)
        *result = information.result;
    return outcome;
}
