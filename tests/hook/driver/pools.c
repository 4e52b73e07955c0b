/* cuMemAllocAsync and its like: memory in stream order out of pools. */
#include <stdlib.h>
#include <string.h>

#include "graph_memory.h"
#include "ipc.h"
#include "managed.h"
#include "pools.h"

static CUmemoryPool pools;
static CUmemoryPool defaults[SIM_CARDS_MAX];
static CUmemoryPool currents[SIM_CARDS_MAX];

CUmemoryPool pool_of(CUmemoryPool handle) {
    for (CUmemoryPool pool = pools; pool != NULL; pool = pool->next)
        if (pool == handle && !pool->destroyed)
            return pool;
    return NULL;
}

CUmemoryPool pool_add(int card, const CUmemPoolProps *properties) {
    CUmemoryPool pool = calloc(1, sizeof *pool);
    if (pool == NULL)
        return NULL;
    pool->magic = POOL_MAGIC;
    pool->card = card;
    pool->properties = *properties;
    pool->managed = properties->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED;
    for (int rule = 0; rule < POOL_REUSE_RULES; rule++)
        pool->reuse[rule] = 1;
    pool->access[card] = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    pool->next = pools;
    pools = pool;
    return pool;
}

CUmemoryPool pool_default(int card) {
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = card}};
    if (defaults[card] == NULL)
        defaults[card] = pool_add(card, &properties);
    return defaults[card];
}

CUmemoryPool pool_current(int card) { return currents[card] != NULL ? currents[card] : pool_default(card); }

/* Under sim_lock(). */
static bool is_past(struct sim_point point) {
    uint64_t completed_ns;
    return point.ticket == 0 || sim_point_done(point, &completed_ns);
}

/* Neighbours that are free in the same stream are one piece again; of different streams only when both are past. */
static bool can_join(const struct pool_piece *left, const struct pool_piece *right) {
    if (right == NULL || left->used || right->used)
        return false;
    if (left->stream == right->stream)
        return true;
    return is_past(left->freed) && is_past(right->freed);
}

static void join_pieces(struct pool_chunk *chunk) {
    for (struct pool_piece *piece = chunk->first; piece != NULL; piece = piece->next) {
        while (can_join(piece, piece->next)) {
            struct pool_piece *right = piece->next;
            piece->bytes += right->bytes;
            if (right->freed.ticket > piece->freed.ticket)
                piece->freed = right->freed;
            piece->next = right->next;
            if (right->next != NULL)
                right->next->previous = piece;
            free(right);
        }
    }
}

static void release_chunk(CUmemoryPool pool, struct pool_chunk *chunk) {
    struct pool_chunk **link = &pool->chunks;
    while (*link != chunk)
        link = &(*link)->next;
    *link = chunk->next;
    pool->reserved_bytes -= chunk->block.bytes;
    block_release(&chunk->block);
    free(chunk->first);
    free(chunk);
}

void pool_trim(CUmemoryPool pool, uint64_t keep_bytes) {
    for (struct pool_chunk *chunk = pool->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        sim_lock();
        sim_advance(sim_now());
        join_pieces(chunk);
        bool unused = chunk->first->next == NULL && !chunk->first->used && is_past(chunk->first->freed);
        sim_unlock();
        if (unused && pool->reserved_bytes >= keep_bytes + chunk->block.bytes)
            release_chunk(pool, chunk);
    }
}

void pool_forget_if_empty(CUmemoryPool pool) {
    if (!pool->destroyed || pool->used_bytes > 0)
        return;
    pool_trim(pool, 0);
    if (pool->chunks != NULL)
        return;
    CUmemoryPool *link = &pools;
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    free(pool);
}

/* What is unused beyond the threshold goes back to the card when the application waits for work. */
void sim_pools_synchronised(void) {
    memory_enter();
    for (CUmemoryPool pool = pools, next; pool != NULL; pool = next) {
        next = pool->next;
        if (pool->reserved_bytes > pool->release_threshold_bytes)
            pool_trim(pool, pool->release_threshold_bytes);
        pool_forget_if_empty(pool);
    }
    memory_leave();
}

/* Free in this stream's own order at once, in another's order when its last use is past. */
static bool may_reuse(const CUmemoryPool pool, const struct pool_piece *piece, CUstream stream, uint64_t bytes) {
    if (piece->used || piece->bytes < bytes)
        return false;
    if (piece->stream == stream)
        return true;
    return pool->reuse[CU_MEMPOOL_ATTR_REUSE_ALLOW_OPPORTUNISTIC - 1] && is_past(piece->freed);
}

static struct pool_piece *find_piece(CUmemoryPool pool, CUstream stream, uint64_t bytes) {
    struct pool_piece *best = NULL;
    sim_lock();
    sim_advance(sim_now());
    for (struct pool_chunk *chunk = pool->chunks; chunk != NULL; chunk = chunk->next) {
        join_pieces(chunk);
        for (struct pool_piece *piece = chunk->first; piece != NULL; piece = piece->next)
            if (may_reuse(pool, piece, stream, bytes) && (best == NULL || piece->bytes < best->bytes))
                best = piece;
    }
    sim_unlock();
    return best;
}

static CUresult add_chunk(CUmemoryPool pool, uint64_t bytes, struct pool_piece **piece) {
    struct pool_chunk *chunk = calloc(1, sizeof *chunk);
    struct pool_piece *first = calloc(1, sizeof *first);
    uint64_t whole = memory_round_up(bytes, MEMORY_GRANULE_BYTES);
    uint64_t most = pool->properties.maxSize;
    bool fits = whole >= bytes && (most == 0 || pool->reserved_bytes + whole <= memory_round_up(most, MEMORY_GRANULE_BYTES));
    CUresult result = CUDA_ERROR_OUT_OF_MEMORY;
    if (chunk != NULL && first != NULL && fits)
        result = block_reserve(pool->card, whole, &chunk->block);
    if (result == CUDA_ERROR_OUT_OF_MEMORY && fits && chunk != NULL && first != NULL) {
        /* Before the driver says no it gives back what other pools of the card keep unused. */
        for (CUmemoryPool other = pools; other != NULL; other = other->next)
            if (other->card == pool->card)
                pool_trim(other, 0);
        result = block_reserve(pool->card, whole, &chunk->block);
    }
    if (result != CUDA_SUCCESS) {
        free(chunk);
        free(first);
        return result;
    }
    *first = (struct pool_piece){.chunk = chunk, .address = chunk->block.address, .bytes = whole};
    chunk->first = first;
    chunk->pool = pool;
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    pool->reserved_bytes += whole;
    if (pool->reserved_bytes > pool->reserved_bytes_most)
        pool->reserved_bytes_most = pool->reserved_bytes;
    *piece = first;
    return CUDA_SUCCESS;
}

/* Cuts what is not needed off the piece; without room for the record the whole piece is given. */
static void split_piece(struct pool_piece *piece, uint64_t bytes) {
    if (piece->bytes == bytes)
        return;
    struct pool_piece *rest = malloc(sizeof *rest);
    if (rest == NULL)
        return;
    *rest = *piece;
    rest->address += bytes;
    rest->bytes -= bytes;
    rest->previous = piece;
    if (rest->next != NULL)
        rest->next->previous = rest;
    piece->next = rest;
    piece->bytes = bytes;
}

static CUresult take_piece(CUmemoryPool pool, uint64_t bytes, CUstream stream, CUcontext context,
                           CUdeviceptr *address) {
    uint64_t whole = memory_round_up(bytes, MEMORY_UNIT_BYTES);
    if (whole < bytes)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct pool_piece *piece = find_piece(pool, stream, whole);
    CUresult result = piece != NULL ? CUDA_SUCCESS : add_chunk(pool, whole, &piece);
    if (result != CUDA_SUCCESS)
        return result;
    split_piece(piece, whole);
    piece->used = true;
    pool->used_bytes += piece->bytes;
    if (pool->used_bytes > pool->used_bytes_most)
        pool->used_bytes_most = pool->used_bytes;
    struct memory_range range = {.address = piece->address, .bytes = bytes, .kind = MEMORY_POOL, .card = pool->card,
                                 .context = context, .body = piece};
    addresses_add(&range);
    *address = piece->address;
    return CUDA_SUCCESS;
}

void pool_take_back(struct memory_range *range) {
    struct pool_piece *piece = range->body;
    CUmemoryPool pool = piece->chunk->pool;
    piece->used = false;
    piece->freed = (struct sim_point){0, 0, 0}; /* Freed by cuMemFree, which has waited. */
    pool->used_bytes -= piece->bytes;
    pool_forget_if_empty(pool);
}

static CUresult allocate(CUdeviceptr *address, size_t bytes, CUmemoryPool handle, CUstream stream) {
    struct sim_context *context;
    struct sim_stream *own;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result == CUDA_SUCCESS && sim_fault(SIM_FAULT_MEMORY))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result == CUDA_SUCCESS)
        result = sim_stream_of(stream, &own);
    if (result != CUDA_SUCCESS)
        return result;
    if (address == NULL || bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (sim_stream_capturing(stream))
        return graph_memory_capture(address, bytes, sim_stream_card(stream), stream);
    memory_enter();
    CUmemoryPool pool = handle == NULL ? pool_current(sim_stream_card(stream)) : pool_of(handle);
    if (pool == NULL || pool->imported)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (pool->managed)
        result = managed_add(pool->card, bytes, CU_MEM_ATTACH_GLOBAL, MEMORY_HANDLE(context), pool, address);
    else
        result = take_piece(pool, bytes, (CUstream)own, MEMORY_HANDLE(context), address);
    memory_leave();
    return result;
}

CUresult sim_cuMemAllocAsync(CUdeviceptr *address, size_t bytes, CUstream stream) {
    return allocate(address, bytes, NULL, stream);
}

CUresult sim_cuMemAllocFromPoolAsync(CUdeviceptr *address, size_t bytes, CUmemoryPool pool, CUstream stream) {
    return pool == NULL ? CUDA_ERROR_INVALID_VALUE : allocate(address, bytes, pool, stream);
}

/* The end of the range's life in stream order: `own` is the stream, its tail the last operation that may use it. */
static CUresult free_in_order(struct memory_range *range, struct sim_stream *own) {
    if (range->kind == MEMORY_MANAGED && ((struct managed *)range->body)->pool != NULL) {
        memory_free_range(range);
        return CUDA_SUCCESS;
    }
    if (range->kind == MEMORY_IMPORTED && ipc_pool(range) != NULL) {
        ipc_close(range);
        return CUDA_SUCCESS;
    }
    if (range->kind != MEMORY_POOL)
        return CUDA_ERROR_INVALID_VALUE;
    struct pool_piece *piece = range->body;
    CUmemoryPool pool = piece->chunk->pool;
    piece->used = false;
    piece->stream = (CUstream)own;
    piece->freed = sim_stream_tail(own);
    pool->used_bytes -= piece->bytes;
    addresses_remove(range);
    return CUDA_SUCCESS;
}

CUresult sim_cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
    struct sim_context *context;
    struct sim_stream *own;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result == CUDA_SUCCESS)
        result = sim_stream_of(stream, &own);
    if (result != CUDA_SUCCESS || address == 0)
        return result;
    if (sim_stream_capturing(stream))
        return graph_memory_capture_free(address, stream);
    memory_enter();
    struct memory_range *range = addresses_find(address);
    if (range == NULL || range->address != address)
        result = CUDA_ERROR_INVALID_VALUE;
    else if (range->kind == MEMORY_GRAPH)
        result = graph_memory_free(range);
    else
        result = free_in_order(range, own);
    memory_leave();
    return result;
}

static CUresult card_known(CUdevice device) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    return device >= 0 && device < (int)sim_state()->cards ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

CUresult sim_cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device) {
    CUresult result = card_known(device);
    if (result != CUDA_SUCCESS || pool == NULL)
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    *pool = pool_default(device);
    memory_leave();
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device) {
    CUresult result = card_known(device);
    if (result != CUDA_SUCCESS || pool == NULL)
        return result != CUDA_SUCCESS ? result : CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    *pool = pool_current(device);
    memory_leave();
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceSetMemPool(CUdevice device, CUmemoryPool handle) {
    CUresult result = card_known(device);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    CUmemoryPool pool = pool_of(handle);
    if (pool != NULL && pool->card == device)
        currents[device] = pool;
    else
        result = CUDA_ERROR_INVALID_VALUE;
    memory_leave();
    return result;
}

CUresult sim_cuMemPoolCreate(CUmemoryPool *pool, const CUmemPoolProps *properties) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    if (pool == NULL || properties == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    bool managed = properties->allocType == CU_MEM_ALLOCATION_TYPE_MANAGED;
    if (properties->allocType != CU_MEM_ALLOCATION_TYPE_PINNED && !managed)
        return CUDA_ERROR_INVALID_VALUE;
    if (managed && sim_state()->cuda < 13000)
        return CUDA_ERROR_INVALID_VALUE; /* The type is not known to a 12.x driver (cuda_hook.md 4.8). */
    if (properties->handleTypes & ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_NOT_SUPPORTED;
    if (properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_NOT_SUPPORTED; /* Pools on the host are not simulated. */
    if (properties->location.id < 0 || properties->location.id >= (int)sim_state()->cards)
        return CUDA_ERROR_INVALID_DEVICE;
    memory_enter();
    *pool = pool_add(properties->location.id, properties);
    if (*pool != NULL)
        (*pool)->made = true;
    memory_leave();
    return *pool != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuMemPoolDestroy(CUmemoryPool handle) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    CUmemoryPool pool = pool_of(handle);
    if (pool == NULL || !pool->made) {
        result = CUDA_ERROR_INVALID_VALUE;
    } else {
        /* A card whose current pool is destroyed has its default one again. */
        if (currents[pool->card] == pool)
            currents[pool->card] = NULL;
        pool->destroyed = true;
        pool_forget_if_empty(pool);
    }
    memory_leave();
    return result;
}

void pools_forked(void) {
    pools = NULL;
    memset(defaults, 0, sizeof defaults);
    memset(currents, 0, sizeof currents);
}
