/* Memory pools: chunks of whole granules taken from a card, cut into pieces, given again in stream order. */
#ifndef EGPU_SIM_POOLS_H
#define EGPU_SIM_POOLS_H

#include "memory.h"

#define POOL_MAGIC UINT64_C(0x45475055504f4f4c)
#define POOL_REUSE_RULES 3

struct pool_chunk;

/* A piece of a chunk; neighbours in order of address. A free one may be given again after `freed` in any stream, in
 * the stream it was freed in at once. */
struct pool_piece {
    struct pool_piece *previous, *next;
    struct pool_chunk *chunk;
    uint64_t address;
    uint64_t bytes;
    bool used;
    CUstream stream;
    struct sim_point freed;
};

struct pool_chunk {
    struct pool_chunk *next;
    struct memory_block block;
    struct pool_piece *first;
    CUmemoryPool pool;
};

struct CUmemPoolHandle_st {
    uint64_t magic;
    struct CUmemPoolHandle_st *next;
    struct pool_chunk *chunks;
    CUmemPoolProps properties;
    int card;
    bool managed;
    bool made; /* by the application, which may destroy it */
    bool imported; /* another process' pool: nothing can be allocated from it here */
    bool destroyed; /* its memory is not all free yet */
    int reuse[POOL_REUSE_RULES];
    CUmemAccess_flags access[SIM_CARDS_MAX];
    uint64_t release_threshold_bytes;
    uint64_t reserved_bytes, reserved_bytes_most;
    uint64_t used_bytes, used_bytes_most;
};

/* All under memory_enter(). */
CUmemoryPool pool_of(CUmemoryPool handle); /* NULL when it is none */
CUmemoryPool pool_default(int card);
CUmemoryPool pool_current(int card);
void pool_take_back(struct memory_range *range);
void pool_trim(CUmemoryPool pool, uint64_t keep_bytes);
void pool_forget_if_empty(CUmemoryPool pool);
CUmemoryPool pool_add(int card, const CUmemPoolProps *properties);

#endif
