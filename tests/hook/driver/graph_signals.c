/* Nodes of graphs that wait and signal: memory operations and semaphores. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "simulated.h"

#define PARAMETERS_BYTES_MAX (sizeof(((CUgraphNodeParams *)NULL)->reserved1))

typedef CUresult semaphores_call(const CUexternalSemaphore *semaphores,
                                 const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *parameters, unsigned int count,
                                 CUstream stream);

CUresult sim_cuGraphAddBatchMemOpNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                                      const CUDA_BATCH_MEM_OP_NODE_PARAMS *parameters)
{
    struct sim_builder builder;
    CUresult result = parameters != NULL && made != NULL ? sim_builder_begin(&builder, graph, after, count)
                                                         : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    result = sim_cuStreamBatchMemOp_v2(sim_builder_stream(&builder), parameters->count, parameters->paramArray,
                                       parameters->flags);
    sim_builder_keep(&builder, result, parameters, sizeof(*parameters));
    return sim_builder_end(&builder, result, made);
}

/* What is kept: the parameters, then both arrays they point to. */
static void keep_semaphores(struct sim_builder *builder, CUresult result,
                            const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *parameters)
{
    size_t handles = parameters->numExtSems * sizeof(parameters->extSemArray[0]);
    size_t turns = parameters->numExtSems * sizeof(parameters->paramsArray[0]);
    char *kept = result == CUDA_SUCCESS ? malloc(sizeof(*parameters) + handles + turns) : NULL;

    if (kept == NULL)
        return;
    memcpy(kept, parameters, sizeof(*parameters));
    memcpy(kept + sizeof(*parameters), parameters->extSemArray, handles);
    memcpy(kept + sizeof(*parameters) + handles, parameters->paramsArray, turns);
    sim_builder_keep(builder, result, kept, sizeof(*parameters) + handles + turns);
    free(kept);
}

static CUresult add_semaphores(CUgraphNode *made, CUgraph graph, const CUgraphNode *after, size_t count,
                               const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *parameters, semaphores_call *call)
{
    struct sim_builder builder;
    CUresult result = parameters != NULL && made != NULL ? sim_builder_begin(&builder, graph, after, count)
                                                         : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    result = call(parameters->extSemArray, parameters->paramsArray, parameters->numExtSems,
                  sim_builder_stream(&builder));
    keep_semaphores(&builder, result, parameters);
    return sim_builder_end(&builder, result, made);
}

CUresult sim_cuGraphAddExternalSemaphoresSignalNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after,
                                                    size_t count, const CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *parameters)
{
    return add_semaphores(made, graph, after, count, parameters, sim_cuSignalExternalSemaphoresAsync);
}

CUresult sim_cuGraphAddExternalSemaphoresWaitNode(CUgraphNode *made, CUgraph graph, const CUgraphNode *after,
                                                  size_t count, const CUDA_EXT_SEM_WAIT_NODE_PARAMS *parameters)
{
    return add_semaphores(made, graph, after, count, parameters, sim_cuWaitExternalSemaphoresAsync);
}

static CUresult enter(CUgraphNode node, unsigned type, const void *parameters)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), parameters);

    if (result == CUDA_SUCCESS && (sim_node_of(node) == NULL || node->type != type))
        result = CUDA_ERROR_INVALID_VALUE;
    return result;
}

/* The arrays stay the node's own. */
CUresult sim_cuGraphBatchMemOpNodeGetParams(CUgraphNode node, CUDA_BATCH_MEM_OP_NODE_PARAMS *parameters)
{
    CUresult result = enter(node, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP, parameters);

    if (result != CUDA_SUCCESS)
        return result;
    memset(parameters, 0, sizeof(*parameters));
    if (node->operation.details_bytes == sizeof(*parameters))
        memcpy(parameters, node->operation.details, sizeof(*parameters));
    parameters->paramArray = (CUstreamBatchMemOpParams *)(uintptr_t)node->operation.argument;
    parameters->count = (unsigned)(node->operation.argument_bytes / sizeof(CUstreamBatchMemOpParams));
    return CUDA_SUCCESS;
}

static CUresult semaphores_of(CUgraphNode node, CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *parameters, unsigned type)
{
    CUresult result = enter(node, type, parameters);
    char *kept;

    if (result != CUDA_SUCCESS)
        return result;
    if (node->operation.details_bytes < sizeof(*parameters))
        return CUDA_ERROR_NOT_SUPPORTED; /* captured: only its effect is known here */
    kept = (char *)(uintptr_t)node->operation.details;
    memcpy(parameters, kept, sizeof(*parameters));
    parameters->extSemArray = (CUexternalSemaphore *)(void *)(kept + sizeof(*parameters));
    parameters->paramsArray = (void *)(parameters->extSemArray + parameters->numExtSems);
    return CUDA_SUCCESS;
}

CUresult sim_cuGraphExternalSemaphoresSignalNodeGetParams(CUgraphNode node, CUDA_EXT_SEM_SIGNAL_NODE_PARAMS *parameters)
{
    return semaphores_of(node, parameters, CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL);
}

CUresult sim_cuGraphExternalSemaphoresWaitNodeGetParams(CUgraphNode node, CUDA_EXT_SEM_WAIT_NODE_PARAMS *parameters)
{
    return semaphores_of(node, parameters, CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT);
}

/* All kinds in the form that names its kind. */
static CUresult any(CUgraphNodeParams *form, unsigned type, const void *parameters, size_t bytes)
{
    *form = (CUgraphNodeParams){.type = type};
    if (parameters == NULL || bytes > PARAMETERS_BYTES_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(form->reserved1, parameters, bytes);
    return CUDA_SUCCESS;
}

#define SETTERS(set, set_in_exec, kind, parameters_type)                                                              \
    CUresult sim_##set(CUgraphNode node, const parameters_type *parameters)                                           \
    {                                                                                                                 \
        CUgraphNodeParams form;                                                                                       \
        CUresult result = any(&form, kind, parameters, sizeof(*parameters));                                          \
        return result == CUDA_SUCCESS ? sim_cuGraphNodeSetParams(node, &form) : result;                               \
    }                                                                                                                 \
    CUresult sim_##set_in_exec(CUgraphExec exec, CUgraphNode node, const parameters_type *parameters)                 \
    {                                                                                                                 \
        CUgraphNodeParams form;                                                                                       \
        CUresult result = any(&form, kind, parameters, sizeof(*parameters));                                          \
        return result == CUDA_SUCCESS ? sim_cuGraphExecNodeSetParams(exec, node, &form) : result;                     \
    }

SETTERS(cuGraphBatchMemOpNodeSetParams, cuGraphExecBatchMemOpNodeSetParams, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP,
        CUDA_BATCH_MEM_OP_NODE_PARAMS)
SETTERS(cuGraphExternalSemaphoresSignalNodeSetParams, cuGraphExecExternalSemaphoresSignalNodeSetParams,
        CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL, CUDA_EXT_SEM_SIGNAL_NODE_PARAMS)
SETTERS(cuGraphExternalSemaphoresWaitNodeSetParams, cuGraphExecExternalSemaphoresWaitNodeSetParams,
        CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT, CUDA_EXT_SEM_WAIT_NODE_PARAMS)
