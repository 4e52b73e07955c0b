/* The exported symbols of the simulated libcuda.so.1, as its cuGetProcAddress looks them up. */
#ifndef EGPU_SIM_SYMBOLS_H
#define EGPU_SIM_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>

struct sim_symbol {
    const char *name; /* as exported */
    const char *base; /* as asked for */
    int version;
    bool per_thread;
    void (*address)(void);
};

/* Rows of this library's CUDA version, forms of one base name next to each other. */
const struct sim_symbol *sim_symbols(size_t *count);

#endif
