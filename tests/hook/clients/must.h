/* For the clients' steps that have to work. */
#ifndef EGPU_MUST_H
#define EGPU_MUST_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define MIB (UINT64_C(1) << 20)

/* Ends the program where a step does not. */
#define MUST(call)                                                                   \
    do {                                                                             \
        CUresult must_result = (call);                                               \
        if (must_result != CUDA_SUCCESS) {                                           \
            fprintf(stderr, "line %d: %s: %d\n", __LINE__, #call, (int)must_result); \
            exit(1);                                                                 \
        }                                                                            \
    } while (0)

#endif
