/* Reserved addresses and what is mapped into them: cuMemAddressReserve, cuMemMap, cuMemSetAccess, cuMemUnmap. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "virtual_memory.h"

struct reservation {
    struct reservation *next;
    uint64_t address;
    uint64_t bytes;
};

static struct reservation *reservations;

static bool whole_granules(uint64_t value) { return value % MEMORY_GRANULE_BYTES == 0; }

static struct reservation *reservation_of(uint64_t address, uint64_t bytes) {
    for (struct reservation *one = reservations; one != NULL; one = one->next)
        if (address >= one->address && address - one->address <= one->bytes &&
            bytes <= one->bytes - (address - one->address))
            return one;
    return NULL;
}

/* At an alignment beyond the granule some addresses are asked for and given back. */
static uint64_t reserve(uint64_t bytes, uint64_t alignment, uint64_t wanted) {
    if (wanted != 0) {
        void *there = mmap((void *)wanted, bytes, PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (there == (void *)wanted)
            return wanted;
        if (there != MAP_FAILED)
            munmap(there, bytes);
    }
    uint64_t extra = alignment > MEMORY_GRANULE_BYTES ? alignment : 0;
    uint64_t start = (uint64_t)block_map(bytes + extra, false);
    if (start == 0 || extra == 0)
        return start;
    uint64_t aligned = memory_round_up(start, alignment);
    if (aligned > start)
        munmap((void *)start, aligned - start);
    if (start + extra > aligned)
        munmap((void *)(aligned + bytes), start + extra - aligned);
    return aligned;
}

CUresult sim_cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wanted,
                                 unsigned long long flags) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    bool power = (alignment & (alignment - 1)) == 0;
    if (address == NULL || bytes == 0 || !whole_granules(bytes) || !power || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    struct reservation *one = malloc(sizeof *one);
    uint64_t start = one != NULL ? reserve(bytes, alignment, whole_granules(wanted) ? wanted : 0) : 0;
    if (start == 0) {
        free(one);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    memory_enter();
    *one = (struct reservation){.next = reservations, .address = start, .bytes = bytes};
    reservations = one;
    memory_leave();
    *address = start;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemAddressFree(CUdeviceptr address, size_t bytes) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct reservation **link = &reservations;
    while (*link != NULL && ((*link)->address != address || (*link)->bytes != bytes))
        link = &(*link)->next;
    struct reservation *one = *link;
    bool free_of_mappings = one != NULL && !addresses_overlap(address, bytes);
    if (free_of_mappings) {
        *link = one->next;
        munmap((void *)address, bytes);
        free(one);
    }
    memory_leave();
    return free_of_mappings ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* The same bytes at a second address: mremap of no bytes of a shared mapping leaves the first one in place. */
static bool map_again(const struct physical *physical, uint64_t offset, uint64_t address, uint64_t bytes) {
    void *there = mremap((void *)(physical->home + offset), 0, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)address);
    return there == (void *)address && mprotect(there, bytes, PROT_NONE) == 0;
}

CUresult sim_cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                      unsigned long long flags) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct physical *physical = physical_of(handle);
    bool fits = physical != NULL && flags == 0 && bytes > 0 && whole_granules(address) && whole_granules(bytes) &&
                whole_granules(offset) && offset <= physical->bytes && bytes <= physical->bytes - offset;
    bool free_place = fits && reservation_of(address, bytes) != NULL && !addresses_overlap(address, bytes);
    struct virtual_mapping *mapping = free_place ? calloc(1, sizeof *mapping) : NULL;
    if (mapping != NULL && map_again(physical, offset, address, bytes)) {
        mapping->physical = physical;
        mapping->offset = offset;
        physical->mappings++;
        struct memory_range range = {.address = address, .bytes = bytes, .kind = MEMORY_MAPPED,
                                     .card = physical->card, .closed = true, .body = mapping};
        addresses_add(&range);
        result = CUDA_SUCCESS;
    } else {
        free(mapping);
        result = free_place ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
    }
    memory_leave();
    return result;
}

/* True when [address, address + bytes) is made of whole mappings without a gap. */
static bool made_of_mappings(uint64_t address, uint64_t bytes) {
    uint64_t at = address;
    while (at < address + bytes) {
        const struct memory_range *range = addresses_find(at);
        if (range == NULL || range->kind != MEMORY_MAPPED || range->address != at)
            return false;
        at += range->bytes;
    }
    return bytes > 0 && at == address + bytes;
}

static void unmap(struct memory_range *range) {
    struct virtual_mapping *mapping = range->body;
    mmap((void *)range->address, range->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1,
         0);
    mapping->physical->mappings--;
    physical_drop_if_unused(mapping->physical);
    free(mapping);
    addresses_remove(range);
}

CUresult sim_cuMemUnmap(CUdeviceptr address, size_t bytes) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    bool known = made_of_mappings(address, bytes);
    for (uint64_t at = address; known && at < address + bytes;) {
        struct memory_range *range = addresses_find(at);
        at += range->bytes;
        unmap(range);
    }
    memory_leave();
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static bool access_known(const CUmemAccessDesc *access) {
    bool flags = access->flags == CU_MEM_ACCESS_FLAGS_PROT_NONE || access->flags == CU_MEM_ACCESS_FLAGS_PROT_READ ||
                 access->flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    if (access->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return flags && access->location.type != CU_MEM_LOCATION_TYPE_INVALID;
    return flags && access->location.id >= 0 && access->location.id < (int)sim_state()->cards;
}

/* The most any card may do is what this process may do: its kernels run here. */
static void protect(struct memory_range *range) {
    const struct virtual_mapping *mapping = range->body;
    unsigned most = mapping->host_access;
    for (int card = 0; card < SIM_CARDS_MAX; card++)
        most |= mapping->access[card];
    int protection = most == CU_MEM_ACCESS_FLAGS_PROT_READWRITE ? PROT_READ | PROT_WRITE
                     : most == CU_MEM_ACCESS_FLAGS_PROT_READ    ? PROT_READ
                                                                : PROT_NONE;
    mprotect((void *)range->address, range->bytes, protection);
    range->closed = protection == PROT_NONE;
}

CUresult sim_cuMemSetAccess(CUdeviceptr address, size_t bytes, const CUmemAccessDesc *access, size_t count) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    bool known = access != NULL && count > 0;
    for (size_t index = 0; known && index < count; index++)
        known = access_known(&access[index]);
    memory_enter();
    known = known && made_of_mappings(address, bytes);
    for (uint64_t at = address; known && at < address + bytes;) {
        struct memory_range *range = addresses_find(at);
        struct virtual_mapping *mapping = range->body;
        for (size_t index = 0; index < count; index++) {
            if (access[index].location.type == CU_MEM_LOCATION_TYPE_DEVICE)
                mapping->access[access[index].location.id] = access[index].flags;
            else
                mapping->host_access = access[index].flags;
        }
        protect(range);
        at += range->bytes;
    }
    memory_leave();
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemGetAccess(unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct memory_range *range = addresses_find(address);
    bool known = flags != NULL && location != NULL && range != NULL && range->kind == MEMORY_MAPPED;
    bool of_card = known && location->type == CU_MEM_LOCATION_TYPE_DEVICE;
    if (of_card)
        known = location->id >= 0 && location->id < (int)sim_state()->cards;
    if (known) {
        const struct virtual_mapping *mapping = range->body;
        *flags = of_card ? mapping->access[location->id] : mapping->host_access;
    }
    memory_leave();
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

void virtual_memory_forked(void) { reservations = NULL; }
