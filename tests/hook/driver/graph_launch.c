/* A launch of an executable graph: every node comes after those it depends on, and after nothing else, so that branches
 * overlap where the card lets them. */
#include "graphs.h"
#include "simulated.h"

/* Under no lock: both points in one, with room for it. */
static struct sim_point both(int card, struct sim_point one, struct sim_point other)
{
    struct sim_point point;

    sim_lock_with_room(card, SIM_JOIN);
    point = sim_join(card, one, other);
    sim_unlock();
    return point;
}

/* What a node waits for: `start`, if nothing of the graph comes before it. */
static struct sim_point before(int card, const struct CUgraphNode_st *node, struct sim_point start)
{
    struct sim_point point = node->after.count > 0 ? node->after.nodes[0]->point : start;

    for (size_t index = 1; index < node->after.count; index++)
        point = both(card, point, node->after.nodes[index]->point);
    return point;
}

static bool plain_kernel(const struct CUgraphNode_st *node)
{
    return node->type == CU_GRAPH_NODE_TYPE_KERNEL && node->operation.effect == NULL && node->operation.extra_ns == NULL;
}

/* In a graph that is one chain, kernels without other effects are one operation, for speed: what they are told apart by,
 * work of others that becomes ready meanwhile, is rare. */
static bool continues(const struct CUgraphExec_st *exec, size_t index)
{
    return !exec->branches && index + 1 < exec->nodes.count && plain_kernel(exec->nodes.nodes[index])
        && plain_kernel(exec->nodes.nodes[index + 1]);
}

static CUresult submit_chain(struct sim_stream *branch, const struct sim_nodes *nodes, size_t first, size_t last)
{
    struct sim_operation sum = nodes->nodes[first]->operation;

    if (first == last && nodes->nodes[first]->disabled)
        return CUDA_SUCCESS;
    sum.duration_ns = 0;
    for (size_t index = first; index <= last; index++)
        sum.duration_ns += nodes->nodes[index]->disabled ? 0 : nodes->nodes[index]->operation.duration_ns;
    return sim_submit_now(branch, &sum, NULL);
}

static CUresult submit_node(struct sim_stream *branch, const struct CUgraphNode_st *node)
{
    CUstream handle = (CUstream)(void *)branch;

    if (node->disabled)
        return CUDA_SUCCESS;
    switch (node->type) {
    case CU_GRAPH_NODE_TYPE_HOST:
        return sim_host_submit(branch, node->host, node->host_data);
    case CU_GRAPH_NODE_TYPE_EVENT_RECORD:
        return sim_cuEventRecord(node->event, handle);
    case CU_GRAPH_NODE_TYPE_WAIT_EVENT:
        return sim_cuStreamWaitEvent(handle, node->event, 0);
    case CU_GRAPH_NODE_TYPE_BATCH_MEM_OP:
        return sim_memory_operations_launch(branch, node);
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL:
    case CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT:
        return sim_semaphores_launch(branch, node);
    case CU_GRAPH_NODE_TYPE_EMPTY:
    case CU_GRAPH_NODE_TYPE_GRAPH:
        return CUDA_SUCCESS;
    default:
        return sim_submit_now(branch, &node->operation, NULL);
    }
}

/* Each node is submitted to a stream of its own that has come to the end of what the node waits for. */
static CUresult launch(struct CUgraphExec_st *exec, struct sim_context *context, struct sim_point start)
{
    CUresult result = CUDA_SUCCESS;

    exec->end = start;
    for (size_t index = 0; index < exec->nodes.count && result == CUDA_SUCCESS; index++) {
        size_t first = index;
        struct CUgraphNode_st *node = exec->nodes.nodes[first];
        struct sim_stream branch = {.magic = SIM_STREAM_MAGIC, .context = context, .flags = CU_STREAM_NON_BLOCKING,
                                    .tail = before(context->card, node, start)};

        while (continues(exec, index))
            index++;
        result = node->type == CU_GRAPH_NODE_TYPE_KERNEL ? submit_chain(&branch, &exec->nodes, first, index)
                                                         : submit_node(&branch, node);
        node = exec->nodes.nodes[index];
        node->point = both(context->card, branch.tail, branch.extra);
        if (node->dependents == 0)
            exec->end = both(context->card, exec->end, node->point);
    }
    return result;
}

/* Nodes that take bytes of the card: a launch that finds it full is refused before anything runs. */
static CUresult allocate(const struct CUgraphExec_st *exec)
{
    CUresult result = CUDA_SUCCESS;

    for (size_t index = 0; index < exec->nodes.count && result == CUDA_SUCCESS; index++) {
        const struct CUgraphNode_st *node = exec->nodes.nodes[index];

        if (node->type == CU_GRAPH_NODE_TYPE_MEM_ALLOC)
            result = sim_graph_memory_allocate(*(const CUdeviceptr *)node->operation.argument);
    }
    return result;
}

static CUresult enter(CUgraphExec exec, CUstream handle, enum sim_call call, struct sim_stream **stream)
{
    CUresult result = sim_enter(call);

    if (result == CUDA_SUCCESS)
        result = sim_stream_of(handle, stream);
    return result == CUDA_SUCCESS && sim_exec_of(exec) == NULL ? CUDA_ERROR_INVALID_VALUE : result;
}

CUresult sim_cuGraphLaunch(CUgraphExec exec, CUstream handle)
{
    struct sim_stream *stream;
    struct sim_point start;
    CUresult result;

    sim_participate();
    result = enter(exec, handle, SIM_CALL_LAUNCH, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (sim_capture_active(stream))
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (stream == stream->context->legacy)
        result = sim_capture_implicit(stream);
    if (result == CUDA_SUCCESS)
        result = sim_fault_launch();
    if (result == CUDA_SUCCESS)
        result = allocate(exec);
    if (result != CUDA_SUCCESS)
        return result;
    sim_lock_with_room(stream->context->card, SIM_JOIN);
    start = sim_join(stream->context->card, sim_stream_settle(stream), exec->end);
    sim_unlock();
    result = launch(exec, stream->context, start);
    stream->tail = both(stream->context->card, stream->tail, exec->end);
    return result;
}

CUresult sim_cuGraphUpload(CUgraphExec exec, CUstream handle)
{
    struct sim_stream *stream;

    return enter(exec, handle, SIM_CALL_OTHER, &stream);
}
