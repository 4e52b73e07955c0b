/* Plain device memory: cuMemAlloc, cuMemFree, cuMemGetInfo, cuMemGetAddressRange; what a context takes and leaves. */
#include <sys/mman.h>

#include "copies.h"
#include "graph_memory.h"
#include "ipc.h"
#include "managed.h"
#include "pools.h"

#define CONTEXT_MIB_DEFAULT 300

/* A call that may wait for the card is not allowed while a stream of this thread, or a global one, captures. */
CUresult memory_begin(struct sim_context **context) {
    CUresult result = sim_enter_context(SIM_CALL_OTHER, context);
    if (result != CUDA_SUCCESS)
        return result;
    if (sim_thread_capture_forbids()) {
        sim_capture_invalidate();
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    return CUDA_SUCCESS;
}

CUresult memory_begin_allocation(struct sim_context **context) {
    CUresult result = memory_begin(context);
    if (result == CUDA_SUCCESS && sim_fault(SIM_FAULT_MEMORY))
        return CUDA_ERROR_OUT_OF_MEMORY;
    return result;
}

CUresult sim_cuMemAlloc_v2(CUdeviceptr *address, size_t bytes) {
    struct sim_context *context;
    CUresult result = memory_begin_allocation(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (address == NULL || bytes == 0)
        return CUDA_ERROR_INVALID_VALUE;
    struct memory_range range = {
        .bytes = bytes, .kind = MEMORY_PLAIN, .card = context->card, .context = MEMORY_HANDLE(context)};
    memory_enter();
    result = block_reserve(context->card, bytes, &range.block);
    if (result == CUDA_SUCCESS) {
        range.address = range.block.address;
        addresses_add(&range);
        *address = range.address;
    }
    memory_leave();
    return result;
}

void memory_free_range(struct memory_range *range) {
    switch (range->kind) {
    case MEMORY_PLAIN:
    case MEMORY_ARRAY:
    case MEMORY_CODE:
        block_release(&range->block);
        break;
    case MEMORY_MANAGED:
        managed_free(range);
        break;
    case MEMORY_POOL:
        pool_take_back(range);
        break;
    case MEMORY_HOST:
        card_memory_count_host(range->card, -(int64_t)range->bytes);
        munmap((void *)range->address, memory_round_up(range->bytes, MEMORY_GRANULE_BYTES));
        break;
    case MEMORY_REGISTERED:
        card_memory_count_host(range->card, -(int64_t)range->bytes);
        break;
    case MEMORY_GRAPH:
        graph_memory_end(range);
        break;
    case MEMORY_EXTERNAL:
    case MEMORY_MAPPED:
    case MEMORY_IMPORTED:
        break; /* Freed by their own classes. */
    }
    addresses_remove(range);
}

static bool freed_by_cuMemFree(const struct memory_range *range) {
    return range->kind == MEMORY_PLAIN || range->kind == MEMORY_MANAGED || range->kind == MEMORY_POOL ||
           range->kind == MEMORY_GRAPH || range->kind == MEMORY_EXTERNAL ||
           (range->kind == MEMORY_IMPORTED && ipc_pool(range) != NULL);
}

CUresult sim_cuMemFree_v2(CUdeviceptr address) {
    struct sim_context *context;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS || address == 0)
        return result;
    memory_enter();
    struct memory_range *range = addresses_find(address);
    bool known = range != NULL && range->address == address && freed_by_cuMemFree(range);
    int card = known ? range->card : MEMORY_NO_CARD;
    memory_leave();
    if (!known)
        return CUDA_ERROR_INVALID_VALUE;
    /* The driver frees no memory that a kernel may still use: it waits for the card first. */
    result = sim_wait_card(card);
    memory_enter();
    range = addresses_find(address);
    if (range != NULL && range->address == address && range->kind == MEMORY_GRAPH)
        result = graph_memory_free(range); /* Its address lives as long as its graph. */
    else if (range != NULL && range->address == address && range->kind == MEMORY_IMPORTED)
        ipc_close(range);
    else if (range != NULL && range->address == address && freed_by_cuMemFree(range))
        memory_free_range(range);
    memory_leave();
    return result;
}

CUresult sim_cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (free_bytes == NULL && total_bytes == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t spare, total;
    card_memory_info(context->card, &spare, &total);
    if (free_bytes != NULL)
        *free_bytes = spare;
    if (total_bytes != NULL)
        *total_bytes = total;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    if (bytes == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (device < 0 || device >= (int)sim_state()->cards)
        return CUDA_ERROR_INVALID_DEVICE;
    *bytes = sim_state()->card[device].memory_bytes;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemGetAddressRange_v2(CUdeviceptr *base, size_t *bytes, CUdeviceptr address) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct memory_range *range = addresses_find(address);
    if (range != NULL && base != NULL)
        *base = range->address;
    if (range != NULL && bytes != NULL)
        *bytes = range->bytes;
    memory_leave();
    return range != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

CUresult sim_code_make(struct sim_context *context, CUdeviceptr *address) {
    uint64_t bytes = sim_environment("EGPU_SIM_MODULE_MIB", 0) << 20;
    const struct sim_context *where = context != NULL ? context : sim_context_current();
    if (bytes == 0 || where == NULL)
        return CUDA_SUCCESS;
    struct memory_range range = {
        .bytes = bytes, .kind = MEMORY_CODE, .card = where->card, .context = MEMORY_HANDLE(context)};
    memory_enter();
    CUresult result = block_reserve(where->card, bytes, &range.block);
    if (result == CUDA_SUCCESS) {
        *address = range.address = range.block.address;
        addresses_add(&range);
    }
    memory_leave();
    return result;
}

void sim_code_end(CUdeviceptr address) {
    memory_enter();
    struct memory_range *range = addresses_find(address);
    if (range != NULL && range->kind == MEMORY_CODE)
        memory_free_range(range);
    memory_leave();
}

/* The driver's own room for stacks and heaps of a context. */
static CUresult context_made(struct sim_context *context) {
    uint64_t bytes = sim_environment("EGPU_SIM_CONTEXT_MIB", CONTEXT_MIB_DEFAULT) << 20;
    CUresult result = card_memory_charge(context->card, bytes);
    if (result == CUDA_SUCCESS)
        card_memory_count_context(context->card, (int64_t)bytes);
    return result;
}

static void context_ended(struct sim_context *context) {
    memory_enter();
    arrays_end_context(MEMORY_HANDLE(context));
    for (size_t index = 0; addresses_at(index) != NULL;) {
        struct memory_range *range = addresses_at(index);
        bool owned = range->context == MEMORY_HANDLE(context);
        if (owned && range->kind != MEMORY_MAPPED && range->kind != MEMORY_IMPORTED)
            memory_free_range(range);
        else
            index++;
    }
    memory_leave();
    uint64_t bytes = sim_environment("EGPU_SIM_CONTEXT_MIB", CONTEXT_MIB_DEFAULT) << 20;
    card_memory_discharge(context->card, bytes);
    card_memory_count_context(context->card, -(int64_t)bytes);
}

__attribute__((constructor)) static void take_part(void) {
    sim_context_made = context_made;
    sim_context_ended = context_ended;
}
