/* The simulated card's memory: what every allocation class shares.
 *
 * Device memory is host memory mapped lazily, so that data can be checked; what counts against the card is kept in
 * the shared state (card_memory.c). One lock of the process guards its own tables; it is taken before, never after,
 * the lock of the shared state, and never held over a call that may hand the clock's token over.
 *
 * Bytes move, and pages come in, when work is submitted, not when it runs: streams ordered against each other show what
 * a card would show. The processor's touching a page that is on the card cannot be seen: such a page stays there; only
 * that it wrote before the card did is noticed. Answered with NOT_SUPPORTED: 32-bit first versions, pools on the host,
 * fabric handles, multicast, sparse, planar and compressed arrays. */
#ifndef EGPU_SIM_MEMORY_H
#define EGPU_SIM_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sim.h"
#include "simulated.h"

/* The driver takes device memory from the card in 2 MiB pieces; small allocations share one (cuda_hook.md 4.7). */
#define MEMORY_GRANULE_BYTES (UINT64_C(2) << 20)
#define MEMORY_UNIT_BYTES UINT64_C(512)
#define MEMORY_SMALL_BYTES_MAX (UINT64_C(1) << 20)
#define MEMORY_PITCH_BYTES UINT64_C(512)
#define MEMORY_NO_CARD (-1)
#define MEMORY_CONTEXT_MIB_DEFAULT 300
#define MEMORY_COPY_BYTES_PER_SECOND (UINT64_C(20) << 30)
#define MEMORY_PAGE_IN_GIBPS_DEFAULT 12

enum memory_kind {
    MEMORY_PLAIN,
    MEMORY_MANAGED,
    MEMORY_HOST,
    MEMORY_REGISTERED,
    MEMORY_POOL,
    MEMORY_MAPPED,   /* a physical handle mapped into a reserved range; the reservations are virtual_memory.c's */
    MEMORY_IMPORTED, /* another process' allocation, opened by its IPC handle */
    MEMORY_GRAPH,
    MEMORY_ARRAY,
    MEMORY_CODE,
    MEMORY_EXTERNAL, /* a buffer of imported memory of another interface: nobody here pays for it */
};

/* A piece of a card: whole granules, or a part of a slab of one granule. */
struct memory_slab;
struct memory_block {
    int card;
    uint64_t address;
    uint64_t bytes;
    struct memory_slab *slab;
};

/* What an address belongs to. `bytes` is what was asked for; `block` what it costs. */
struct memory_range {
    uint64_t address;
    uint64_t bytes;
    enum memory_kind kind;
    int card;
    CUcontext context;
    unsigned flags;
    unsigned sync_memops;
    bool closed; /* mapped, and nobody was given access yet */
    uint64_t buffer_id;
    struct memory_block block;
    void *body; /* struct managed, pool_piece, graph_memory, virtual_mapping or ipc_import, by kind */
};

/* addresses.c: the ranges of this process, in order of address. All under memory_enter(). */
void memory_enter(void);
void memory_leave(void);
struct memory_range *addresses_add(const struct memory_range *range);
struct memory_range *addresses_find(uint64_t address);
bool addresses_overlap(uint64_t address, uint64_t bytes);
void addresses_remove(struct memory_range *range);
struct memory_range *addresses_at(size_t index);
/* The bytes from `address` to the end of what it lies in; 0 when it lies in nothing the driver knows. */
uint64_t addresses_reach(uint64_t address);
uint64_t memory_round_up(uint64_t value, uint64_t multiple);

/* blocks.c: pieces of a card. CUDA_ERROR_OUT_OF_MEMORY exactly when the card is full. */
CUresult block_reserve(int card, uint64_t bytes, struct memory_block *block);
void block_release(struct memory_block *block);
void *block_map(uint64_t bytes, bool accessible);
/* Gives the block a file behind it, which another process can map; the data stay. The descriptor, or -1. */
int block_share(struct memory_block *block, uint64_t *offset);
bool block_shared(const struct memory_block *block);

/* card_memory.c: what counts against the card, in the shared state. */
CUresult card_memory_charge(int card, uint64_t bytes);
void card_memory_discharge(int card, uint64_t bytes);
void card_memory_count_context(int card, int64_t bytes);
void card_memory_count_host(int card, int64_t bytes);
void card_memory_count_managed(int card, int64_t bytes);
void card_memory_info(int card, uint64_t *free_bytes, uint64_t *total_bytes);

/* A fork's child has no CUDA memory: each part forgets the parent's. */
void arrays_forked(void);
void blocks_forked(void);
void pools_forked(void);
void graph_memory_forked(void);
void physical_memory_forked(void);
void virtual_memory_forked(void);

/* memory.c: how nearly every call of an allocation class begins, and how every allocation that may fail is asked. */
CUresult memory_begin(struct sim_context **context);
CUresult memory_begin_allocation(struct sim_context **context);
/* Frees what a range is of, whatever its kind; called under memory_enter(), the range is gone afterwards. */
void memory_free_range(struct memory_range *range);
#define MEMORY_HANDLE(context) ((CUcontext)(context))

#endif
