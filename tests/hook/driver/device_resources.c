/* Parts of a card for green contexts. The parts are counted; kernels in them still have the whole card (green_contexts.c). */
#include <stdlib.h>
#include <string.h>

#include "green_contexts.h"
#include "simulated.h"

#define DESCRIPTION_MAGIC UINT64_C(0x6372756f73657231)
#define PROCESSORS 100 /* as the card's attributes say */
#define PROCESSORS_STEP 8
#define SPLIT_FLAGS 3U

enum { RESOURCE_PROCESSORS = 1 };

struct CUdevResourceDesc_st {
    uint64_t magic;
    CUdevResource resource;
};

static CUdevResource processors(unsigned count)
{
    CUdevResource resource = {.type = RESOURCE_PROCESSORS, .sm = {count, PROCESSORS_STEP, PROCESSORS_STEP}};

    return resource;
}

const CUdevResource *sim_resource_described(CUdevResourceDesc description)
{
    return description != NULL && description->magic == DESCRIPTION_MAGIC ? &description->resource : NULL;
}

static CUresult tell(CUresult result, CUdevResource *resource, CUdevResourceType type, CUdevResource what)
{
    result = sim_answer(result, resource);
    if (result == CUDA_SUCCESS && type != RESOURCE_PROCESSORS)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *resource = what;
    return result;
}

CUresult sim_cuDeviceGetDevResource(CUdevice device, CUdevResource *resource, CUdevResourceType type)
{
    return tell(sim_enter_card(device), resource, type, processors(PROCESSORS));
}

CUresult sim_cuCtxGetDevResource(CUcontext handle, CUdevResource *resource, CUdevResourceType type)
{
    const struct sim_context *context = handle != NULL ? sim_context_of(handle) : sim_context_current();
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result == CUDA_SUCCESS && context == NULL)
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS && context->green != NULL)
        return tell(result, resource, type, context->green->resource);
    return tell(result, resource, type, processors(PROCESSORS));
}

CUresult sim_cuGreenCtxGetDevResource(CUgreenCtx green, CUdevResource *resource, CUdevResourceType type)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result == CUDA_SUCCESS && sim_green_of(green) == NULL)
        result = CUDA_ERROR_INVALID_HANDLE;
    return result == CUDA_SUCCESS ? tell(result, resource, type, green->resource) : result;
}

/* Groups of equal size, each at least `least`, a multiple of the step; without `groups` only how many there would be. */
CUresult sim_cuDevSmResourceSplitByCount(CUdevResource *groups, unsigned int *count, const CUdevResource *whole,
                                         CUdevResource *rest, unsigned int flags, unsigned int least)
{
    CUresult result = sim_answer(sim_answer(sim_enter(SIM_CALL_OTHER), count), whole);
    unsigned each;
    unsigned most;

    if (result == CUDA_SUCCESS && (whole->type != RESOURCE_PROCESSORS || flags > SPLIT_FLAGS || least > whole->sm.smCount))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    each = least > 0 ? (least + PROCESSORS_STEP - 1) / PROCESSORS_STEP * PROCESSORS_STEP : PROCESSORS_STEP;
    if (each > whole->sm.smCount)
        return CUDA_ERROR_INVALID_VALUE;
    most = whole->sm.smCount / each;
    if (groups == NULL) {
        *count = most;
        return CUDA_SUCCESS;
    }
    *count = *count < most ? *count : most;
    for (unsigned index = 0; index < *count; index++)
        groups[index] = processors(each);
    if (rest != NULL)
        *rest = processors(whole->sm.smCount - *count * each);
    return CUDA_SUCCESS;
}

CUresult sim_cuDevResourceGenerateDesc(CUdevResourceDesc *made, CUdevResource *resources, unsigned int count)
{
    CUresult result = sim_answer(sim_answer(sim_enter(SIM_CALL_OTHER), made), resources);
    CUdevResourceDesc description;
    unsigned sum = 0;

    if (result == CUDA_SUCCESS && count == 0)
        result = CUDA_ERROR_INVALID_VALUE;
    for (unsigned index = 0; result == CUDA_SUCCESS && index < count; index++) {
        result = resources[index].type == RESOURCE_PROCESSORS ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
        sum += resources[index].sm.smCount;
    }
    if (result != CUDA_SUCCESS)
        return result;
    description = calloc(1, sizeof(*description));
    if (description == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    description->magic = DESCRIPTION_MAGIC;
    description->resource = processors(sum);
    *made = description;
    return CUDA_SUCCESS;
}
