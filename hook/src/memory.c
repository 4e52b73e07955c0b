/* Plain, pitched and managed device memory. */
#include "cards.h"
#include "charges.h"
#include "oversubscription.h"
#include "real.h"
#include "region.h"

/* cuMemAllocPitch rounds rows up to at most this (CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT is 32 and rows are kept
 * coalesced, which no card so far does in larger steps); the pitch it returns sets the charge right. */
static const uint64_t PITCH_BYTES_MAX = 512;

static CUresult undo(uint64_t address) {
    oversubscription_forget(address);
    return real.cuMemFree_v2(address);
}

static struct holding holding_of(int card, uint32_t memory_class, uint64_t bytes) {
    struct holding holding = {.kind = HOLDING_ADDRESS, .card = card, .memory_class = memory_class, .bytes = bytes};
    if (real.cuCtxGetCurrent(&holding.context) != CUDA_SUCCESS)
        holding.context = NULL;
    return holding;
}

CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    int card = card_current();
    if (card == CARD_NONE || address == NULL || bytes == 0)
        return real.cuMemAlloc_v2(address, bytes);
    bool movable = oversubscription_active(card);
    uint32_t memory_class = movable ? EGPU_MEMORY_OVERSUBSCRIBED : EGPU_MEMORY_DEVICE;
    if (charge_reserve(card, memory_class, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct holding holding = holding_of(card, memory_class, bytes);
    CUresult result = movable ? oversubscription_allocate(card, address, bytes) : real.cuMemAlloc_v2(address, bytes);
    holding.key = *address;
    return charge_settle(result, &holding, undo);
}

static uint64_t multiply_saturated(uint64_t a, uint64_t b) {
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t pitched_bytes_max(uint64_t width, uint64_t height) {
    uint64_t pitch = width > UINT64_MAX - PITCH_BYTES_MAX ? UINT64_MAX : (width + PITCH_BYTES_MAX - 1) & -PITCH_BYTES_MAX;
    return multiply_saturated(pitch, height);
}

CUresult cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width, size_t height, unsigned int element_bytes) {
    int card = card_current();
    if (card == CARD_NONE || address == NULL || pitch == NULL || width == 0 || height == 0)
        return real.cuMemAllocPitch_v2(address, pitch, width, height, element_bytes);
    bool movable = oversubscription_active(card);
    uint32_t memory_class = movable ? EGPU_MEMORY_OVERSUBSCRIBED : EGPU_MEMORY_DEVICE;
    uint64_t bound = pitched_bytes_max(width, height);
    if (charge_reserve(card, memory_class, bound) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct holding holding = holding_of(card, memory_class, bound);
    CUresult result = movable ? oversubscription_allocate_pitch(card, address, pitch, width, height, element_bytes)
                              : real.cuMemAllocPitch_v2(address, pitch, width, height, element_bytes);
    if (result == CUDA_SUCCESS) {
        holding.bytes = multiply_saturated(*pitch, height);
        if (holding.bytes < bound)
            charge_give_back(card, memory_class, bound - holding.bytes);
        else
            charge_anyway(card, memory_class, holding.bytes - bound);
    }
    holding.key = *address;
    return charge_settle(result, &holding, undo);
}

/* Charged whole: all of it may be on the card at once. */
CUresult cuMemAllocManaged(CUdeviceptr *address, size_t bytes, unsigned int flags) {
    int card = card_current();
    if (card == CARD_NONE || address == NULL || bytes == 0)
        return real.cuMemAllocManaged(address, bytes, flags);
    if (charge_reserve(card, EGPU_MEMORY_MANAGED, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct holding holding = holding_of(card, EGPU_MEMORY_MANAGED, bytes);
    CUresult result = real.cuMemAllocManaged(address, bytes, flags);
    holding.key = *address;
    return charge_settle(result, &holding, undo);
}

/* The note goes before the memory: once the driver has it back it may give the same address to another thread. Addresses
 * nobody noted (imported, made before the hook knew the call) are the driver's business alone. */
CUresult cuMemFree_v2(CUdeviceptr address) {
    struct holding holding;
    if (!holding_take(HOLDING_ADDRESS, address, &holding))
        return real.cuMemFree_v2(address);
    oversubscription_forget(address);
    CUresult result = real.cuMemFree_v2(address);
    if (result == CUDA_SUCCESS)
        charge_release(&holding);
    else
        holding_add(&holding);
    return result;
}
