/* Linking and further questions about code. What is linked is an image like any other: any function is found in it. */
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "simulated.h"

#define LINK_MAGIC UINT64_C(0x6b6e696c6b6e696c)
#define INPUT_KINDS 6
#define SHARED_BYTES_MAX 232448 /* what the card's attributes say: of one block, and of one processor */
#define PROCESSOR_SHARED_BYTES 233472
#define CLUSTER_BLOCKS_MAX 8
#define PROCESSORS 100

struct CUlinkState_st {
    uint64_t magic;
    size_t inputs;
    char image[8];
};

static CUresult enter(CUlinkState state)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    return result == CUDA_SUCCESS && (state == NULL || state->magic != LINK_MAGIC) ? CUDA_ERROR_INVALID_HANDLE : result;
}

CUresult sim_cuLinkCreate_v2(unsigned int count, CUjit_option *options, void **values, CUlinkState *made)
{
    struct sim_context *context;
    CUresult result = sim_answer(sim_enter_context(SIM_CALL_OTHER, &context), made);
    CUlinkState state;

    if (result == CUDA_SUCCESS && count > 0 && (options == NULL || values == NULL))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    state = calloc(1, sizeof(*state));
    if (state == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    state->magic = LINK_MAGIC;
    strcpy(state->image, "linked");
    *made = state;
    return CUDA_SUCCESS;
}

CUresult sim_cuLinkCreate(unsigned int count, CUjit_option *options, void **values, CUlinkState *made)
{
    return sim_cuLinkCreate_v2(count, options, values, made);
}

CUresult sim_cuLinkAddData_v2(CUlinkState state, CUjitInputType kind, void *data, size_t bytes, const char *name,
                              unsigned int count, CUjit_option *options, void **values)
{
    CUresult result = sim_answer(enter(state), data);

    (void)name;
    if (result == CUDA_SUCCESS
        && (bytes == 0 || kind > INPUT_KINDS || (count > 0 && (options == NULL || values == NULL))))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        state->inputs++;
    return result;
}

CUresult sim_cuLinkAddData(CUlinkState state, CUjitInputType kind, void *data, size_t bytes, const char *name,
                           unsigned int count, CUjit_option *options, void **values)
{
    return sim_cuLinkAddData_v2(state, kind, data, bytes, name, count, options, values);
}

CUresult sim_cuLinkAddFile_v2(CUlinkState state, CUjitInputType kind, const char *path, unsigned int count,
                              CUjit_option *options, void **values)
{
    CUresult result = enter(state);

    if (result == CUDA_SUCCESS)
        result = sim_file_readable(path);
    return result == CUDA_SUCCESS
        ? sim_cuLinkAddData_v2(state, kind, (void *)(uintptr_t)path, 1, path, count, options, values)
        : result;
}

CUresult sim_cuLinkAddFile(CUlinkState state, CUjitInputType kind, const char *path, unsigned int count,
                           CUjit_option *options, void **values)
{
    return sim_cuLinkAddFile_v2(state, kind, path, count, options, values);
}

CUresult sim_cuLinkComplete(CUlinkState state, void **image, size_t *bytes)
{
    CUresult result = sim_answer(enter(state), image);

    if (result == CUDA_SUCCESS && state->inputs == 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    *image = state->image;
    if (bytes != NULL)
        *bytes = sizeof(state->image);
    return CUDA_SUCCESS;
}

CUresult sim_cuLinkDestroy(CUlinkState state)
{
    CUresult result = enter(state);

    if (result == CUDA_SUCCESS) {
        state->magic = 0;
        free(state);
    }
    return result;
}

/* As many as fit of those that were asked for by name: others are not known to be in an image. */
CUresult sim_cuModuleEnumerateFunctions(CUfunction *functions, unsigned int count, CUmodule handle)
{
    const struct sim_module *module = sim_module_of(handle);
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), functions);
    unsigned filled = 0;

    if (result == CUDA_SUCCESS && module == NULL)
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result != CUDA_SUCCESS)
        return result;
    for (struct sim_function *function = module->functions; function != NULL && filled < count; function = function->next)
        functions[filled++] = (CUfunction)(void *)function;
    return CUDA_SUCCESS;
}

CUresult sim_cuLibraryEnumerateKernels(CUkernel *kernels, unsigned int count, CUlibrary library)
{
    return sim_cuModuleEnumerateFunctions((CUfunction *)(void *)kernels, count, (CUmodule)(void *)library);
}

CUresult sim_cuLibraryGetUnifiedFunction(void **function, CUlibrary library, const char *name)
{
    CUresult result = sim_answer(sim_answer(sim_enter(SIM_CALL_OTHER), function), name);

    if (result == CUDA_SUCCESS && sim_module_of(library) == NULL)
        result = CUDA_ERROR_INVALID_HANDLE;
    return result == CUDA_SUCCESS ? CUDA_ERROR_NOT_FOUND : result; /* the card has no unified function pointers */
}

static CUresult known(const void *function)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    return result == CUDA_SUCCESS && sim_function_of(function) == NULL ? CUDA_ERROR_INVALID_HANDLE : result;
}

CUresult sim_cuKernelSetCacheConfig(CUkernel kernel, CUfunc_cache cache, CUdevice device)
{
    CUresult result = sim_enter_card(device);

    (void)cache;
    return result == CUDA_SUCCESS ? known(kernel) : result;
}

CUresult sim_cuFuncSetSharedMemConfig(CUfunction function, CUsharedconfig configuration)
{
    (void)configuration;
    return known(function);
}

CUresult sim_cuOccupancyAvailableDynamicSMemPerBlock(size_t *bytes, CUfunction function, int blocks, int block_threads)
{
    CUresult result = sim_answer(known(function), bytes);

    if (result == CUDA_SUCCESS && (blocks <= 0 || block_threads <= 0))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    *bytes = PROCESSOR_SHARED_BYTES / (size_t)blocks;
    if (*bytes > SHARED_BYTES_MAX)
        *bytes = SHARED_BYTES_MAX;
    return CUDA_SUCCESS;
}

CUresult sim_cuOccupancyMaxPotentialClusterSize(int *blocks, CUfunction function, const CUlaunchConfig *config)
{
    CUresult result = sim_answer(sim_answer(known(function), blocks), config);

    if (result == CUDA_SUCCESS)
        *blocks = CLUSTER_BLOCKS_MAX;
    return result;
}

CUresult sim_cuOccupancyMaxActiveClusters(int *clusters, CUfunction function, const CUlaunchConfig *config)
{
    CUresult result = sim_answer(sim_answer(known(function), clusters), config);

    if (result == CUDA_SUCCESS)
        *clusters = PROCESSORS;
    return result;
}
