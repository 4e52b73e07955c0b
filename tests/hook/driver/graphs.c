/* Building graphs: explicit nodes, edges, and questions about them. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "simulated.h"

static CUresult enter(CUgraph graph)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    return sim_graph_of(graph) != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult enter_node(CUgraphNode node)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    return sim_node_of(node) != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphCreate(CUgraph *graph, unsigned int flags)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (graph == NULL || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    *graph = sim_graph_make();
    return *graph != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuGraphDestroy(CUgraph graph)
{
    CUresult result = enter(graph);

    if (result == CUDA_SUCCESS)
        sim_graph_free(graph);
    return result;
}

CUresult sim_cuGraphAddDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
    CUresult result = enter(graph);

    if (result != CUDA_SUCCESS)
        return result;
    for (size_t index = 0; index < count; index++) {
        if (sim_node_of(from[index]) == NULL || sim_node_of(to[index]) == NULL)
            return CUDA_ERROR_INVALID_VALUE;
        sim_nodes_append(&to[index]->after, from[index]);
    }
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphAddDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                       const CUgraphEdgeData *edges, size_t count)
{
    (void)edges;
    return sim_cuGraphAddDependencies(graph, from, to, count);
}

CUresult sim_cuGraphRemoveDependencies(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to, size_t count)
{
    CUresult result = enter(graph);

    for (size_t index = 0; result == CUDA_SUCCESS && index < count; index++) {
        struct sim_nodes *after = &to[index]->after;
        size_t kept = 0;

        for (size_t place = 0; place < after->count; place++)
            if (after->nodes[place] != from[index])
                after->nodes[kept++] = after->nodes[place];
        after->count = kept;
    }
    return result;
}

CUresult sim_cuGraphRemoveDependencies_v2(CUgraph graph, const CUgraphNode *from, const CUgraphNode *to,
                                          const CUgraphEdgeData *edges, size_t count)
{
    (void)edges;
    return sim_cuGraphRemoveDependencies(graph, from, to, count);
}

/* The driver's way of handing out lists: NULL asks for the count, else at most `count` are filled in. */
static CUresult hand_out(const struct sim_nodes *nodes, CUgraphNode *filled, size_t *count)
{
    if (count == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t index = 0; filled != NULL && index < *count; index++)
        filled[index] = index < nodes->count ? nodes->nodes[index] : NULL;
    if (filled == NULL || *count > nodes->count)
        *count = nodes->count;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
    CUresult result = enter(graph);

    return result != CUDA_SUCCESS ? result : hand_out(&graph->nodes, nodes, count);
}

CUresult sim_cuGraphGetRootNodes(CUgraph graph, CUgraphNode *nodes, size_t *count)
{
    struct sim_nodes roots = {0};
    CUresult result = enter(graph);

    if (result != CUDA_SUCCESS)
        return result;
    for (size_t index = 0; index < graph->nodes.count; index++)
        if (graph->nodes.nodes[index]->after.count == 0)
            sim_nodes_append(&roots, graph->nodes.nodes[index]);
    result = hand_out(&roots, nodes, count);
    sim_nodes_clear(&roots);
    return result;
}

CUresult sim_cuGraphGetEdges(CUgraph graph, CUgraphNode *from, CUgraphNode *to, size_t *count)
{
    size_t edges = 0;
    CUresult result = enter(graph);

    if (result != CUDA_SUCCESS || count == NULL)
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
    for (size_t index = 0; index < graph->nodes.count; index++) {
        struct CUgraphNode_st *node = graph->nodes.nodes[index];

        for (size_t place = 0; place < node->after.count; place++, edges++)
            if (from != NULL && to != NULL && edges < *count) {
                from[edges] = node->after.nodes[place];
                to[edges] = node;
            }
    }
    if (from == NULL || *count > edges)
        *count = edges;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphGetEdges_v2(CUgraph graph, CUgraphNode *from, CUgraphNode *to, CUgraphEdgeData *edges,
                                size_t *count)
{
    if (edges != NULL && count != NULL)
        memset(edges, 0, *count * sizeof(*edges));
    return sim_cuGraphGetEdges(graph, from, to, count);
}

CUresult sim_cuGraphNodeGetDependencies(CUgraphNode node, CUgraphNode *nodes, size_t *count)
{
    CUresult result = enter_node(node);

    return result != CUDA_SUCCESS ? result : hand_out(&node->after, nodes, count);
}

CUresult sim_cuGraphNodeGetDependencies_v2(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *edges,
                                           size_t *count)
{
    if (edges != NULL && count != NULL)
        memset(edges, 0, *count * sizeof(*edges));
    return sim_cuGraphNodeGetDependencies(node, nodes, count);
}

CUresult sim_cuGraphNodeGetDependentNodes(CUgraphNode node, CUgraphNode *nodes, size_t *count)
{
    struct sim_nodes dependent = {0};
    CUresult result = enter_node(node);

    if (result != CUDA_SUCCESS)
        return result;
    for (size_t index = 0; index < node->graph->nodes.count; index++) {
        struct CUgraphNode_st *other = node->graph->nodes.nodes[index];

        for (size_t place = 0; place < other->after.count; place++)
            if (other->after.nodes[place] == node)
                sim_nodes_append(&dependent, other);
    }
    result = hand_out(&dependent, nodes, count);
    sim_nodes_clear(&dependent);
    return result;
}

CUresult sim_cuGraphNodeGetDependentNodes_v2(CUgraphNode node, CUgraphNode *nodes, CUgraphEdgeData *edges,
                                             size_t *count)
{
    if (edges != NULL && count != NULL)
        memset(edges, 0, *count * sizeof(*edges));
    return sim_cuGraphNodeGetDependentNodes(node, nodes, count);
}

CUresult sim_cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType *type)
{
    CUresult result = sim_answer(enter_node(node), type);

    if (result == CUDA_SUCCESS)
        *type = node->type;
    return result;
}

CUresult sim_cuGraphDestroyNode(CUgraphNode node)
{
    struct sim_nodes *nodes;
    size_t kept = 0;
    CUresult result = enter_node(node);

    if (result != CUDA_SUCCESS)
        return result;
    nodes = &node->graph->nodes;
    for (size_t index = 0; index < nodes->count; index++) {
        CUgraphNode other = nodes->nodes[index];

        sim_cuGraphRemoveDependencies(node->graph, &node, &other, 1);
        if (other != node)
            nodes->nodes[kept++] = other;
    }
    nodes->count = kept;
    sim_node_free(node);
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphClone(CUgraph *made, CUgraph graph)
{
    struct CUgraph_st *clone;
    CUresult result = enter(graph);

    if (result != CUDA_SUCCESS)
        return result;
    clone = made != NULL ? sim_graph_make() : NULL;
    if (clone == NULL)
        return made == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
    for (size_t index = 0; index < graph->nodes.count; index++) {
        struct CUgraphNode_st *copy = sim_node_copy(clone, graph->nodes.nodes[index]);

        if (copy != NULL && copy->child != NULL)
            sim_cuGraphClone(&copy->child, copy->child);
    }
    for (size_t index = 0; index < clone->nodes.count; index++) {
        const struct sim_nodes *after = &graph->nodes.nodes[index]->after;

        for (size_t place = 0; place < after->count; place++)
            for (size_t other = 0; other < clone->nodes.count; other++)
                if (clone->nodes.nodes[other]->origin == after->nodes[place])
                    sim_nodes_append(&clone->nodes.nodes[index]->after, clone->nodes.nodes[other]);
    }
    *made = clone;
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphNodeFindInClone(CUgraphNode *found, CUgraphNode original, CUgraph clone)
{
    CUresult result = enter(clone);

    for (size_t index = 0; result == CUDA_SUCCESS && index < clone->nodes.count; index++)
        if (clone->nodes.nodes[index]->origin == original) {
            *found = clone->nodes.nodes[index];
            return CUDA_SUCCESS;
        }
    return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
}
