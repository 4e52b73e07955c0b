/* Nodes of graphs, sets of them, and an order that respects their edges. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"

void sim_nodes_clear(struct sim_nodes *nodes)
{
    free(nodes->nodes);
    memset(nodes, 0, sizeof(*nodes));
}

static bool append(struct sim_nodes *nodes, struct CUgraphNode_st *node)
{
    if (nodes->count == nodes->room) {
        size_t room = nodes->room > 0 ? nodes->room * 2 : 4;
        struct CUgraphNode_st **grown = realloc(nodes->nodes, room * sizeof(*grown));

        if (grown == NULL)
            return false;
        nodes->nodes = grown;
        nodes->room = room;
    }
    nodes->nodes[nodes->count++] = node;
    return true;
}

/* Without memory the edge is lost, and the graph refused when an order is made of it. */
void sim_nodes_append(struct sim_nodes *nodes, struct CUgraphNode_st *node)
{
    append(nodes, node);
}

bool sim_nodes_add(struct sim_nodes *nodes, const struct sim_nodes *more)
{
    for (size_t index = 0; index < more->count; index++) {
        size_t known = 0;

        while (known < nodes->count && nodes->nodes[known] != more->nodes[index])
            known++;
        if (known == nodes->count && !append(nodes, more->nodes[index]))
            return false;
    }
    return true;
}

void sim_nodes_set(struct sim_nodes *nodes, struct CUgraphNode_st *node)
{
    nodes->count = 0;
    append(nodes, node);
}

struct CUgraph_st *sim_graph_make(void)
{
    struct CUgraph_st *graph = calloc(1, sizeof(*graph));

    if (graph != NULL)
        graph->magic = SIM_GRAPH_MAGIC;
    return graph;
}

struct CUgraph_st *sim_graph_of(CUgraph handle)
{
    return handle != NULL && handle->magic == SIM_GRAPH_MAGIC ? handle : NULL;
}

struct CUgraphNode_st *sim_node_of(CUgraphNode handle)
{
    return handle != NULL && handle->magic == SIM_NODE_MAGIC ? handle : NULL;
}

void *sim_copied(const void *bytes, size_t count)
{
    void *copy = bytes != NULL && count > 0 ? malloc(count) : NULL;

    if (copy != NULL)
        memcpy(copy, bytes, count);
    return copy;
}

struct CUgraphNode_st *sim_node_add(struct CUgraph_st *graph, const struct sim_nodes *after, unsigned type,
                                    const struct sim_operation *operation)
{
    struct CUgraphNode_st *node = calloc(1, sizeof(*node));

    if (node == NULL)
        return NULL;
    node->magic = SIM_NODE_MAGIC;
    node->graph = graph;
    node->type = type;
    if (operation != NULL) {
        node->operation = *operation;
        node->operation.argument = sim_copied(operation->argument, operation->argument_bytes);
        node->operation.details = sim_copied(operation->details, operation->details_bytes);
    }
    if ((after != NULL && !sim_nodes_add(&node->after, after)) || !append(&graph->nodes, node)) {
        sim_node_free(node);
        return NULL;
    }
    return node;
}

struct CUgraphNode_st *sim_node_copy(struct CUgraph_st *graph, const struct CUgraphNode_st *node)
{
    struct CUgraphNode_st *copy = sim_node_add(graph, NULL, node->type, &node->operation);

    if (copy == NULL)
        return NULL;
    copy->host = node->host;
    copy->host_data = node->host_data;
    copy->child = node->child;
    copy->event = node->event;
    copy->memory = node->memory;
    copy->disabled = node->disabled;
    sim_attributes_copied(&copy->attributes, node->attributes);
    copy->origin = (struct CUgraphNode_st *)(uintptr_t)node;
    return copy;
}

void sim_node_free(struct CUgraphNode_st *node)
{
    node->magic = 0;
    free((void *)(uintptr_t)node->operation.argument);
    free((void *)(uintptr_t)node->operation.details);
    free(node->attributes);
    sim_nodes_clear(&node->after);
    free(node);
}

void sim_graph_free(struct CUgraph_st *graph)
{
    for (size_t index = 0; index < graph->nodes.count; index++) {
        struct CUgraphNode_st *node = graph->nodes.nodes[index];

        if (node->type == CU_GRAPH_NODE_TYPE_GRAPH && node->child != NULL)
            sim_graph_free(node->child);
        sim_node_free(node);
    }
    sim_graph_objects_end(graph);
    sim_nodes_clear(&graph->nodes);
    graph->magic = 0;
    free(graph);
}

static bool ready(const struct CUgraphNode_st *node)
{
    for (size_t index = 0; index < node->after.count; index++)
        if (!node->after.nodes[index]->placed)
            return false;
    return true;
}

bool sim_graph_order(struct CUgraph_st *graph, struct sim_nodes *ordered)
{
    bool moved = true;

    for (size_t index = 0; index < graph->nodes.count; index++)
        graph->nodes.nodes[index]->placed = false;
    while (moved && ordered->count < graph->nodes.count) {
        moved = false;
        for (size_t index = 0; index < graph->nodes.count; index++) {
            struct CUgraphNode_st *node = graph->nodes.nodes[index];

            if (node->placed || !ready(node))
                continue;
            if (!append(ordered, node))
                return false;
            node->placed = true;
            moved = true;
        }
    }
    return ordered->count == graph->nodes.count;
}
