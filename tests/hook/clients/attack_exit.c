/* A program that ends while a thread of it still submits work. */
#include <pthread.h>
#include <unistd.h>

#include "memory_client.h"

void attack_exit_late_begin(CUcontext context);

static void *work(void *context) {
    unsigned int us = 100;
    void *parameters[] = {&us};
    CUstream stream;
    if (cuCtxSetCurrent(context) != CUDA_SUCCESS || cuStreamCreate(&stream, 1) != CUDA_SUCCESS) return NULL;
    CUfunction function = kernel("egpu_spin_us");
    for (;;)
        if (cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL) != CUDA_SUCCESS) usleep(100);
    return NULL;
}

int main(void) {
    pthread_t thread;
    CUcontext context = begin();
    CUdeviceptr kept;
    MUST(cuMemAlloc_v2(&kept, 32 * MIB));
    attack_exit_late_begin(context);
    pthread_create(&thread, NULL, work, context);
    usleep(100000);
    return 0;
}
