/* What the clients that run kernels share: options by name, the clock they are on, and the first steps of a task. */
#ifndef EGPU_TASK_H
#define EGPU_TASK_H

#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "driver_calls.h"
#include "must.h"

#define NS_PER_SECOND UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/* Of the simulated driver: 0 where the clock is the wall. */
uint64_t egpuSimNow(void);
void egpuSimSleep(uint64_t);

/* The text behind NAME=. */
static inline const char *option_text(int count, char **arguments, const char *name, const char *otherwise) {
    size_t length = strlen(name);
    for (int each = 1; each < count; each++)
        if (strncmp(arguments[each], name, length) == 0 && arguments[each][length] == '=')
            return arguments[each] + length + 1;
    return otherwise;
}

static inline uint64_t option(int count, char **arguments, const char *name, uint64_t otherwise) {
    const char *text = option_text(count, arguments, name, NULL);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

static inline uint64_t wall_ns(void) {
    struct timespec wall;
    clock_gettime(CLOCK_MONOTONIC, &wall);
    return (uint64_t)wall.tv_sec * NS_PER_SECOND + (uint64_t)wall.tv_nsec;
}

static inline uint64_t now_ns(void) {
    uint64_t now = egpuSimNow();
    return now ? now : wall_ns();
}

static inline void rest(uint64_t ns) {
    struct timespec wall = {(time_t)(ns / NS_PER_SECOND), (long)(ns % NS_PER_SECOND)};
    if (ns && egpuSimNow())
        egpuSimSleep(ns);
    else if (ns)
        nanosleep(&wall, NULL);
}

static inline void sleep_until(uint64_t until) {
    uint64_t now = now_ns();
    if (until > now) rest(until - now);
}

/* A context, the kernel of that name and a stream. */
static inline void task_begin(CUfunction *function, const char *kernel, CUstream *stream) {
    CUcontext context;
    CUmodule module;
    MUST(cuInit(0));
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
    MUST(cuModuleLoadData(&module, "egpu"));
    MUST(cuModuleGetFunction(function, module, kernel));
    MUST(cuStreamCreate(stream, 1));
}

#endif
