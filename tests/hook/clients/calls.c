/* What one call costs its caller.
 *
 * calls KEY=VALUE ...   call=launch|others|memory|info rounds=50 calls=64
 * One line of JSON: the time of one call in ns, the lower quartile of the rounds: a busy machine only adds. Between the
 * rounds the card is waited for, outside of the measured time. `memory` is an allocation of 1 MiB and
 * its free, `others` launches never the same grid twice in a row. */
#include "task.h"

enum { ROUNDS_MAX = 10000, CALLS_MAX = 512 };

static CUfunction function;
static CUstream stream;

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
    const char *call = option_text(count, arguments, "call", "launch");
    int rounds = (int)option(count, arguments, "rounds", 50), calls = (int)option(count, arguments, "calls", 64);
    void (*run)(int) = strcmp(call, "memory") == 0   ? memory
                       : strcmp(call, "info") == 0   ? info
                       : strcmp(call, "others") == 0 ? others
                                                     : launch;
    if (rounds < 1 || rounds > ROUNDS_MAX || calls < 1 || calls > CALLS_MAX) return 2;
    task_begin(&function, "egpu_spin_us", &stream);
    run(calls); /* what is found once */
    for (int round = 0; round < rounds; round++) {
        MUST(cuCtxSynchronize());
        uint64_t begin = wall_ns();
        run(calls);
        times[round] = (double)(wall_ns() - begin) / calls;
    }
    qsort(times, (size_t)rounds, sizeof times[0], by_size);
    printf("{\"quartile_ns\": %.1f}\n", times[rounds / 4]);
    return 0;
}
