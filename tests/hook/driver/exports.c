/* Every exported function of the driver, generated from hook/src/symbols.def; compiled once for each CUDA version, because
 * a shared library cannot hide what it exports: a 12.8 driver simply lacks what came with 13.0. */
#include <stdio.h>
#include <stdlib.h>

#include "sim.h"
#include "simulated.h"
#include "symbols.h"

/* The per-thread forms take NULL for the stream of the thread. */
static inline CUstream per_thread(CUstream stream) { return stream == NULL ? CU_STREAM_PER_THREAD : stream; }

/* Told apart from a wrong answer: counted in the state file, and named on stderr when asked for. */
static CUresult sim_unsupported(const char *name) {
    __atomic_fetch_add(&sim_process()->calls_unsupported, 1, __ATOMIC_RELAXED);
    if (getenv("EGPU_SIM_UNSUPPORTED") != NULL) fprintf(stderr, "simulated driver: %s is not simulated\n", name);
    return CUDA_ERROR_NOT_SUPPORTED;
}

#pragma GCC visibility push(default)
#include "exports.inc"
#pragma GCC visibility pop

const struct sim_symbol *sim_symbols(size_t *count) {
    *count = sizeof symbols / sizeof symbols[0];
    return symbols;
}
