/* The first steps of a client that expects things of kernels of known length: see expect.h. */
#ifndef EGPU_SPIN_H
#define EGPU_SPIN_H

#include "driver_calls.h"
#include "expect.h"

static CUfunction spin;

static void open_card(void) {
    CUmodule module;
    CUcontext context;
    DO(cuInit(0));
    DO(cuCtxCreate_v2(&context, 0, 0));
    DO(cuModuleLoadData(&module, "any"));
    DO(cuModuleGetFunction(&spin, module, "egpu_spin_us"));
}

static void launch(CUstream stream, unsigned int us) {
    void *parameters[] = {&us};
    DO(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

#endif
