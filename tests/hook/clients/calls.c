/* What one call costs its caller.
 *
 * calls KEY=VALUE ...   call=launch|others|memory|info rounds=50 calls=64
 * One line of JSON: the time of one call in ns, the lower quartile of the rounds: a busy machine only adds. Between the
 * rounds the card is waited for, outside of the measured time. `memory` is an allocation of 1 MiB and
 * its free, `others` launches never the same grid twice in a row. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "driver.h"

CUresult cuInit(unsigned int);
CUresult cuDeviceGet(CUdevice *, int);
CUresult cuDevicePrimaryCtxRetain(CUcontext *, CUdevice);
CUresult cuCtxSetCurrent(CUcontext);
CUresult cuCtxSynchronize(void);
CUresult cuModuleLoadData(CUmodule *, const void *);
CUresult cuModuleGetFunction(CUfunction *, CUmodule, const char *);
CUresult cuStreamCreate(CUstream *, unsigned int);
CUresult cuMemAlloc_v2(CUdeviceptr *, size_t);
CUresult cuMemFree_v2(CUdeviceptr);
CUresult cuMemGetInfo_v2(size_t *, size_t *);
CUresult cuLaunchKernel(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                        unsigned int, CUstream, void **, void **);

#define MUST(call)                                                             \
    do {                                                                       \
        CUresult result = (call);                                              \
        if (result != CUDA_SUCCESS) {                                          \
            fprintf(stderr, "%s: %d\n", #call, (int)result);                   \
            exit(1);                                                           \
        }                                                                      \
    } while (0)

enum { ROUNDS_MAX = 10000, CALLS_MAX = 512 };
#define MIB ((size_t)1 << 20)

static CUfunction function;
static CUstream stream;

static const char *option(int count, char **arguments, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (int each = 1; each < count; each++)
        if (strncmp(arguments[each], name, length) == 0 && arguments[each][length] == '=')
            return arguments[each] + length + 1;
    return otherwise;
}

static double now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void launch(int calls) {
    uint32_t us = 0;
    void *parameters[] = {&us};
    for (int each = 0; each < calls; each++)
        MUST(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static void others(int calls) {
    uint32_t us = 0;
    void *parameters[] = {&us};
    for (int each = 0; each < calls; each++)
        MUST(cuLaunchKernel(function, 1 + (unsigned int)each % 4, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static void memory(int calls) {
    for (int each = 0; each < calls; each++) {
        CUdeviceptr address;
        MUST(cuMemAlloc_v2(&address, MIB));
        MUST(cuMemFree_v2(address));
    }
}

static void info(int calls) {
    size_t free_bytes, total_bytes;
    for (int each = 0; each < calls; each++) MUST(cuMemGetInfo_v2(&free_bytes, &total_bytes));
}

static int by_size(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

int main(int count, char **arguments) {
    static double times[ROUNDS_MAX];
    const char *call = option(count, arguments, "call", "launch");
    int rounds = atoi(option(count, arguments, "rounds", "50")), calls = atoi(option(count, arguments, "calls", "64"));
    void (*run)(int) = strcmp(call, "memory") == 0   ? memory
                       : strcmp(call, "info") == 0   ? info
                       : strcmp(call, "others") == 0 ? others
                                                     : launch;
    CUdevice device;
    CUcontext context;
    CUmodule module;
    if (rounds < 1 || rounds > ROUNDS_MAX || calls < 1 || calls > CALLS_MAX) return 2;
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    MUST(cuModuleLoadData(&module, "egpu"));
    MUST(cuModuleGetFunction(&function, module, "egpu_spin_us"));
    MUST(cuStreamCreate(&stream, 1));
    run(calls); /* what is found once */
    for (int round = 0; round < rounds; round++) {
        MUST(cuCtxSynchronize());
        double begin = now_ns();
        run(calls);
        times[round] = (now_ns() - begin) / calls;
    }
    qsort(times, (size_t)rounds, sizeof times[0], by_size);
    printf("{\"quartile_ns\": %.1f}\n", times[rounds / 4]);
    return 0;
}
