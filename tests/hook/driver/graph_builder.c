/* A node is made by a stream that captures into its graph for a moment, so that a node and a captured call are the same. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"

CUresult sim_builder_begin(struct sim_builder *builder, CUgraph graph, const CUgraphNode *after, size_t count)
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

CUresult sim_builder_end(struct sim_builder *builder, CUresult result, CUgraphNode *made)
{
    if (result == CUDA_SUCCESS && made != NULL)
        *made = builder->stream.after.nodes[0];
    sim_nodes_clear(&builder->stream.after);
    return result;
}

void sim_builder_keep(struct sim_builder *builder, CUresult result, const void *parameters, size_t bytes)
{
    struct sim_operation *operation;

    if (result != CUDA_SUCCESS)
        return;
    operation = &builder->stream.after.nodes[0]->operation;
    free((void *)(uintptr_t)operation->details);
    operation->details = sim_copied(parameters, bytes);
    operation->details_bytes = operation->details != NULL ? bytes : 0;
}

CUstream sim_builder_stream(struct sim_builder *builder)
{
    return (CUstream)(void *)&builder->stream;
}
