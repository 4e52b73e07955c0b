#include "pools.h"

#include "cards.h"
#include "charges.h"
#include "oversubscription.h"
#include "real.h"
#include "region.h"
#include "streams.h"

#include <string.h>

/* A pool gives memory back to the driver at the next synchronisation, down to its release threshold. So freed bytes stay
 * charged up to that threshold, and what is allocated next comes out of them first. Pools belong to the device and outlive
 * contexts. */

enum { POOLS_MAX = 64 }; /* that are asked to give up what they keep: programs have one or two for a card */

struct keeping {
    uint64_t threshold_bytes;
    uint64_t bytes; /* in: freed or wanted; out: kept or taken out of what was kept */
};

static void keep(struct holding *pool, void *argument) {
    struct keeping *keeping = argument;
    uint64_t room = keeping->threshold_bytes > pool->bytes + pool->retained_bytes - keeping->bytes
                        ? keeping->threshold_bytes - (pool->bytes + pool->retained_bytes - keeping->bytes)
                        : 0;
    pool->bytes -= keeping->bytes < pool->bytes ? keeping->bytes : pool->bytes;
    keeping->bytes = keeping->bytes < room ? keeping->bytes : room;
    pool->retained_bytes += keeping->bytes;
}

static uint64_t attribute(uint64_t pool, CUmemPool_attribute which) {
    uint64_t bytes = 0;
    CUmemoryPool handle = (CUmemoryPool)(uintptr_t)pool;
    return real.cuMemPoolGetAttribute(handle, which, &bytes) == CUDA_SUCCESS ? bytes : 0;
}

static uint64_t unused(uint64_t pool) {
    uint64_t used = attribute(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT);
    uint64_t reserved = attribute(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT);
    return reserved > used ? reserved - used : 0;
}

uint64_t pool_keep(uint64_t pool, uint64_t bytes) {
    struct keeping keeping = {attribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD), bytes};
    return holding_change(HOLDING_POOL, pool, keep, &keeping) ? keeping.bytes : 0;
}

/* What the pool kept is charged already. */
static void take_kept(struct holding *pool, void *argument) {
    struct keeping *keeping = argument;
    uint64_t taken = pool->retained_bytes < keeping->bytes ? pool->retained_bytes : keeping->bytes;
    pool->retained_bytes -= taken;
    pool->bytes += keeping->bytes;
    keeping->bytes = taken;
}

static void put_back(struct holding *pool, void *argument) {
    struct keeping *keeping = argument;
    pool->bytes -= keeping->bytes < pool->bytes ? keeping->bytes : pool->bytes;
    pool->retained_bytes += keeping->threshold_bytes;
}

struct renewal {
    uint64_t noted_bytes, unused_bytes;
    uint64_t given_bytes; /* out */
};

/* Another thread's call in between has been noted, and the driver's figure may be from before it. */
static void renew(struct holding *pool, void *argument) {
    struct renewal *renewal = argument;
    if (pool->retained_bytes != renewal->noted_bytes || pool->retained_bytes <= renewal->unused_bytes)
        return;
    renewal->given_bytes = pool->retained_bytes - renewal->unused_bytes;
    pool->retained_bytes = renewal->unused_bytes;
}

static void give_up(const struct holding *pool) {
    struct renewal renewal = {.noted_bytes = pool->retained_bytes};
    if (real.cuMemPoolTrimTo((CUmemoryPool)(uintptr_t)pool->key, 0) != CUDA_SUCCESS)
        return;
    renewal.unused_bytes = unused(pool->key);
    (void)holding_change(HOLDING_POOL, pool->key, renew, &renewal);
    charge_give_back(pool->card, EGPU_MEMORY_POOL, renewal.given_bytes);
}

uint64_t pool_unused_unkept(uint64_t pool, uint64_t taken_bytes) {
    struct holding note = {.retained_bytes = 0};
    uint64_t there = holding_find(HOLDING_POOL, pool, &note) ? unused(pool) : 0, kept = note.retained_bytes + taken_bytes;
    return there > kept ? there - kept : 0;
}

/* So does the driver before it refuses; and what a lower threshold let go at a synchronisation is found here. */
bool pools_give_up(int card, uint64_t wanted_bytes) {
    struct holding pools[POOLS_MAX];
    size_t count = holdings_copy(HOLDING_POOL, pools, POOLS_MAX);
    uint64_t kept = charge_unaccounted(card);
    for (size_t each = 0; each < count; each++)
        kept += pools[each].card == card ? pools[each].retained_bytes : 0;
    if (kept == 0 || kept < wanted_bytes)
        return false;
    for (size_t each = 0; each < count; each++)
        if (pools[each].card == card)
            give_up(&pools[each]);
    return count > 0;
}

static CUresult undo(uint64_t address) { return real.cuMemFree_v2(address); }

static bool is_capturing(CUstream stream, bool per_thread) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    CUresult result = per_thread ? real.cuStreamIsCapturing_ptsz(stream, &status) : real.cuStreamIsCapturing(stream, &status);
    /* The legacy stream while another one captures answers an error: the allocation will too. */
    return result != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_NONE;
}

/* The pool's note is made at the first allocation out of it. */
static bool know_pool(uint64_t pool, int card) {
    struct holding note;
    if (pool == 0 || holding_find(HOLDING_POOL, pool, &note))
        return pool != 0;
    return holding_add(&(struct holding){
        .kind = HOLDING_POOL, .key = pool, .card = card, .memory_class = EGPU_MEMORY_POOL});
}

struct request {
    CUdeviceptr *address;
    size_t bytes;
    CUmemoryPool pool;
    CUstream stream;
    CUresult (*call)(const struct request *);
};

static CUresult undo_movable(uint64_t address) {
    oversubscription_forget(address);
    return real.cuMemFree_v2(address);
}

/* No pool before CUDA 13.0 holds managed memory, so a pool's allocation is turned into one of its own, made at once:
 * earlier than asked for is never wrong. */
static CUresult allocate_movable(const struct request *request, int card) {
    if (charge_reserve(card, EGPU_MEMORY_OVERSUBSCRIBED, request->bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct holding holding = {.kind = HOLDING_ADDRESS, .card = card, .memory_class = EGPU_MEMORY_OVERSUBSCRIBED,
                              .bytes = request->bytes};
    if (real.cuCtxGetCurrent(&holding.context) != CUDA_SUCCESS)
        holding.context = NULL;
    CUresult result = oversubscription_allocate(card, request->address, request->bytes);
    holding.key = *request->address;
    return charge_settle(result, &holding, undo_movable);
}

/* What the call itself would use: the current pool of the stream's device, which need not be the current one. */
struct source {
    int card;
    CUmemoryPool pool;
};

static struct source source_of(CUstream stream) {
    CUdevice device;
    bool pushed = region_state() != REGION_ABSENT && streams_push_context(stream);
    struct source source = {.card = card_current()};
    if (source.card != CARD_NONE && real.cuCtxGetDevice(&device) == CUDA_SUCCESS &&
        real.cuDeviceGetMemPool(&source.pool, device) != CUDA_SUCCESS)
        source.pool = NULL;
    streams_pop_context(pushed);
    return source;
}

/* Memory of a pool that other processes open has to be the pool's own; and another process's pool allocates nothing here,
 * which is the driver's to say. */
static bool is_shared(const struct request *request) {
    struct holding note;
    if (holding_find(HOLDING_POOL, (uint64_t)(uintptr_t)request->pool, &note))
        return note.shared;
    return request->pool != source_of(request->stream).pool;
}

static CUresult allocate(const struct request *request, int card) {
    if (oversubscription_active(card) && !is_shared(request))
        return allocate_movable(request, card);
    uint64_t pool = (uint64_t)(uintptr_t)request->pool;
    struct keeping kept = {.bytes = request->bytes};
    bool known = know_pool(pool, card) && holding_change(HOLDING_POOL, pool, take_kept, &kept);
    uint64_t taken = known ? kept.bytes : 0;
    struct keeping back = {.bytes = request->bytes, .threshold_bytes = taken};
    if (charge_reserve_of_pool(card, request->bytes - taken, known ? pool : 0, taken) != CUDA_SUCCESS) {
        if (known)
            holding_change(HOLDING_POOL, pool, put_back, &back);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    struct holding holding = {.kind = HOLDING_ADDRESS, .card = card, .memory_class = EGPU_MEMORY_POOL,
                              .bytes = request->bytes, .owner = known ? pool : 0};
    CUresult result = request->call(request);
    holding.key = *request->address;
    if (result != CUDA_SUCCESS && known) {
        holding_change(HOLDING_POOL, pool, put_back, &back);
        holding.bytes -= taken;
    }
    return charge_settle(result, &holding, undo);
}

static bool passes(const struct request *request, int card, bool per_thread) {
    /* While capturing this becomes a node of the graph, charged with the graph's memory. */
    return card == CARD_NONE || request->address == NULL || request->bytes == 0 ||
           is_capturing(request->stream, per_thread);
}

static CUresult call_plain(const struct request *r) { return real.cuMemAllocAsync(r->address, r->bytes, r->stream); }
static CUresult call_plain_ptsz(const struct request *r) {
    return real.cuMemAllocAsync_ptsz(r->address, r->bytes, r->stream);
}
static CUresult call_pool(const struct request *r) {
    return real.cuMemAllocFromPoolAsync(r->address, r->bytes, r->pool, r->stream);
}
static CUresult call_pool_ptsz(const struct request *r) {
    return real.cuMemAllocFromPoolAsync_ptsz(r->address, r->bytes, r->pool, r->stream);
}

static CUresult allocate_from_current(struct request *request, bool per_thread) {
    struct source source = source_of(request->stream);
    if (passes(request, source.card, per_thread))
        return request->call(request);
    request->pool = source.pool;
    return allocate(request, source.card);
}

CUresult cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
    struct request request = {address, bytes, NULL, stream, call_plain};
    return allocate_from_current(&request, false);
}

CUresult cuMemAllocAsync_ptsz(CUdeviceptr *address, size_t bytes, CUstream stream) {
    struct request request = {address, bytes, NULL, stream, call_plain_ptsz};
    return allocate_from_current(&request, true);
}

/* A pool that was made here says which card it is on; others (a device's own) are the stream's device's. Imported pools
 * are charged to who made them. */
static int card_of_pool(CUmemoryPool pool, CUstream stream) {
    struct holding note;
    if (holding_find(HOLDING_POOL, (uint64_t)(uintptr_t)pool, &note))
        return note.card;
    return source_of(stream).card;
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream) {
    struct request request = {address, bytes, pool, stream, call_pool};
    int card = card_of_pool(pool, stream);
    return passes(&request, card, false) ? call_pool(&request) : allocate(&request, card);
}

CUresult cuMemAllocFromPoolAsync_ptsz(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream) {
    struct request request = {address, bytes, pool, stream, call_pool_ptsz};
    int card = card_of_pool(pool, stream);
    return passes(&request, card, true) ? call_pool_ptsz(&request) : allocate(&request, card);
}

static CUresult free_async(CUdeviceptr address, CUstream stream, CUresult (*call)(CUdeviceptr, CUstream)) {
    struct holding holding;
    if (!holding_take(HOLDING_ADDRESS, address, &holding))
        return call(address, stream);
    /* The driver's plain free waits for all work that may use the memory, so for what the stream holds too. */
    bool movable = oversubscription_forget(address);
    CUresult result = movable ? real.cuMemFree_v2(address) : call(address, stream);
    if (result == CUDA_SUCCESS)
        charge_release(&holding);
    else
        holding_add(&holding);
    return result;
}

/* On a capturing stream a node is added and the memory stays; it is then the graph that frees it. */
CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
    if (region_state() == REGION_ABSENT || is_capturing(stream, false))
        return real.cuMemFreeAsync(address, stream);
    return free_async(address, stream, real.cuMemFreeAsync);
}

CUresult cuMemFreeAsync_ptsz(CUdeviceptr address, CUstream stream) {
    if (region_state() == REGION_ABSENT || is_capturing(stream, true))
        return real.cuMemFreeAsync_ptsz(address, stream);
    return free_async(address, stream, real.cuMemFreeAsync_ptsz);
}

CUresult cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties) {
    CUresult result = real.cuMemPoolCreate(pool, properties);
    if (result != CUDA_SUCCESS || properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return result;
    int card = card_of_device(properties->location.id);
    if (card != CARD_NONE)
        (void)holding_add(&(struct holding){.kind = HOLDING_POOL, .key = (uint64_t)(uintptr_t)*pool, .card = card,
                                            .memory_class = EGPU_MEMORY_POOL,
                                            .shared = properties->handleTypes != CU_MEM_HANDLE_TYPE_NONE});
    return result;
}

CUresult cuMemPoolDestroy(CUmemoryPool pool) {
    CUresult result = real.cuMemPoolDestroy(pool);
    struct holding note;
    /* Allocations that are still there live on and are given back one by one. */
    if (result == CUDA_SUCCESS && holding_take(HOLDING_POOL, (uint64_t)(uintptr_t)pool, &note))
        charge_give_back(note.card, note.memory_class, note.retained_bytes);
    return result;
}

struct trim {
    uint64_t keep_bytes;
    uint64_t given_bytes;
    int card;
};

static void trim(struct holding *pool, void *argument) {
    struct trim *trim = argument;
    uint64_t floor = trim->keep_bytes > pool->bytes ? trim->keep_bytes - pool->bytes : 0;
    trim->given_bytes = pool->retained_bytes > floor ? pool->retained_bytes - floor : 0;
    pool->retained_bytes -= trim->given_bytes;
    trim->card = pool->card;
}

CUresult cuMemPoolTrimTo(CUmemoryPool pool, size_t keep_bytes) {
    CUresult result = real.cuMemPoolTrimTo(pool, keep_bytes);
    struct trim trimmed = {.keep_bytes = keep_bytes};
    if (result == CUDA_SUCCESS && holding_change(HOLDING_POOL, (uint64_t)(uintptr_t)pool, trim, &trimmed))
        charge_give_back(trimmed.card, EGPU_MEMORY_POOL, trimmed.given_bytes);
    return result;
}
