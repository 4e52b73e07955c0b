/* What a function or kernel says about itself. */
#include <string.h>

#include "functions.h"
#include "simulated.h"

#define ATTRIBUTE_THREADS_MAX 0
#define ATTRIBUTE_REGISTERS 4
#define ATTRIBUTE_PTX_VERSION 5
#define ATTRIBUTE_BINARY_VERSION 6
#define ATTRIBUTE_DYNAMIC_SHARED_BYTES 8
#define ATTRIBUTES 16
#define BLOCKS_PER_PROCESSOR 2
#define BLOCK_SUGGESTED 256

static CUresult enter(const void *handle, struct sim_function **function)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    *function = sim_function_of(handle);
    return *function != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult sim_cuKernelGetFunction(CUfunction *function, CUkernel kernel)
{
    struct sim_function *found;
    struct sim_context *context;
    CUresult result = sim_answer(sim_enter_context(SIM_CALL_OTHER, &context), function);

    if (result == CUDA_SUCCESS)
        result = enter(kernel, &found);
    if (result == CUDA_SUCCESS)
        *function = (CUfunction)(void *)found;
    return result;
}

CUresult sim_cuKernelGetLibrary(CUlibrary *library, CUkernel kernel)
{
    struct sim_function *found;
    CUresult result = sim_answer(enter(kernel, &found), library);

    if (result == CUDA_SUCCESS)
        *library = (CUlibrary)(void *)found->module;
    return result;
}

CUresult sim_cuFuncGetModule(CUmodule *module, CUfunction function)
{
    struct sim_function *found;
    CUresult result = sim_answer(enter(function, &found), module);

    if (result == CUDA_SUCCESS)
        *module = (CUmodule)(void *)found->module;
    return result;
}

CUresult sim_cuFuncGetName(const char **name, CUfunction function)
{
    struct sim_function *found;
    CUresult result = sim_answer(enter(function, &found), name);

    if (result == CUDA_SUCCESS)
        *name = found->name;
    return result;
}

CUresult sim_cuKernelGetName(const char **name, CUkernel kernel)
{
    return sim_cuFuncGetName(name, (CUfunction)(void *)kernel);
}

CUresult sim_cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function)
{
    struct sim_function *found;
    CUresult result = enter(function, &found);

    if (result != CUDA_SUCCESS)
        return result;
    if (value == NULL || attribute >= ATTRIBUTES)
        return CUDA_ERROR_INVALID_VALUE;
    *value = 0;
    if (attribute == ATTRIBUTE_THREADS_MAX)
        *value = 1024;
    else if (attribute == ATTRIBUTE_REGISTERS)
        *value = 32;
    else if (attribute == ATTRIBUTE_PTX_VERSION || attribute == ATTRIBUTE_BINARY_VERSION)
        *value = 90;
    else if (attribute == ATTRIBUTE_DYNAMIC_SHARED_BYTES)
        *value = found->dynamic_shared_bytes;
    return CUDA_SUCCESS;
}

CUresult sim_cuKernelGetAttribute(int *value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device)
{
    (void)device;
    return sim_cuFuncGetAttribute(value, attribute, (CUfunction)(void *)kernel);
}

CUresult sim_cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value)
{
    struct sim_function *found;
    CUresult result = enter(function, &found);

    if (result != CUDA_SUCCESS)
        return result;
    if (attribute >= ATTRIBUTES)
        return CUDA_ERROR_INVALID_VALUE;
    if (attribute == ATTRIBUTE_DYNAMIC_SHARED_BYTES)
        found->dynamic_shared_bytes = value;
    return CUDA_SUCCESS;
}

CUresult sim_cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device)
{
    (void)device;
    return sim_cuFuncSetAttribute((CUfunction)(void *)kernel, attribute, value);
}

CUresult sim_cuFuncSetCacheConfig(CUfunction function, CUfunc_cache cache)
{
    struct sim_function *found;

    (void)cache;
    return enter(function, &found);
}

CUresult sim_cuFuncSetSharedSize(CUfunction function, unsigned int bytes)
{
    struct sim_function *found;
    CUresult result = enter(function, &found);

    if (result == CUDA_SUCCESS)
        found->dynamic_shared_bytes = (int)bytes;
    return result;
}

CUresult sim_cuFuncIsLoaded(CUfunctionLoadingState *state, CUfunction function)
{
    struct sim_function *found;
    CUresult result = sim_answer(enter(function, &found), state);

    if (result == CUDA_SUCCESS)
        *state = 1; /* loaded */
    return result;
}

CUresult sim_cuFuncLoad(CUfunction function)
{
    struct sim_function *found;

    return enter(function, &found);
}

/* Offset and size of a parameter of a kernel whose signature is known. */
CUresult sim_cuFuncGetParamInfo(CUfunction function, size_t index, size_t *offset, size_t *bytes)
{
    struct sim_function *found;
    CUresult result = enter(function, &found);
    size_t at = 0;

    if (result != CUDA_SUCCESS)
        return result;
    if (offset == NULL || found->kernel == NULL || index >= SIM_PARAMETERS_MAX
        || found->kernel->parameters[index] == 0)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t place = 0; place <= index; place++) {
        size_t size = found->kernel->parameters[place];

        at = (at + size - 1) / size * size;
        *offset = at;
        at += size;
    }
    if (bytes != NULL)
        *bytes = found->kernel->parameters[index];
    return CUDA_SUCCESS;
}

CUresult sim_cuKernelGetParamInfo(CUkernel kernel, size_t index, size_t *offset, size_t *bytes)
{
    return sim_cuFuncGetParamInfo((CUfunction)(void *)kernel, index, offset, bytes);
}

CUresult sim_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, CUfunction function, int block,
                                                                  size_t shared_bytes, unsigned int flags)
{
    struct sim_function *found;
    CUresult result = sim_answer(enter(function, &found), blocks);

    (void)block;
    (void)shared_bytes;
    (void)flags;
    if (result == CUDA_SUCCESS)
        *blocks = BLOCKS_PER_PROCESSOR;
    return result;
}

CUresult sim_cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, CUfunction function, int block,
                                                         size_t shared_bytes)
{
    return sim_cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, block, shared_bytes, 0);
}

CUresult sim_cuOccupancyMaxPotentialBlockSizeWithFlags(int *grid, int *block, CUfunction function,
                                                       CUoccupancyB2DSize shared, size_t shared_bytes, int limit,
                                                       unsigned int flags)
{
    struct sim_function *found;
    CUresult result = sim_answer(sim_answer(enter(function, &found), grid), block);

    (void)shared;
    (void)shared_bytes;
    (void)flags;
    if (result != CUDA_SUCCESS)
        return result;
    *grid = BLOCKS_PER_PROCESSOR;
    *block = limit > 0 && limit < BLOCK_SUGGESTED ? limit : BLOCK_SUGGESTED;
    return CUDA_SUCCESS;
}

CUresult sim_cuOccupancyMaxPotentialBlockSize(int *grid, int *block, CUfunction function, CUoccupancyB2DSize shared,
                                              size_t shared_bytes, int limit)
{
    return sim_cuOccupancyMaxPotentialBlockSizeWithFlags(grid, block, function, shared, shared_bytes, limit, 0);
}
