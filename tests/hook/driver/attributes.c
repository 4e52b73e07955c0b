/* cuPointerGetAttribute(s) and cuPointerSetAttribute: what an address is. */
#include "managed.h"
#include "pools.h"
#include "virtual_memory.h"

#define DEVICE_INVALID (-2)

static bool of_host(const struct memory_range *range) {
    return range->kind == MEMORY_HOST || range->kind == MEMORY_REGISTERED;
}

static CUmemoryPool pool_behind(const struct memory_range *range) {
    if (range->kind == MEMORY_POOL)
        return ((struct pool_piece *)range->body)->chunk->pool;
    return range->kind == MEMORY_MANAGED ? ((struct managed *)range->body)->pool : NULL;
}

static unsigned access_of(const struct memory_range *range) {
    const struct sim_context *context = sim_context_current();
    if (range->kind != MEMORY_MAPPED || context == NULL)
        return CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
    return ((struct virtual_mapping *)range->body)->access[context->card];
}

static unsigned handle_types_of(const struct memory_range *range) {
    if (range->kind == MEMORY_MAPPED)
        return ((struct virtual_mapping *)range->body)->physical->properties.requestedHandleTypes;
    CUmemoryPool pool = pool_behind(range);
    return pool != NULL ? pool->properties.handleTypes : CU_MEM_HANDLE_TYPE_NONE;
}

/* Attributes of four bytes; false when it is none of these. */
static bool small_attribute(const struct memory_range *range, CUpointer_attribute attribute, unsigned *value) {
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *value = of_host(range) || range->card < 0 ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE;
        return true;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *value = (unsigned)range->card;
        return true;
    case CU_POINTER_ATTRIBUTE_ACCESS_FLAGS:
        *value = access_of(range);
        return true;
    case CU_POINTER_ATTRIBUTE_ALLOWED_HANDLE_TYPES:
        *value = handle_types_of(range);
        return true;
    default:
        return false;
    }
}

/* The interface calls these bool or unsigned; clients give room for an int, the driver writes four bytes. */
static bool flag_attribute(const struct memory_range *range, CUpointer_attribute attribute, unsigned *value) {
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS:
        *value = range->sync_memops;
        return true;
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
        *value = range->kind == MEMORY_MANAGED;
        return true;
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        *value = range->kind == MEMORY_PLAIN;
        return true;
    case CU_POINTER_ATTRIBUTE_MAPPED:
        *value = !range->closed;
        return true;
    case CU_POINTER_ATTRIBUTE_IS_GPU_DIRECT_RDMA_CAPABLE:
        *value = range->kind == MEMORY_PLAIN || range->kind == MEMORY_MAPPED;
        return true;
    default:
        return false;
    }
}

static bool wide_attribute(const struct memory_range *range, uint64_t address, CUpointer_attribute attribute,
                           uint64_t *value) {
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_CONTEXT:
        *value = (uint64_t)range->context;
        return true;
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
        *value = address;
        return true;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        *value = of_host(range) || range->kind == MEMORY_MANAGED ? address : 0;
        return *value != 0;
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
        *value = range->buffer_id;
        return true;
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
        *value = range->address;
        return true;
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
        *value = range->bytes;
        return true;
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        *value = (uint64_t)pool_behind(range);
        return true;
    default:
        return false;
    }
}

static CUresult write_attribute(const struct memory_range *range, uint64_t address, CUpointer_attribute attribute,
                                void *data) {
    unsigned small;
    uint64_t wide;
    if (small_attribute(range, attribute, &small) || flag_attribute(range, attribute, &small)) {
        *(unsigned *)data = small;
        return CUDA_SUCCESS;
    }
    if (!wide_attribute(range, address, attribute, &wide))
        return CUDA_ERROR_INVALID_VALUE;
    *(uint64_t *)data = wide;
    return CUDA_SUCCESS;
}

CUresult sim_cuPointerGetAttribute(void *data, CUpointer_attribute attribute, CUdeviceptr address) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct memory_range *range = addresses_find(address);
    result = data == NULL || range == NULL ? CUDA_ERROR_INVALID_VALUE
                                           : write_attribute(range, address, attribute, data);
    memory_leave();
    return result;
}

/* What the driver says of an address it does not know, in the form that asks for several: nothing, but no error. */
static void write_nothing(CUpointer_attribute attribute, void *data) {
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(int *)data = DEVICE_INVALID;
        break;
    case CU_POINTER_ATTRIBUTE_CONTEXT:
    case CU_POINTER_ATTRIBUTE_DEVICE_POINTER:
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
    case CU_POINTER_ATTRIBUTE_BUFFER_ID:
    case CU_POINTER_ATTRIBUTE_MEMORY_BLOCK_ID:
    case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR:
    case CU_POINTER_ATTRIBUTE_RANGE_SIZE:
    case CU_POINTER_ATTRIBUTE_MAPPING_BASE_ADDR:
    case CU_POINTER_ATTRIBUTE_MAPPING_SIZE:
    case CU_POINTER_ATTRIBUTE_MEMPOOL_HANDLE:
        *(uint64_t *)data = 0;
        break;
    default:
        *(unsigned *)data = 0;
        break;
    }
}

CUresult sim_cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **data,
                                    CUdeviceptr address) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    if (count == 0 || attributes == NULL || data == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    const struct memory_range *range = addresses_find(address);
    for (unsigned index = 0; index < count; index++) {
        if (range == NULL || write_attribute(range, address, attributes[index], data[index]) != CUDA_SUCCESS)
            write_nothing(attributes[index], data[index]);
    }
    memory_leave();
    return CUDA_SUCCESS;
}

CUresult sim_cuPointerSetAttribute(const void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct memory_range *range = addresses_find(address);
    bool known = value != NULL && attribute == CU_POINTER_ATTRIBUTE_SYNC_MEMOPS && range != NULL;
    if (known)
        range->sync_memops = *(const unsigned *)value;
    memory_leave();
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
