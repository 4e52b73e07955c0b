/* Pinned host memory: taken from the driver, or the application's own pages registered. */
#include <sys/mman.h>

#include "memory.h"

#define HOST_ALLOC_FLAGS 7U    /* portable 1, device map 2, write combined 4 */
#define HOST_REGISTER_FLAGS 15U /* portable 1, device map 2, input-output memory 4, read only 8 */

static CUresult add_host(void **address, size_t bytes, unsigned flags) {
    struct sim_context *context;
    CUresult result = memory_begin_allocation(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (address == NULL || bytes == 0 || (flags & ~HOST_ALLOC_FLAGS))
        return CUDA_ERROR_INVALID_VALUE;
    void *start = bytes > UINT64_MAX / 2 ? NULL : block_map(memory_round_up(bytes, MEMORY_GRANULE_BYTES), true);
    if (start == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct memory_range range = {.address = (uint64_t)start, .bytes = bytes, .kind = MEMORY_HOST,
                                 .card = context->card, .context = MEMORY_HANDLE(context), .flags = flags};
    memory_enter();
    addresses_add(&range);
    memory_leave();
    card_memory_count_host(context->card, (int64_t)bytes);
    *address = start;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemHostAlloc(void **address, size_t bytes, unsigned int flags) { return add_host(address, bytes, flags); }

CUresult sim_cuMemAllocHost_v2(void **address, size_t bytes) { return add_host(address, bytes, 0); }

CUresult sim_cuMemHostRegister_v2(void *address, size_t bytes, unsigned int flags) {
    struct sim_context *context;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (address == NULL || bytes == 0 || (flags & ~HOST_REGISTER_FLAGS))
        return CUDA_ERROR_INVALID_VALUE;
    struct memory_range range = {.address = (uint64_t)address, .bytes = bytes, .kind = MEMORY_REGISTERED,
                                 .card = context->card, .context = MEMORY_HANDLE(context), .flags = flags};
    memory_enter();
    bool known = addresses_overlap(range.address, bytes);
    if (!known)
        addresses_add(&range);
    memory_leave();
    if (known)
        return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    card_memory_count_host(context->card, (int64_t)bytes);
    return CUDA_SUCCESS;
}

/* Frees the range that starts here and is of this kind; `otherwise` when there is none. */
static CUresult remove_host(void *address, enum memory_kind kind, CUresult otherwise) {
    struct sim_context *context;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (address == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    result = sim_wait_context(context); /* No copy of it may be under way. */
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct memory_range *range = addresses_find((uint64_t)address);
    bool known = range != NULL && range->kind == kind && range->address == (uint64_t)address;
    if (known)
        memory_free_range(range);
    memory_leave();
    return known ? CUDA_SUCCESS : otherwise;
}

CUresult sim_cuMemFreeHost(void *address) { return remove_host(address, MEMORY_HOST, CUDA_ERROR_INVALID_VALUE); }

CUresult sim_cuMemHostUnregister(void *address) {
    return remove_host(address, MEMORY_REGISTERED, CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
}

static bool is_pinned(const struct memory_range *range) {
    return range != NULL && (range->kind == MEMORY_HOST || range->kind == MEMORY_REGISTERED);
}

CUresult sim_cuMemHostGetDevicePointer_v2(CUdeviceptr *pointer, void *address, unsigned int flags) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (pointer == NULL || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    bool known = is_pinned(addresses_find((uint64_t)address));
    memory_leave();
    if (known)
        *pointer = (CUdeviceptr)address;
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemHostGetFlags(unsigned int *flags, void *address) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct memory_range *range = addresses_find((uint64_t)address);
    bool known = flags != NULL && is_pinned(range);
    if (known)
        *flags = range->flags;
    memory_leave();
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* The first version has the same form; its name is still exported. */
CUresult sim_cuMemHostRegister(void *address, size_t bytes, unsigned int flags) {
    return sim_cuMemHostRegister_v2(address, bytes, flags);
}
