/* What a context can be asked and told. */
#include <stddef.h>

#include "internal.h"
#include "simulated.h"

static CUresult enter(struct sim_context **context)
{
    return sim_enter_context(SIM_CALL_OTHER, context);
}

CUresult sim_cuCtxGetDevice(CUdevice *device)
{
    struct sim_context *context;
    CUresult result = enter(&context);

    if (result == CUDA_SUCCESS)
        *device = context->card;
    return result;
}

CUresult sim_cuCtxGetDevice_v2(CUdevice *device, CUcontext handle)
{
    struct sim_context *context = handle != NULL ? sim_context_of(handle) : sim_context_current();
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (context == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = context->card;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetFlags(unsigned int *flags)
{
    struct sim_context *context;
    CUresult result = enter(&context);

    if (result == CUDA_SUCCESS)
        *flags = context->flags;
    return result;
}

CUresult sim_cuCtxSetFlags(unsigned int flags)
{
    struct sim_context *context;
    CUresult result = enter(&context);

    if (result == CUDA_SUCCESS)
        context->flags = flags;
    return result;
}

CUresult sim_cuCtxGetId(CUcontext handle, unsigned long long *identity)
{
    struct sim_context *context = handle != NULL ? sim_context_of(handle) : sim_context_current();
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (context == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    *identity = context->identity;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetApiVersion(CUcontext handle, unsigned int *version)
{
    struct sim_context *context = handle != NULL ? sim_context_of(handle) : sim_context_current();
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (context == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    *version = (unsigned)context->version;
    return CUDA_SUCCESS;
}

static uint64_t *limit_of(struct sim_context *context, CUlimit limit)
{
    switch (limit) {
    case CU_LIMIT_STACK_SIZE:
        return &context->stack_bytes;
    case CU_LIMIT_PRINTF_FIFO_SIZE:
        return &context->fifo_bytes;
    case CU_LIMIT_MALLOC_HEAP_SIZE:
        return &context->heap_bytes;
    default:
        return NULL;
    }
}

CUresult sim_cuCtxSetLimit(CUlimit limit, size_t value)
{
    struct sim_context *context;
    CUresult result = enter(&context);

    if (result != CUDA_SUCCESS)
        return result;
    if (limit_of(context, limit) == NULL)
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    *limit_of(context, limit) = value;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetLimit(size_t *value, CUlimit limit)
{
    struct sim_context *context;
    CUresult result = enter(&context);

    if (result != CUDA_SUCCESS)
        return result;
    if (limit_of(context, limit) == NULL)
        return CUDA_ERROR_UNSUPPORTED_LIMIT;
    *value = *limit_of(context, limit);
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetCacheConfig(CUfunc_cache *cache)
{
    struct sim_context *context;
    CUresult result = enter(&context);

    if (result == CUDA_SUCCESS)
        *cache = 0;
    return result;
}

CUresult sim_cuCtxSetCacheConfig(CUfunc_cache cache)
{
    struct sim_context *context;

    (void)cache;
    return enter(&context);
}

CUresult sim_cuCtxGetSharedMemConfig(CUsharedconfig *configuration)
{
    struct sim_context *context;
    CUresult result = enter(&context);

    if (result == CUDA_SUCCESS)
        *configuration = 0;
    return result;
}

CUresult sim_cuCtxSetSharedMemConfig(CUsharedconfig configuration)
{
    struct sim_context *context;

    (void)configuration;
    return enter(&context);
}

CUresult sim_cuCtxResetPersistingL2Cache(void)
{
    struct sim_context *context;

    return enter(&context);
}

CUresult sim_cuProfilerStart(void)
{
    struct sim_context *context;

    return enter(&context);
}

CUresult sim_cuProfilerStop(void)
{
    struct sim_context *context;

    return enter(&context);
}
