/* A libcuda.so.1 whose cuGetProcAddress gives out functions that it does not export. */
#include <string.h>

#include "driver.h"

CUresult cuInit(unsigned int flags) { return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE; }

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes)
{
    *address = bytes;
    return CUDA_SUCCESS;
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *version)
{
    *version = context == NULL ? 1 : 2;
    return CUDA_SUCCESS;
}

static CUresult inner_allocate(CUdeviceptr *address, size_t bytes) { return cuMemAlloc_v2(address, bytes + 1); }

static CUresult inner_version(CUcontext context, unsigned int *version) { return cuCtxGetApiVersion(context, version); }

CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                             CUdriverProcAddressQueryResult *status)
{
    (void)version;
    (void)flags;
    *status = CU_GET_PROC_ADDRESS_SUCCESS;
    *function = strcmp(name, "cuMemAlloc") == 0 ? (void *)inner_allocate : (void *)inner_version;
    return CUDA_SUCCESS;
}
