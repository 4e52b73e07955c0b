/* Page-locked memory of the host: not the card's, so it has a quota of its own, or none, and is only counted. */
#include "cards.h"
#include "charges.h"
#include "real.h"
#include "region.h"

static CUresult undo_allocation(uint64_t address) { return real.cuMemFreeHost((void *)(uintptr_t)address); }
static CUresult undo_registration(uint64_t address) { return real.cuMemHostUnregister((void *)(uintptr_t)address); }

static CUresult settle(CUresult result, int card, void *address, size_t bytes, CUresult (*undo)(uint64_t)) {
    struct holding holding = {.kind = HOLDING_HOST, .key = (uint64_t)(uintptr_t)address, .card = card, .bytes = bytes};
    if (real.cuCtxGetCurrent(&holding.context) != CUDA_SUCCESS)
        holding.context = NULL;
    return charge_settle(result, &holding, undo);
}

CUresult cuMemAllocHost_v2(void **address, size_t bytes) {
    int card = card_current();
    if (card < 0 || address == NULL)
        return real.cuMemAllocHost_v2(address, bytes);
    if (charge_reserve_host(card, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = real.cuMemAllocHost_v2(address, bytes);
    return settle(result, card, *address, bytes, undo_allocation);
}

CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned int flags) {
    int card = card_current();
    if (card < 0 || address == NULL)
        return real.cuMemHostAlloc(address, bytes, flags);
    if (charge_reserve_host(card, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = real.cuMemHostAlloc(address, bytes, flags);
    return settle(result, card, *address, bytes, undo_allocation);
}

CUresult cuMemHostRegister(void *address, size_t bytes, unsigned int flags) {
    int card = card_current();
    if (card < 0)
        return real.cuMemHostRegister(address, bytes, flags);
    if (charge_reserve_host(card, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return settle(real.cuMemHostRegister(address, bytes, flags), card, address, bytes, undo_registration);
}

CUresult cuMemHostRegister_v2(void *address, size_t bytes, unsigned int flags) {
    int card = card_current();
    if (card < 0)
        return real.cuMemHostRegister_v2(address, bytes, flags);
    if (charge_reserve_host(card, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return settle(real.cuMemHostRegister_v2(address, bytes, flags), card, address, bytes, undo_registration);
}

/* The note goes first, for the driver may give the address to another thread at once. */
static CUresult give(void *address, CUresult (*call)(void *)) {
    struct holding holding;
    bool known = holding_take(HOLDING_HOST, (uint64_t)(uintptr_t)address, &holding);
    CUresult result = call(address);
    if (known && result == CUDA_SUCCESS)
        charge_release(&holding);
    else if (known)
        (void)holding_add(&holding);
    return result;
}

CUresult cuMemFreeHost(void *address) { return give(address, real.cuMemFreeHost); }
CUresult cuMemHostUnregister(void *address) { return give(address, real.cuMemHostUnregister); }
