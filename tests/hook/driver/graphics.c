/* Graphics: no display library is there to register a resource, so no handle of one is valid. */
#include "sim.h"
#include "simulated.h"

static CUresult refuse(void)
{
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);

    return result == CUDA_SUCCESS ? CUDA_ERROR_INVALID_HANDLE : result;
}

CUresult sim_cuGraphicsUnregisterResource(CUgraphicsResource resource)
{
    (void)resource;
    return refuse();
}

CUresult sim_cuGraphicsSubResourceGetMappedArray(CUarray *array, CUgraphicsResource resource, unsigned int index,
                                                 unsigned int level)
{
    (void)resource;
    (void)index;
    (void)level;
    return sim_answer(CUDA_SUCCESS, array) == CUDA_SUCCESS ? refuse() : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphicsResourceGetMappedMipmappedArray(CUmipmappedArray *array, CUgraphicsResource resource)
{
    (void)resource;
    return sim_answer(CUDA_SUCCESS, array) == CUDA_SUCCESS ? refuse() : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphicsResourceGetMappedPointer_v2(CUdeviceptr *pointer, size_t *bytes, CUgraphicsResource resource)
{
    (void)pointer;
    (void)bytes;
    (void)resource;
    return refuse();
}

CUresult sim_cuGraphicsResourceSetMapFlags_v2(CUgraphicsResource resource, unsigned int flags)
{
    (void)resource;
    (void)flags;
    return refuse();
}

CUresult sim_cuGraphicsResourceSetMapFlags(CUgraphicsResource resource, unsigned int flags)
{
    return sim_cuGraphicsResourceSetMapFlags_v2(resource, flags);
}

CUresult sim_cuGraphicsMapResources(unsigned int count, CUgraphicsResource *resources, CUstream stream)
{
    (void)stream;
    return count > 0 && resources != NULL ? refuse() : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGraphicsUnmapResources(unsigned int count, CUgraphicsResource *resources, CUstream stream)
{
    (void)stream;
    return count > 0 && resources != NULL ? refuse() : CUDA_ERROR_INVALID_VALUE;
}
