/* A graph as text for graphviz, and child graphs of executable ones. */
#include <stdio.h>
#include <stdlib.h>

#include "graphs.h"
#include "simulated.h"

static size_t place_of(const struct sim_nodes *nodes, const struct CUgraphNode_st *node)
{
    size_t place = 0;

    while (place < nodes->count && nodes->nodes[place] != node)
        place++;
    return place;
}

CUresult sim_cuGraphDebugDotPrint(CUgraph graph, const char *path, unsigned int flags)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), path);
    FILE *file;

    (void)flags; /* further details */
    if (result == CUDA_SUCCESS && sim_graph_of(graph) == NULL)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    file = fopen(path, "w");
    if (file == NULL)
        return CUDA_ERROR_OPERATING_SYSTEM;
    fprintf(file, "digraph dot {\n");
    for (size_t index = 0; index < graph->nodes.count; index++) {
        const struct CUgraphNode_st *node = graph->nodes.nodes[index];

        fprintf(file, "\"node_%zu\" [label=\"type %u\"];\n", index, node->type);
        for (size_t before = 0; before < node->after.count; before++)
            fprintf(file, "\"node_%zu\" -> \"node_%zu\";\n", place_of(&graph->nodes, node->after.nodes[before]), index);
    }
    fprintf(file, "}\n");
    return fclose(file) == 0 ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
}

static bool same_shape(const struct CUgraph_st *one, const struct CUgraph_st *other)
{
    if (one->nodes.count != other->nodes.count)
        return false;
    for (size_t index = 0; index < one->nodes.count; index++)
        if (one->nodes.nodes[index]->type != other->nodes.nodes[index]->type
            || one->nodes.nodes[index]->after.count != other->nodes.nodes[index]->after.count)
            return false;
    return true;
}

/* What the executable graph made of a node of `old` does what the same node of `child` does. */
static bool take_over(CUgraphExec exec, struct CUgraphNode_st *old, const struct CUgraphNode_st *now)
{
    struct CUgraphNode_st *own = sim_exec_node(exec, old);
    struct sim_operation *operation = own != NULL ? &own->operation : NULL;

    if (own == NULL)
        return false;
    free((void *)(uintptr_t)operation->argument);
    free((void *)(uintptr_t)operation->details);
    *operation = now->operation;
    operation->argument = sim_copied(now->operation.argument, now->operation.argument_bytes);
    operation->details = sim_copied(now->operation.details, now->operation.details_bytes);
    own->host = now->host;
    own->host_data = now->host_data;
    own->event = now->event;
    return true;
}

CUresult sim_cuGraphExecChildGraphNodeSetParams(CUgraphExec exec, CUgraphNode node, CUgraph child)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_exec_of(exec) == NULL || sim_node_of(node) == NULL || node->child == NULL || sim_graph_of(child) == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (!same_shape(node->child, child))
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t index = 0; index < child->nodes.count && result == CUDA_SUCCESS; index++) {
        struct CUgraphNode_st *old = node->child->nodes.nodes[index];
        struct CUgraphNode_st *now = child->nodes.nodes[index];

        if (old->type == CU_GRAPH_NODE_TYPE_GRAPH)
            result = sim_cuGraphExecChildGraphNodeSetParams(exec, old, now->child);
        else if (!take_over(exec, old, now))
            result = CUDA_ERROR_INVALID_VALUE;
    }
    return result;
}
