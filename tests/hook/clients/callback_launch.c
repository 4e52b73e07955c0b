/* A host function that submits a kernel while its container owes seconds of card time: prints how long that call took,
 * in microseconds, and then how long the same call takes outside. */
#include <stdio.h>

#include "driver_calls.h"

static CUfunction function;
static CUstream last;

static unsigned long long submit(unsigned us, CUstream stream)
{
    void *parameters[] = {&us};
    uint64_t before = egpuSimNow();
    CUresult result = cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL);

    if (result != CUDA_SUCCESS)
        printf("error %d\n", (int)result);
    return (egpuSimNow() - before) / 1000;
}

static void host_function(void *unused)
{
    (void)unused;
    printf("inside %llu\n", submit(10, last));
}

int main(void)
{
    CUcontext context;
    CUmodule module;
    CUstream work, callbacks;

    if (cuInit(0) != CUDA_SUCCESS || cuDevicePrimaryCtxRetain(&context, 0) != CUDA_SUCCESS)
        return 1;
    cuCtxSetCurrent(context);
    cuModuleLoadData(&module, "egpu");
    cuModuleGetFunction(&function, module, "egpu_spin_us");
    cuStreamCreate(&work, CU_STREAM_NON_BLOCKING);
    cuStreamCreate(&callbacks, CU_STREAM_NON_BLOCKING);
    cuStreamCreate(&last, CU_STREAM_NON_BLOCKING);
    submit(50000, work);
    cuStreamSynchronize(work);
    cuLaunchHostFunc(callbacks, host_function, NULL);
    cuStreamSynchronize(callbacks);
    printf("outside %llu\n", submit(10, last));
    return 0;
}
