/* What a context can be asked and told. */
#include <stddef.h>

#include "internal.h"
#include "simulated.h"

static CUresult enter(struct sim_context **context)
{
    return sim_enter_context(SIM_CALL_OTHER, context);
}

/* The same for calls that name a context, and mean the current one by NULL. */
static CUresult enter_named(CUcontext handle, struct sim_context **context)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    *context = handle != NULL ? sim_context_of(handle) : sim_context_current();
    return result == CUDA_SUCCESS && *context == NULL ? CUDA_ERROR_INVALID_CONTEXT : result;
}

CUresult sim_cuCtxGetDevice(CUdevice *device)
{
    struct sim_context *context;
    CUresult result = sim_answer(enter(&context), device);

    if (result == CUDA_SUCCESS)
        *device = context->card;
    return result;
}

CUresult sim_cuCtxGetDevice_v2(CUdevice *device, CUcontext handle)
{
    struct sim_context *context;
    CUresult result = sim_answer(enter_named(handle, &context), device);

    if (result == CUDA_SUCCESS)
        *device = context->card;
    return result;
}

CUresult sim_cuCtxGetFlags(unsigned int *flags)
{
    struct sim_context *context;
    CUresult result = sim_answer(enter(&context), flags);

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
    struct sim_context *context;
    CUresult result = sim_answer(enter_named(handle, &context), identity);

    if (result == CUDA_SUCCESS)
        *identity = context->identity;
    return result;
}

CUresult sim_cuCtxGetApiVersion(CUcontext handle, unsigned int *version)
{
    struct sim_context *context;
    CUresult result = sim_answer(enter_named(handle, &context), version);

    if (result == CUDA_SUCCESS)
        *version = (unsigned)context->version;
    return result;
}

/* The usage count of the oldest interface: who made a context holds one use of it. */
CUresult sim_cuCtxAttach(CUcontext *handle, unsigned int flags)
{
    struct sim_context *context;
    CUresult result = sim_answer(enter(&context), handle);

    if (result == CUDA_SUCCESS && flags != 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    __atomic_add_fetch(&context->attached, 1, __ATOMIC_ACQ_REL);
    *handle = (CUcontext)(void *)context;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxDetach(CUcontext handle)
{
    struct sim_context *context;
    CUresult result = enter_named(handle, &context);

    if (result != CUDA_SUCCESS || __atomic_fetch_sub(&context->attached, 1, __ATOMIC_ACQ_REL) > 0)
        return result;
    return sim_cuCtxDestroy_v2(handle);
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

static CUresult find_limit(CUlimit limit, uint64_t **place)
{
    struct sim_context *context;
    CUresult result = enter(&context);

    if (result != CUDA_SUCCESS)
        return result;
    *place = limit_of(context, limit);
    return *place != NULL ? CUDA_SUCCESS : CUDA_ERROR_UNSUPPORTED_LIMIT;
}

CUresult sim_cuCtxSetLimit(CUlimit limit, size_t value)
{
    uint64_t *place;
    CUresult result = find_limit(limit, &place);

    if (result == CUDA_SUCCESS)
        *place = value;
    return result;
}

CUresult sim_cuCtxGetLimit(size_t *value, CUlimit limit)
{
    uint64_t *place;
    CUresult result = sim_answer(find_limit(limit, &place), value);

    if (result == CUDA_SUCCESS)
        *value = *place;
    return result;
}

/* What this card has no use for: known contexts take it, and say 0 when asked. */
static CUresult taken(void)
{
    struct sim_context *context;

    return enter(&context);
}

static CUresult nothing(unsigned *value)
{
    CUresult result = sim_answer(taken(), value);

    if (result == CUDA_SUCCESS)
        *value = 0;
    return result;
}

CUresult sim_cuCtxGetCacheConfig(CUfunc_cache *cache)
{
    return nothing(cache);
}

CUresult sim_cuCtxSetCacheConfig(CUfunc_cache cache)
{
    (void)cache;
    return taken();
}

CUresult sim_cuCtxGetSharedMemConfig(CUsharedconfig *configuration)
{
    return nothing(configuration);
}

CUresult sim_cuCtxSetSharedMemConfig(CUsharedconfig configuration)
{
    (void)configuration;
    return taken();
}

CUresult sim_cuCtxResetPersistingL2Cache(void)
{
    return taken();
}

CUresult sim_cuProfilerStart(void)
{
    return taken();
}

CUresult sim_cuProfilerStop(void)
{
    return taken();
}
