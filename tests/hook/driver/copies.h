/* Copies and fills as work on boxes of bytes: rows of `width`, rows `height`, slices `depth`. */
#ifndef EGPU_SIM_COPIES_H
#define EGPU_SIM_COPIES_H

#include "memory.h"

/* One side of a copy. Where it lies decides what is checked: the card's addresses must be known ones. */
struct copy_side {
    uint64_t address;
    uint64_t pitch;
    uint64_t slice;
    bool of_card;
};

struct copy_work {
    struct copy_side from, to;
    uint64_t width, height, depth;
};

struct fill_work {
    uint64_t address;
    uint64_t pitch;
    uint64_t width; /* in elements */
    uint64_t height;
    uint32_t value;
    uint32_t element_bytes;
};

enum copy_wait { COPY_ASYNC, COPY_WAIT };

/* Checks, submits to the copy engine, moves the bytes and waits if asked to. */
CUresult copy_submit(const struct copy_work *work, CUstream stream, enum copy_wait wait);
CUresult fill_submit(const struct fill_work *work, CUstream stream);
/* An address that may be the card's or the host's (UNIFIED, cuMemcpy). */
struct copy_side copy_side_unified(uint64_t address, uint64_t pitch, uint64_t slice);
/* Fills in the side from an array's bytes at (x in bytes, y, z); false when it is no array. */
bool array_side(CUarray array, uint64_t x, uint64_t y, uint64_t z, struct copy_side *side);
bool array_known(CUarray array);
bool array_holds(CUarray array, uint64_t x, uint64_t y, uint64_t z, const struct copy_work *work);
uint64_t array_element_bytes(CUarray array);
uint64_t array_bytes(CUarray array);
void arrays_end_context(CUcontext context);

/* The parameters of a three-dimensional copy as work. */
CUresult copy_work_of(const CUDA_MEMCPY3D *parameters, struct copy_work *work);

#endif
