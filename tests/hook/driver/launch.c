/* Kernel launches in all their forms. */
#include <string.h>

#include "functions.h"
#include "streams.h"
#include "simulated.h"

#define THREADS_PER_BLOCK_MAX 1024
#define SHARED_BYTES_MAX 232448
#define COOPERATIVE_BLOCKS_MAX (100 * 32) /* processors times blocks on each */

CUresult sim_launch_check(const struct sim_launch *launch)
{
    uint64_t threads = (uint64_t)launch->block[0] * launch->block[1] * launch->block[2];
    uint64_t blocks = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];

    if (threads == 0 || blocks == 0 || threads > THREADS_PER_BLOCK_MAX || launch->shared_bytes > SHARED_BYTES_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    if (launch->cooperative && blocks > COOPERATIVE_BLOCKS_MAX)
        return CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE;
    return CUDA_SUCCESS;
}

struct sim_operation sim_launch_operation(const struct sim_launch *launch)
{
    const struct sim_kernel *kernel = launch->function->kernel;
    struct sim_operation operation = {
        .kind = SIM_KERNEL,
        .duration_ns = sim_kernel_duration_ns(launch),
        .effect = kernel != NULL ? kernel->effect : NULL,
        .extra_ns = kernel != NULL ? kernel->extra_ns : NULL,
        .argument = launch,
        .argument_bytes = sizeof(*launch),
        .node_type = CU_GRAPH_NODE_TYPE_KERNEL,
    };

    return operation;
}

CUresult sim_launch_submit(CUstream stream, const struct sim_launch *launch)
{
    struct sim_operation operation;
    CUresult result = sim_launch_check(launch);

    if (result != CUDA_SUCCESS)
        return result;
    result = sim_fault_launch();
    if (result != CUDA_SUCCESS)
        return result;
    operation = sim_launch_operation(launch);
    return sim_submit(stream, &operation);
}

static CUresult begin(struct sim_launch *launch, CUfunction function)
{
    struct sim_context *context;
    CUresult result;

    sim_participate();
    result = sim_enter_context(SIM_CALL_LAUNCH, &context);
    if (result != CUDA_SUCCESS)
        return result;
    memset(launch, 0, sizeof(*launch));
    launch->context = context;
    launch->function = sim_function_of(function);
    return launch->function != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

static void shape(struct sim_launch *launch, const unsigned grid[3], const unsigned block[3], unsigned shared_bytes)
{
    memcpy(launch->grid, grid, sizeof(launch->grid));
    memcpy(launch->block, block, sizeof(launch->block));
    launch->shared_bytes = shared_bytes;
}

static CUresult pack_and_submit(struct sim_launch *launch, CUstream stream, void **parameters, void **extra)
{
    CUresult result = sim_kernel_pack(launch, parameters, extra);

    return result != CUDA_SUCCESS ? result : sim_launch_submit(stream, launch);
}

CUresult sim_cuLaunchKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,
                            unsigned int block_x, unsigned int block_y, unsigned int block_z,
                            unsigned int shared_bytes, CUstream stream, void **parameters, void **extra)
{
    struct sim_launch launch;
    CUresult result = begin(&launch, function);

    if (result != CUDA_SUCCESS)
        return result;
    shape(&launch, (const unsigned[3]){grid_x, grid_y, grid_z}, (const unsigned[3]){block_x, block_y, block_z},
          shared_bytes);
    return pack_and_submit(&launch, stream, parameters, extra);
}

CUresult sim_cuLaunchCooperativeKernel(CUfunction function, unsigned int grid_x, unsigned int grid_y,
                                       unsigned int grid_z, unsigned int block_x, unsigned int block_y,
                                       unsigned int block_z, unsigned int shared_bytes, CUstream stream,
                                       void **parameters)
{
    struct sim_launch launch;
    CUresult result = begin(&launch, function);

    if (result != CUDA_SUCCESS)
        return result;
    shape(&launch, (const unsigned[3]){grid_x, grid_y, grid_z}, (const unsigned[3]){block_x, block_y, block_z},
          shared_bytes);
    launch.cooperative = 1;
    return pack_and_submit(&launch, stream, parameters, NULL);
}

CUresult sim_cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launches, unsigned int count, unsigned int flags)
{
    CUresult result = CUDA_SUCCESS;

    (void)flags;
    if (launches == NULL || count == 0)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned index = 0; index < count && result == CUDA_SUCCESS; index++) {
        const CUDA_LAUNCH_PARAMS *one = &launches[index];

        result = sim_cuLaunchCooperativeKernel(one->function, one->gridDimX, one->gridDimY, one->gridDimZ,
                                               one->blockDimX, one->blockDimY, one->blockDimZ, one->sharedMemBytes,
                                               one->hStream, one->kernelParams);
    }
    return result;
}

CUresult sim_cuLaunchKernelEx(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra)
{
    struct sim_launch launch;
    CUresult result = begin(&launch, function);

    if (result != CUDA_SUCCESS)
        return result;
    if (config == NULL || (config->numAttrs > 0 && config->attrs == NULL))
        return CUDA_ERROR_INVALID_VALUE;
    shape(&launch, (const unsigned[3]){config->gridDimX, config->gridDimY, config->gridDimZ},
          (const unsigned[3]){config->blockDimX, config->blockDimY, config->blockDimZ}, config->sharedMemBytes);
    for (unsigned index = 0; index < config->numAttrs; index++)
        if (config->attrs[index].id == CU_LAUNCH_ATTRIBUTE_COOPERATIVE)
            launch.cooperative = config->attrs[index].value.cooperative != 0;
    return pack_and_submit(&launch, config->hStream, parameters, extra);
}

/* The interface of CUDA 2: block shape and parameters are set on the function, then it is launched. */
CUresult sim_cuLaunchGridAsync(CUfunction handle, int grid_x, int grid_y, CUstream stream)
{
    struct sim_launch launch;
    CUresult result = begin(&launch, handle);

    if (result != CUDA_SUCCESS)
        return result;
    shape(&launch, (const unsigned[3]){(unsigned)grid_x, (unsigned)grid_y, 1}, launch.function->block, 0);
    memcpy(launch.packed, launch.function->parameters, sizeof(launch.packed));
    return sim_launch_submit(stream, &launch);
}

CUresult sim_cuLaunchGrid(CUfunction handle, int grid_x, int grid_y)
{
    return sim_cuLaunchGridAsync(handle, grid_x, grid_y, NULL);
}

CUresult sim_cuLaunch(CUfunction handle)
{
    return sim_cuLaunchGridAsync(handle, 1, 1, NULL);
}

CUresult sim_cuFuncSetBlockShape(CUfunction handle, int x, int y, int z)
{
    struct sim_function *function = sim_function_of(handle);
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (function == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    function->block[0] = (unsigned)x;
    function->block[1] = (unsigned)y;
    function->block[2] = (unsigned)z;
    return CUDA_SUCCESS;
}

CUresult sim_cuParamSetSize(CUfunction handle, unsigned int bytes)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_function_of(handle) == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    return bytes <= SIM_PARAMETER_BYTES_MAX ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuParamSetv(CUfunction handle, int offset, void *value, unsigned int bytes)
{
    struct sim_function *function = sim_function_of(handle);
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (function == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (offset < 0 || (size_t)offset + bytes > sizeof(function->parameters))
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(function->parameters + offset, value, bytes);
    return CUDA_SUCCESS;
}

CUresult sim_cuParamSeti(CUfunction handle, int offset, unsigned int value)
{
    return sim_cuParamSetv(handle, offset, &value, sizeof(value));
}

CUresult sim_cuParamSetf(CUfunction handle, int offset, float value)
{
    return sim_cuParamSetv(handle, offset, &value, sizeof(value));
}
