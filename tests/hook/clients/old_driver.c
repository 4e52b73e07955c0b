/* A libcuda.so.1 of long ago: three functions, and versions on its symbols, which the simulated driver has not. */
#include "driver.h"

CUresult cuInit(unsigned int flags) { return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }

CUresult cuDriverGetVersion(int *version)
{
    *version = 9000;
    return CUDA_SUCCESS;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
    *address = bytes;
    return CUDA_SUCCESS;
}
