/* The calls of managed memory: allocation, advice, prefetch, discard, attributes of ranges. */
#include <stdlib.h>
#include <string.h>

#include "managed.h"

CUresult sim_cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int flags) {
    struct sim_context *context;
    CUresult result = memory_begin_allocation(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (address == NULL || bytes == 0 || (flags != CU_MEM_ATTACH_GLOBAL && flags != CU_MEM_ATTACH_HOST))
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    result = managed_add(context->card, bytes, flags, MEMORY_HANDLE(context), NULL, address);
    memory_leave();
    return result;
}

CUresult sim_cuStreamAttachMemAsync(CUstream stream, CUdeviceptr address, size_t bytes, unsigned int flags) {
    struct sim_context *context;
    struct sim_stream *own;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result == CUDA_SUCCESS)
        result = sim_stream_of(stream, &own);
    if (result != CUDA_SUCCESS)
        return result;
    bool flags_known =
        flags == CU_MEM_ATTACH_GLOBAL || flags == CU_MEM_ATTACH_HOST || flags == CU_MEM_ATTACH_SINGLE;
    memory_enter();
    struct memory_range *range = addresses_find(address);
    bool whole = range != NULL && range->kind == MEMORY_MANAGED && range->address == address &&
                 (bytes == 0 || bytes == range->bytes);
    if (whole && flags_known)
        ((struct managed *)range->body)->attach_flags = flags;
    memory_leave();
    return whole && flags_known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* The managed range that holds all of [address, address + bytes), or NULL. */
static struct memory_range *managed_range(CUdeviceptr address, size_t bytes) {
    struct memory_range *range = addresses_find(address);
    bool holds = range != NULL && range->kind == MEMORY_MANAGED && bytes > 0 &&
                 bytes <= range->address + range->bytes - address;
    return holds ? range : NULL;
}

static bool place_known(int place) { return place == CU_DEVICE_CPU || (place >= 0 && place < (int)sim_state()->cards); }

/* A location as the number the first version of these calls takes; -3 for none that is known. */
static int place_of(CUmemLocation location) {
    switch (location.type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
        return location.id >= 0 ? location.id : -3;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
        return CU_DEVICE_CPU;
    default:
        return -3;
    }
}

static void advise_page(struct managed_page *page, CUmem_advise advice, int place) {
    uint16_t bit = place >= 0 ? (uint16_t)(1U << place) : 0;
    switch (advice) {
    case CU_MEM_ADVISE_SET_READ_MOSTLY:
        page->read_mostly = 1;
        break;
    case CU_MEM_ADVISE_UNSET_READ_MOSTLY:
        page->read_mostly = 0;
        break;
    case CU_MEM_ADVISE_SET_PREFERRED_LOCATION:
        page->preferred = (int8_t)place;
        break;
    case CU_MEM_ADVISE_UNSET_PREFERRED_LOCATION:
        page->preferred = MANAGED_PREFERRED_NONE;
        break;
    case CU_MEM_ADVISE_SET_ACCESSED_BY:
        page->accessed_by_cards |= bit;
        page->accessed_by_host |= place == CU_DEVICE_CPU;
        break;
    case CU_MEM_ADVISE_UNSET_ACCESSED_BY:
        page->accessed_by_cards &= (uint16_t)~bit;
        page->accessed_by_host &= place != CU_DEVICE_CPU;
        break;
    }
}

static CUresult advise(CUdeviceptr address, size_t bytes, CUmem_advise advice, int place) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    bool placed = advice == CU_MEM_ADVISE_SET_PREFERRED_LOCATION || advice == CU_MEM_ADVISE_SET_ACCESSED_BY ||
                  advice == CU_MEM_ADVISE_UNSET_ACCESSED_BY;
    if (advice < CU_MEM_ADVISE_SET_READ_MOSTLY || advice > CU_MEM_ADVISE_UNSET_ACCESSED_BY)
        return CUDA_ERROR_INVALID_VALUE;
    if (placed && !place_known(place))
        return CUDA_ERROR_INVALID_DEVICE;
    memory_enter();
    struct memory_range *range = managed_range(address, bytes);
    for (uint64_t at = address / MEMORY_GRANULE_BYTES * MEMORY_GRANULE_BYTES; range != NULL && at < address + bytes;
         at += MEMORY_GRANULE_BYTES) {
        uint64_t key;
        advise_page(managed_page_at(range, at, &key), advice, place);
    }
    memory_leave();
    return range != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device) {
    return advise(address, bytes, advice, device);
}

CUresult sim_cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocation location) {
    return advise(address, bytes, advice, place_of(location));
}

struct prefetch {
    CUdeviceptr address;
    uint64_t bytes;
    int place;
    bool discard;
    bool move;
};

/* Asked when the work is submitted or a captured graph is launched: the pages go, their time is the copy engine's. */
static uint64_t prefetch_ns(void *argument) {
    const struct prefetch *prefetch = argument;
    struct frames_moved moved = {0, 0};
    memory_enter();
    struct memory_range *range = managed_range(prefetch->address, prefetch->bytes);
    if (range != NULL && prefetch->discard)
        managed_discard(range, prefetch->address, prefetch->bytes);
    if (range != NULL && prefetch->move) {
        moved = managed_move(range, prefetch->address, prefetch->bytes, prefetch->place, false);
        for (uint64_t at = prefetch->address / MEMORY_GRANULE_BYTES * MEMORY_GRANULE_BYTES;
             at < prefetch->address + prefetch->bytes; at += MEMORY_GRANULE_BYTES) {
            uint64_t key;
            managed_page_at(range, at, &key)->prefetched = (int8_t)prefetch->place;
        }
    }
    memory_leave();
    return managed_transfer_ns(moved.in_bytes + moved.out_bytes);
}

static CUresult submit_prefetch(const struct prefetch *prefetch, CUstream stream) {
    memory_enter();
    bool managed = managed_range(prefetch->address, prefetch->bytes) != NULL;
    memory_leave();
    if (!managed)
        return CUDA_ERROR_INVALID_VALUE;
    struct sim_operation operation = {
        .kind = SIM_COPY, .extra_ns = prefetch_ns, .argument = prefetch, .argument_bytes = sizeof *prefetch};
    return sim_submit(stream, &operation);
}

static CUresult prefetch_one(CUdeviceptr address, size_t bytes, int place, CUstream stream) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (!place_known(place))
        return CUDA_ERROR_INVALID_DEVICE;
    if (sim_stream_capturing(stream))
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    struct prefetch prefetch = {.address = address, .bytes = bytes, .place = place, .move = true};
    return submit_prefetch(&prefetch, stream);
}

CUresult sim_cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream) {
    return prefetch_one(address, bytes, device, stream);
}

CUresult sim_cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation location, unsigned int flags,
                                   CUstream stream) {
    return flags != 0 ? CUDA_ERROR_INVALID_VALUE : prefetch_one(address, bytes, place_of(location), stream);
}

/* The batch forms of 13.0: location i holds from range indices[i] to the next one's. */
static CUresult batch(CUdeviceptr *addresses, size_t *sizes, size_t count, const CUmemLocation *locations,
                      const size_t *indices, size_t locations_count, bool discard, CUstream stream) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    bool move = locations != NULL;
    if (addresses == NULL || sizes == NULL || count == 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (move && (indices == NULL || locations_count == 0 || locations_count > count || indices[0] != 0))
        return CUDA_ERROR_INVALID_VALUE;
    if (sim_stream_capturing(stream))
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    size_t location = 0;
    for (size_t index = 0; index < count && result == CUDA_SUCCESS; index++) {
        while (move && location + 1 < locations_count && indices[location + 1] <= index)
            location++;
        int place = move ? place_of(locations[location]) : CU_DEVICE_CPU;
        struct prefetch prefetch = {
            .address = addresses[index], .bytes = sizes[index], .place = place, .discard = discard, .move = move};
        result = place_known(place) ? submit_prefetch(&prefetch, stream) : CUDA_ERROR_INVALID_DEVICE;
    }
    return result;
}

CUresult sim_cuMemPrefetchBatchAsync(CUdeviceptr *addresses, size_t *sizes, size_t count, CUmemLocation *locations,
                                     size_t *indices, size_t locations_count, unsigned long long flags,
                                     CUstream stream) {
    if (flags != 0 || locations == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    return batch(addresses, sizes, count, locations, indices, locations_count, false, stream);
}

CUresult sim_cuMemDiscardBatchAsync(CUdeviceptr *addresses, size_t *sizes, size_t count, unsigned long long flags,
                                    CUstream stream) {
    return flags != 0 ? CUDA_ERROR_INVALID_VALUE : batch(addresses, sizes, count, NULL, NULL, 0, true, stream);
}

CUresult sim_cuMemDiscardAndPrefetchBatchAsync(CUdeviceptr *addresses, size_t *sizes, size_t count,
                                               CUmemLocation *locations, size_t *indices, size_t locations_count,
                                               unsigned long long flags, CUstream stream) {
    if (flags != 0 || locations == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    return batch(addresses, sizes, count, locations, indices, locations_count, true, stream);
}
