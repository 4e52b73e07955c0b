/* Handles that have outlived their context: each is told from a live one. Prints what differs. */
#include "driver_calls.h"
#include "expect.h"

static CUresult launch(CUfunction function) {
    unsigned int us = 1;
    void *parameters[] = {&us};
    return cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL);
}

int main(void) {
    CUcontext dead, other;
    CUstream stream;
    CUevent event, live;
    CUmodule module;
    CUfunction function, found;
    float ms;
    DO(cuInit(0));
    DO(cuCtxCreate_v2(&dead, 0, 0));
    DO(cuStreamCreate(&stream, 0));
    DO(cuEventCreate(&event, 0));
    DO(cuEventRecord(event, stream));
    DO(cuModuleLoadData(&module, "egpu"));
    DO(cuModuleGetFunction(&function, module, "egpu_spin_us"));
    DO(launch(function));
    DO(cuCtxDestroy_v2(dead));
    DO(cuCtxCreate_v2(&other, 0, 0));
    DO(cuEventCreate(&live, 0));
    DO(cuEventRecord(live, NULL));
    EXPECT(cuEventQuery(event), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    EXPECT(cuEventSynchronize(event), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    EXPECT(cuEventRecord(event, NULL), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    EXPECT(cuStreamWaitEvent(NULL, event, 0), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    EXPECT(cuEventElapsedTime(&ms, event, live), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    EXPECT(cuEventElapsedTime(&ms, live, event), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    EXPECT(cuEventDestroy_v2(event), CUDA_ERROR_CONTEXT_IS_DESTROYED);
    EXPECT(cuStreamQuery(stream), CUDA_ERROR_INVALID_HANDLE);
    EXPECT(launch(function), CUDA_ERROR_INVALID_HANDLE);
    EXPECT(cuModuleGetFunction(&found, module, "egpu_spin_us"), CUDA_ERROR_INVALID_HANDLE);
    EXPECT(cuModuleUnload(module), CUDA_ERROR_INVALID_HANDLE);
    DO(cuEventDestroy_v2(live));
    DO(cuCtxDestroy_v2(other));
    return failures != 0;
}
