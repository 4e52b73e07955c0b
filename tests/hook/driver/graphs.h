/* Graphs: operations kept for later, in an order; how a stream captures into one. */
#ifndef EGPU_SIM_GRAPHS_H
#define EGPU_SIM_GRAPHS_H

#include "streams.h"

#define SIM_NODE_MAGIC UINT64_C(0x65646f6e65646f6e)
#define SIM_GRAPH_MAGIC UINT64_C(0x6870617267706872)
#define SIM_EXEC_MAGIC UINT64_C(0x6365786563657865)
#define SIM_CAPTURE_STREAMS_MAX 256
#define SIM_GRAPH_OBJECTS_MAX 64

struct CUgraphNode_st {
    uint64_t magic;
    struct CUgraph_st *graph;
    struct CUgraphNode_st *origin; /* in a clone: the node it was made from */
    unsigned type;
    struct sim_nodes after;
    struct sim_operation operation; /* owns `argument` and `details` */
    CUhostFn host;
    void *host_data;
    struct CUgraph_st *child;
    CUevent event;
    CUdeviceptr memory; /* of an allocation or a free */
    struct sim_attributes *attributes; /* launch_attributes.c; NULL = none set */
    bool disabled;      /* in an executable graph */
    bool placed;        /* while an order is made */
    struct CUgraphNode_st *image; /* while its graph becomes executable: the copy */
    size_t dependents;      /* in an executable graph */
    struct sim_point point; /* there: its end in the latest launch */
};

struct CUgraph_st {
    uint64_t magic;
    struct sim_nodes nodes; /* in the order they were added */
    CUuserObject objects[SIM_GRAPH_OBJECTS_MAX];
    unsigned object_references[SIM_GRAPH_OBJECTS_MAX];
    unsigned object_count;
};

struct CUgraphExec_st {
    uint64_t magic;
    struct sim_nodes nodes; /* copies, in an order that respects all edges; child graphs are unfolded */
    bool branches;          /* is not one chain */
    struct sim_point end;   /* of its latest launch: the next comes after it */
    struct CUgraph_st *holder; /* without nodes: holds the user objects */
    uint64_t flags;
};

struct sim_capture {
    uint64_t identity;
    struct CUgraph_st *graph;
    unsigned mode;
    bool invalidated;
    bool given_graph; /* cuStreamBeginCaptureToGraph: the graph is the caller's */
    pthread_t thread;
    struct sim_stream *origin;
    struct sim_stream *streams[SIM_CAPTURE_STREAMS_MAX];
    size_t stream_count;
    struct sim_capture *next;
};

/* graph_builder.c: makes one node by the call that a capturing stream would make it of. */
struct sim_builder {
    struct sim_stream stream;
    struct sim_capture capture;
};
CUresult sim_builder_begin(struct sim_builder *builder, CUgraph graph, const CUgraphNode *after, size_t count);
CUstream sim_builder_stream(struct sim_builder *builder);
/* Keeps the node's parameters for those who ask for them later. */
void sim_builder_keep(struct sim_builder *builder, CUresult result, const void *parameters, size_t bytes);
CUresult sim_builder_end(struct sim_builder *builder, CUresult result, CUgraphNode *made);

struct CUgraph_st *sim_graph_make(void);
struct CUgraph_st *sim_graph_of(CUgraph handle); /* NULL = not a live graph */
struct CUgraphNode_st *sim_node_of(CUgraphNode handle);
/* A node after `after`; copies what the operation points to. NULL = no memory. */
struct CUgraphNode_st *sim_node_add(struct CUgraph_st *graph, const struct sim_nodes *after, unsigned type,
                                    const struct sim_operation *operation);
struct CUgraphNode_st *sim_node_copy(struct CUgraph_st *graph, const struct CUgraphNode_st *node);
void *sim_copied(const void *bytes, size_t count);
bool sim_attributes_copied(struct sim_attributes **to, const struct sim_attributes *from);
struct CUgraphExec_st *sim_exec_of(CUgraphExec exec); /* NULL = not a live one */
struct CUgraphNode_st *sim_exec_node(CUgraphExec exec, CUgraphNode node); /* the copy of a graph's node; NULL = none */
void sim_node_free(struct CUgraphNode_st *node);
void sim_graph_free(struct CUgraph_st *graph);
void sim_graph_objects_end(struct CUgraph_st *graph); /* user_objects.c */
/* All nodes so that each comes after those it depends on; false = there is a cycle. */
bool sim_graph_order(struct CUgraph_st *graph, struct sim_nodes *ordered);
void sim_nodes_append(struct sim_nodes *nodes, struct CUgraphNode_st *node);

/* host_functions.c: runs on the driver's thread when all before it in the stream is done. */
CUresult sim_host_submit(struct sim_stream *stream, CUhostFn function, void *data);
/* The stream goes on when `happen` says that it has; asked with its copy of `data` from when its turn has come. */
CUresult sim_host_submit_condition(struct sim_stream *stream, bool (*happen)(void *data), const void *data, size_t bytes);

/* memory_operations.c, semaphores.c: the nodes of both kinds, at a launch of their graph. */
CUresult sim_memory_operations_launch(struct sim_stream *stream, const struct CUgraphNode_st *node);
CUresult sim_semaphores_launch(struct sim_stream *stream, const struct CUgraphNode_st *node);

#endif
