/* Rarer questions about a card, its contexts and its arrays. */
#include <string.h>

#include "copies.h"

#define PROCESSORS 100
#define TEXTURE_ELEMENTS_MAX (UINT64_C(1) << 28)

enum { AFFINITY_PROCESSORS = 0 };

static int attribute(CUdevice device, CUdevice_attribute which)
{
    int value = 0;

    sim_cuDeviceGetAttribute(&value, which, device);
    return value;
}

/* The form of CUDA 2; numbers are those of the attributes. */
CUresult sim_cuDeviceGetProperties(CUdevprop *properties, CUdevice device)
{
    CUresult result = sim_answer(sim_enter_card(device), properties);

    if (result != CUDA_SUCCESS)
        return result;
    properties->maxThreadsPerBlock = attribute(device, 1);
    for (unsigned axis = 0; axis < 3; axis++) {
        properties->maxThreadsDim[axis] = attribute(device, 2 + axis);
        properties->maxGridSize[axis] = attribute(device, 5 + axis);
    }
    properties->sharedMemPerBlock = attribute(device, 8);
    properties->totalConstantMemory = attribute(device, 9);
    properties->SIMDWidth = attribute(device, 10);
    properties->memPitch = attribute(device, 11);
    properties->regsPerBlock = attribute(device, 12);
    properties->clockRate = attribute(device, 13);
    properties->textureAlign = attribute(device, 14);
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetTexture1DLinearMaxWidth(size_t *width, CUarray_format format, unsigned int channels,
                                                CUdevice device)
{
    CUresult result = sim_answer(sim_enter_card(device), width);

    if (result == CUDA_SUCCESS && (format == 0 || (channels != 1 && channels != 2 && channels != 4)))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *width = TEXTURE_ELEMENTS_MAX / channels;
    return result;
}

/* Over the bus no operation is atomic: a capability is a mask, and 0 is none. */
static CUresult no_capabilities(CUresult result, unsigned int *masks, const CUatomicOperation *operations,
                                unsigned int count)
{
    result = sim_answer(sim_answer(result, masks), operations);
    if (result == CUDA_SUCCESS && count == 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        memset(masks, 0, count * sizeof(*masks));
    return result;
}

CUresult sim_cuDeviceGetHostAtomicCapabilities(unsigned int *masks, const CUatomicOperation *operations,
                                               unsigned int count, CUdevice device)
{
    return no_capabilities(sim_enter_card(device), masks, operations, count);
}

CUresult sim_cuDeviceGetP2PAtomicCapabilities(unsigned int *masks, const CUatomicOperation *operations,
                                              unsigned int count, CUdevice device, CUdevice peer)
{
    CUresult result = sim_enter_card(device);

    if (result == CUDA_SUCCESS)
        result = sim_enter_card(peer);
    if (result == CUDA_SUCCESS && device == peer)
        result = CUDA_ERROR_INVALID_DEVICE;
    return no_capabilities(result, masks, operations, count);
}

CUresult sim_cuCtxGetExecAffinity(CUexecAffinityParam *affinity, CUexecAffinityType type)
{
    struct sim_context *context;
    CUresult result = sim_answer(sim_enter_context(SIM_CALL_OTHER, &context), affinity);

    if (result == CUDA_SUCCESS && type != AFFINITY_PROCESSORS)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *affinity = (CUexecAffinityParam){.type = type, .param = {.smCount = PROCESSORS}};
    return result;
}

/* No array here is sparse or has planes, and others are asked in vain. */
static CUresult refuse_array(CUarray array, const void *answer)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), answer);

    if (result != CUDA_SUCCESS)
        return result;
    return array_known(array) ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
}

CUresult sim_cuArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *properties, CUarray array)
{
    return refuse_array(array, properties);
}

CUresult sim_cuMipmappedArrayGetSparseProperties(CUDA_ARRAY_SPARSE_PROPERTIES *properties, CUmipmappedArray array)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), properties);

    if (result != CUDA_SUCCESS)
        return result;
    return array != NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
}

CUresult sim_cuArrayGetPlane(CUarray *plane, CUarray array, unsigned int index)
{
    (void)index;
    return refuse_array(array, plane);
}
