/* Threads that all make the first call of the process at the same moment, each in its own way. Prints how many were served. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "driver_calls.h"

enum { THREADS = 8, NAMES = 6 };

static const char *const names[NAMES] = {"cuInit", "cuMemAlloc_v2", "cuLaunchKernel", "cuMemFree_v2", "cuCtxCreate_v2", "cuStreamCreate"};
static pthread_barrier_t barrier;
static int served;

static int by_name(void)
{
    int found = 0;
    for (int i = 0; i < NAMES; i++)
        found += dlsym(RTLD_DEFAULT, names[i]) != NULL;
    return found == NAMES;
}

static int by_driver(uint64_t flags)
{
    void *function = NULL;
    CUdriverProcAddressQueryResult status;
    return cuGetProcAddress_v2("cuMemAllocAsync", &function, 12000, flags, &status) == CUDA_SUCCESS && function != NULL;
}

static int by_use(void)
{
    CUcontext context;
    CUdeviceptr address;
    return cuInit(0) == CUDA_SUCCESS && cuDevicePrimaryCtxRetain(&context, 0) == CUDA_SUCCESS &&
           cuCtxSetCurrent(context) == CUDA_SUCCESS && cuMemAlloc_v2(&address, 4096) == CUDA_SUCCESS &&
           cuMemFree_v2(address) == CUDA_SUCCESS;
}

static void *first(void *argument)
{
    const long number = (long)argument;
    pthread_barrier_wait(&barrier);
    int good = number % 4 == 0 ? by_name() : number % 4 == 1 ? by_driver(0) : number % 4 == 2 ? by_driver(2) : by_use();
    __atomic_fetch_add(&served, good, __ATOMIC_RELAXED);
    egpuSimDetach();
    return NULL;
}

int main(void)
{
    pthread_t threads[THREADS];
    pthread_barrier_init(&barrier, NULL, THREADS);
    for (long i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, first, (void *)i);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    printf("served %d\n", served);
    return 0;
}
