/* User objects: reference counts whose end calls the application, also held by graphs. */
#include <stdlib.h>

#include "graphs.h"
#include "simulated.h"

#define OBJECT_MAGIC UINT64_C(0x7463656a626f7573)
#define RETAIN_MOVE 1U

struct CUuserObject_st {
    uint64_t magic;
    CUhostFn destroy;
    void *data;
    uint64_t references;
};

static CUuserObject live(CUuserObject object)
{
    return object != NULL && object->magic == OBJECT_MAGIC ? object : NULL;
}

CUresult sim_cuUserObjectCreate(CUuserObject *made, void *data, CUhostFn destroy, unsigned int references,
                                unsigned int flags)
{
    CUuserObject object;
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (made == NULL || destroy == NULL || references == 0 || flags != 1) /* 1: no sync, the only kind there is */
        return CUDA_ERROR_INVALID_VALUE;
    object = calloc(1, sizeof(*object));
    if (object == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    object->magic = OBJECT_MAGIC;
    object->destroy = destroy;
    object->data = data;
    object->references = references;
    *made = object;
    return CUDA_SUCCESS;
}

CUresult sim_cuUserObjectRetain(CUuserObject object, unsigned int count)
{
    if (live(object) == NULL || count == 0)
        return CUDA_ERROR_INVALID_VALUE;
    __atomic_add_fetch(&object->references, count, __ATOMIC_ACQ_REL);
    return CUDA_SUCCESS;
}

CUresult sim_cuUserObjectRelease(CUuserObject object, unsigned int count)
{
    if (live(object) == NULL || count == 0 || object->references < count)
        return CUDA_ERROR_INVALID_VALUE;
    if (__atomic_sub_fetch(&object->references, count, __ATOMIC_ACQ_REL) == 0) {
        object->magic = 0;
        object->destroy(object->data);
        free(object);
    }
    return CUDA_SUCCESS;
}

/* What the graph holds goes with the graph: sim_graph_objects_end(). */
CUresult sim_cuGraphRetainUserObject(CUgraph graph, CUuserObject object, unsigned int count, unsigned int flags)
{
    CUresult result = CUDA_SUCCESS;

    if (sim_graph_of(graph) == NULL || live(object) == NULL || count == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (graph->object_count == SIM_GRAPH_OBJECTS_MAX)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if ((flags & RETAIN_MOVE) == 0)
        result = sim_cuUserObjectRetain(object, count);
    if (result == CUDA_SUCCESS) {
        graph->objects[graph->object_count] = object;
        graph->object_references[graph->object_count++] = count;
    }
    return result;
}

CUresult sim_cuGraphReleaseUserObject(CUgraph graph, CUuserObject object, unsigned int count)
{
    if (sim_graph_of(graph) == NULL || live(object) == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned index = 0; index < graph->object_count; index++)
        if (graph->objects[index] == object && graph->object_references[index] >= count) {
            graph->object_references[index] -= count;
            return sim_cuUserObjectRelease(object, count);
        }
    return CUDA_ERROR_INVALID_VALUE;
}

void sim_graph_objects_end(struct CUgraph_st *graph)
{
    for (unsigned index = 0; index < graph->object_count; index++)
        if (graph->object_references[index] > 0)
            sim_cuUserObjectRelease(graph->objects[index], graph->object_references[index]);
    graph->object_count = 0;
}
