/* Physical memory with handles (cuMemCreate) and the addresses it is mapped to. It is freed when its last handle is
 * released and its last mapping gone; until then it is charged. It belongs to the device, not to a context. */
#include "cards.h"
#include "charges.h"
#include "real.h"
#include "region.h"
#include "true_up.h"

static CUresult undo(uint64_t handle) { return real.cuMemRelease(handle); }

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags) {
    /* The card is the one the properties name, whatever context is current. Host memory is no card's. */
    if (handle == NULL || properties == NULL || bytes == 0 || properties->location.type != CU_MEM_LOCATION_TYPE_DEVICE)
        return real.cuMemCreate(handle, bytes, properties, flags);
    int card = card_of_device(properties->location.id);
    if (charge_reserve(card, EGPU_MEMORY_VIRTUAL, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = real.cuMemCreate(handle, bytes, properties, flags);
    struct holding holding = {.kind = HOLDING_PHYSICAL, .key = *handle, .card = card, .memory_class = EGPU_MEMORY_VIRTUAL,
                              .bytes = bytes, .references = 1};
    return charge_settle(result, &holding, undo);
}

static void add_references(struct holding *holding, void *count) { holding->references += *(uint64_t *)count; }

/* Out: what is left. */
static void drop_reference(struct holding *holding, void *left) {
    if (holding->references > 0)
        holding->references--;
    *(uint64_t *)left = holding->references;
}

/* Memory of other processes is not noted here and so not charged twice. */
static bool reference(uint64_t handle) {
    uint64_t one = 1;
    return holding_change(HOLDING_PHYSICAL, handle, add_references, &one);
}

/* The last of this process: who imported it has it all the same. */
static void last_gone(const struct holding *holding) {
    charge_release(holding);
    if (holding->shared)
        true_up_soon(holding->card);
}

static void dereference(uint64_t handle) {
    uint64_t left = 1;
    struct holding holding;
    if (holding_change(HOLDING_PHYSICAL, handle, drop_reference, &left) && left == 0 &&
        holding_take(HOLDING_PHYSICAL, handle, &holding))
        last_gone(&holding);
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
    struct holding holding;
    bool known = holding_find(HOLDING_PHYSICAL, handle, &holding);
    /* The last reference goes with its note, before the driver gives the handle's value anew. */
    bool last = known && holding.references <= 1 && holding_take(HOLDING_PHYSICAL, handle, &holding);
    CUresult result = real.cuMemRelease(handle);
    if (last && result == CUDA_SUCCESS)
        last_gone(&holding);
    else if (last)
        (void)holding_add(&holding);
    else if (known && result == CUDA_SUCCESS)
        dereference(handle);
    return result;
}

CUresult cuMemMap(CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
    CUresult result = real.cuMemMap(address, bytes, offset, handle, flags);
    if (result == CUDA_SUCCESS && reference(handle) &&
        !holding_add(&(struct holding){.kind = HOLDING_MAPPING, .key = address, .card = CARD_NONE, .bytes = bytes,
                                       .owner = handle}))
        dereference(handle);
    return result;
}

struct range {
    uint64_t first, end;
};

static bool maps_into(const struct holding *holding, const void *argument) {
    const struct range *range = argument;
    return holding->kind == HOLDING_MAPPING && holding->key >= range->first && holding->key < range->end;
}

static void mapping_gone(const struct holding *mapping) { dereference(mapping->owner); }

CUresult cuMemUnmap(CUdeviceptr address, size_t bytes) {
    struct range range = {address, address + bytes};
    CUresult result = real.cuMemUnmap(address, bytes);
    if (result == CUDA_SUCCESS && region_state() == REGION_READY) {
        struct holding mapping;
        /* Nearly always one mapping is taken as it was made. */
        if (holding_take(HOLDING_MAPPING, address, &mapping)) {
            mapping_gone(&mapping);
            if (mapping.bytes >= bytes)
                return result;
        }
        holdings_take_all(maps_into, &range, mapping_gone);
    }
    return result;
}

/* One more handle of memory that is mapped already; it has to be released too. */
CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address) {
    CUresult result = real.cuMemRetainAllocationHandle(handle, address);
    if (result == CUDA_SUCCESS)
        (void)reference(*handle);
    return result;
}

static void mark_shared(struct holding *holding, void *unused) {
    (void)unused;
    holding->shared = true;
}

CUresult cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,
                                      unsigned long long flags) {
    (void)holding_change(HOLDING_PHYSICAL, handle, mark_shared, NULL);
    return real.cuMemExportToShareableHandle(shareable, handle, type, flags);
}

/* What this process exported itself comes back under the handle it has. */
CUresult cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable,
                                        CUmemAllocationHandleType type) {
    CUresult result = real.cuMemImportFromShareableHandle(handle, shareable, type);
    if (result == CUDA_SUCCESS)
        (void)reference(*handle);
    return result;
}
