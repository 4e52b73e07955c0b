/* Attributes of streams and of kernel nodes: kept and told; nothing here depends on them. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "simulated.h"

#define ATTRIBUTES 32 /* more than the interface has */

/* What is set of one stream or node; the rest is zeros. The value of both kinds is the same union. */
struct sim_attributes {
    CUstreamAttrValue values[ATTRIBUTES];
};

static CUresult get(const struct sim_attributes *attributes, unsigned which, void *value)
{
    static const CUstreamAttrValue unset;

    if (which == 0 || which >= ATTRIBUTES || value == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(value, attributes != NULL ? &attributes->values[which] : &unset, sizeof(unset));
    return CUDA_SUCCESS;
}

static CUresult set(struct sim_attributes **attributes, unsigned which, const void *value)
{
    if (which == 0 || which >= ATTRIBUTES || value == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (*attributes == NULL)
        *attributes = calloc(1, sizeof(**attributes));
    if (*attributes == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memcpy(&(*attributes)->values[which], value, sizeof((*attributes)->values[which]));
    return CUDA_SUCCESS;
}

static CUresult copy(struct sim_attributes **to, const struct sim_attributes *from)
{
    struct sim_attributes *fresh = sim_copied(from, sizeof(*from));

    if (from != NULL && fresh == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    free(*to);
    *to = fresh;
    return CUDA_SUCCESS;
}

bool sim_attributes_copied(struct sim_attributes **to, const struct sim_attributes *from)
{
    return copy(to, from) == CUDA_SUCCESS;
}

CUresult sim_cuStreamGetAttribute(CUstream handle, CUstreamAttrID which, CUstreamAttrValue *value)
{
    struct sim_stream *stream;
    CUresult result = sim_enter_stream(SIM_CALL_OTHER, handle, &stream);

    if (result == CUDA_SUCCESS)
        result = get(stream->attributes, which, value);
    if (result == CUDA_SUCCESS && which == CU_LAUNCH_ATTRIBUTE_PRIORITY)
        memcpy(value, &stream->priority, sizeof(stream->priority));
    return result;
}

CUresult sim_cuStreamSetAttribute(CUstream handle, CUstreamAttrID which, const CUstreamAttrValue *value)
{
    struct sim_stream *stream;
    CUresult result = sim_enter_stream(SIM_CALL_OTHER, handle, &stream);

    if (result == CUDA_SUCCESS)
        result = set(&stream->attributes, which, value);
    if (result == CUDA_SUCCESS && which == CU_LAUNCH_ATTRIBUTE_PRIORITY)
        memcpy(&stream->priority, value, sizeof(stream->priority));
    return result;
}

CUresult sim_cuStreamCopyAttributes(CUstream to, CUstream from)
{
    struct sim_stream *source;
    struct sim_stream *target;
    CUresult result = sim_enter_stream(SIM_CALL_OTHER, from, &source);

    if (result == CUDA_SUCCESS)
        result = sim_stream_of(to, &target);
    return result == CUDA_SUCCESS ? copy(&target->attributes, source->attributes) : result;
}

static CUresult enter_node(CUgraphNode node)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result == CUDA_SUCCESS && (sim_node_of(node) == NULL || node->type != CU_GRAPH_NODE_TYPE_KERNEL))
        result = CUDA_ERROR_INVALID_VALUE;
    return result;
}

CUresult sim_cuGraphKernelNodeGetAttribute(CUgraphNode node, CUkernelNodeAttrID which, CUkernelNodeAttrValue *value)
{
    CUresult result = enter_node(node);

    return result == CUDA_SUCCESS ? get(node->attributes, which, value) : result;
}

CUresult sim_cuGraphKernelNodeSetAttribute(CUgraphNode node, CUkernelNodeAttrID which,
                                           const CUkernelNodeAttrValue *value)
{
    CUresult result = enter_node(node);

    return result == CUDA_SUCCESS ? set(&node->attributes, which, value) : result;
}

CUresult sim_cuGraphKernelNodeCopyAttributes(CUgraphNode to, CUgraphNode from)
{
    CUresult result = enter_node(from);

    if (result == CUDA_SUCCESS)
        result = enter_node(to);
    return result == CUDA_SUCCESS ? copy(&to->attributes, from->attributes) : result;
}
