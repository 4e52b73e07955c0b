/* What the memory clients share: the calls they make, and one line of output a fact. */
#ifndef EGPU_MEMORY_CLIENT_H
#define EGPU_MEMORY_CLIENT_H

#include <string.h>

#include "driver.h"
#include "memory_client_calls.h"
#include "must.h"

static inline void say(const char *what, int64_t value) { printf("%s %" PRId64 "\n", what, value); }

static inline uint64_t used_mib(void) {
    size_t free_bytes, total_bytes;
    MUST(cuMemGetInfo_v2(&free_bytes, &total_bytes));
    return (total_bytes - free_bytes) / MIB;
}

static inline CUcontext begin(void) {
    CUcontext context;
    MUST(cuInit(0));
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
    return context;
}

static inline CUfunction kernel(const char *name) {
    CUmodule module;
    CUfunction function;
    MUST(cuModuleLoadData(&module, "any"));
    MUST(cuModuleGetFunction(&function, module, name));
    return function;
}

static inline void touch(CUdeviceptr address, uint64_t bytes, unsigned us, CUstream stream) {
    void *parameters[] = {&address, &bytes, &us};
    MUST(cuLaunchKernel(kernel("egpu_touch"), 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
}

/* What the case does by its name; 2 when there is none of that name. */
struct memory_case {
    const char *name;
    void (*run)(void);
};

static inline int run_case(const struct memory_case *cases, size_t count, int argc, char **argv) {
    for (size_t index = 0; argc > 1 && index < count; index++)
        if (strcmp(cases[index].name, argv[1]) == 0) {
            cases[index].run();
            return 0;
        }
    return 2;
}

#endif
