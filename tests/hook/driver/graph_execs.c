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

struct CUgraphExec_st *sim_exec_of(CUgraphExec exec)
{
    return exec != NULL && exec->magic == SIM_EXEC_MAGIC ? exec : NULL;
}

static bool follow(struct CUgraphNode_st *node, const struct sim_nodes *before)
{
    for (size_t index = 0; index < before->count; index++)
        before->nodes[index]->dependents++;
    return sim_nodes_add(&node->after, before);
}

/* The copies of `nodes`; those of `outer` when there are none. */
static bool images(const struct sim_nodes *nodes, const struct sim_nodes *outer, struct sim_nodes *found)
{
    for (size_t index = 0; index < nodes->count; index++)
        sim_nodes_append(found, nodes->nodes[index]->image);
    return found->count > 0 || sim_nodes_add(found, outer);
}

static bool unfold(struct CUgraph_st *graph, struct CUgraph_st *copies, const struct sim_nodes *outer);

/* A child graph becomes its nodes, and one without work that comes after them and stands for it. */
static bool unfold_node(struct CUgraphNode_st *node, struct CUgraph_st *copies, const struct sim_nodes *outer)
{
    struct sim_nodes before = {0};
    size_t first = copies->nodes.count;
    bool fine = images(&node->after, outer, &before);

    if (fine && node->type == CU_GRAPH_NODE_TYPE_GRAPH && node->child != NULL)
        fine = unfold(node->child, copies, &before);
    if (fine && copies->nodes.count > first)
        before.count = 0;
    for (size_t index = first; index < copies->nodes.count; index++)
        if (copies->nodes.nodes[index]->dependents == 0)
            sim_nodes_append(&before, copies->nodes.nodes[index]);
    node->image = fine ? sim_node_copy(copies, node) : NULL;
    fine = node->image != NULL && follow(node->image, &before);
    sim_nodes_clear(&before);
    return fine;
}

static bool unfold(struct CUgraph_st *graph, struct CUgraph_st *copies, const struct sim_nodes *outer)
{
    struct sim_nodes ordered = {0};
    bool fine = sim_graph_order(graph, &ordered);

    for (size_t index = 0; fine && index < ordered.count; index++)
        fine = unfold_node(ordered.nodes[index], copies, outer);
    sim_nodes_clear(&ordered);
    return fine;
}

static CUresult fill(struct CUgraphExec_st *exec, struct CUgraph_st *graph)
{
    struct CUgraph_st *copies = sim_graph_make();
    const struct sim_nodes nothing = {0};

    if (copies == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (!unfold(graph, copies, &nothing)) {
        sim_graph_free(copies);
        return CUDA_ERROR_INVALID_VALUE;
    }
    for (unsigned index = 0; index < graph->object_count; index++)
        if (graph->object_references[index] > 0)
            sim_cuGraphRetainUserObject(copies, graph->objects[index], 1, 0);
    exec->nodes = copies->nodes;
    exec->branches = false;
    for (size_t index = 0; index < exec->nodes.count; index++)
        exec->branches |= exec->nodes.nodes[index]->after.count != (index > 0)
            || exec->nodes.nodes[index]->dependents != (index + 1 < exec->nodes.count);
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
    if (sim_exec_of(exec) == NULL || flags == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *flags = exec->flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExecDestroy(CUgraphExec exec)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_exec_of(exec) == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    empty(exec);
    exec->magic = 0;
    free(exec);
    return CUDA_SUCCESS;
}

struct CUgraphNode_st *sim_exec_node(CUgraphExec exec, CUgraphNode node)
{
    if (sim_exec_of(exec) == NULL)
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
    CUresult result = sim_exec_of(exec) != NULL && sim_graph_of(graph) != NULL ? fill(&newer, graph)
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
    exec->branches = newer.branches;
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
