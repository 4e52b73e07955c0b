/* Attributes, access and trimming of memory pools; the calls of 13.0 that name a pool by location. */
#include "pools.h"

static CUresult trim(CUmemoryPool pool, void *value) {
    pool_trim(pool, *(size_t *)value);
    return CUDA_SUCCESS;
}

static CUresult set_attribute_of(CUmemoryPool pool, CUmemPool_attribute attribute, uint64_t value) {
    switch (attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        pool->release_threshold_bytes = value;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        pool->reserved_bytes_most = pool->reserved_bytes;
        return value == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        pool->used_bytes_most = pool->used_bytes;
        return value == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

static bool is_reuse_rule(CUmemPool_attribute attribute) {
    return attribute >= CU_MEMPOOL_ATTR_REUSE_FOLLOW_EVENT_DEPENDENCIES &&
           attribute <= CU_MEMPOOL_ATTR_REUSE_ALLOW_INTERNAL_DEPENDENCIES;
}

struct attribute_call {
    CUmemPool_attribute attribute;
    void *value;
};

static CUresult set_attribute(CUmemoryPool pool, void *argument) {
    const struct attribute_call *call = argument;
    if (is_reuse_rule(call->attribute)) {
        pool->reuse[call->attribute - 1] = *(int *)call->value;
        return CUDA_SUCCESS;
    }
    return set_attribute_of(pool, call->attribute, *(uint64_t *)call->value);
}

static CUresult get_attribute(CUmemoryPool pool, void *argument) {
    const struct attribute_call *call = argument;
    uint64_t *value = call->value;
    if (is_reuse_rule(call->attribute)) {
        *(int *)call->value = pool->reuse[call->attribute - 1];
        return CUDA_SUCCESS;
    }
    switch (call->attribute) {
    case CU_MEMPOOL_ATTR_RELEASE_THRESHOLD:
        *value = pool->release_threshold_bytes;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT:
        *value = pool->reserved_bytes;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH:
        *value = pool->reserved_bytes_most;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_CURRENT:
        *value = pool->used_bytes;
        return CUDA_SUCCESS;
    case CU_MEMPOOL_ATTR_USED_MEM_HIGH:
        *value = pool->used_bytes_most;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

/* Every call on a pool: the driver is there, the handle is one, then the work under the lock. */
static CUresult on_pool(CUmemoryPool handle, CUresult (*work)(CUmemoryPool pool, void *argument), void *argument) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    CUmemoryPool pool = pool_of(handle);
    result = pool != NULL ? work(pool, argument) : CUDA_ERROR_INVALID_VALUE;
    memory_leave();
    return result;
}

CUresult sim_cuMemPoolTrimTo(CUmemoryPool pool, size_t keep_bytes) { return on_pool(pool, trim, &keep_bytes); }

CUresult sim_cuMemPoolSetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    struct attribute_call call = {attribute, value};
    return value == NULL ? CUDA_ERROR_INVALID_VALUE : on_pool(pool, set_attribute, &call);
}

CUresult sim_cuMemPoolGetAttribute(CUmemoryPool pool, CUmemPool_attribute attribute, void *value) {
    struct attribute_call call = {attribute, value};
    return value == NULL ? CUDA_ERROR_INVALID_VALUE : on_pool(pool, get_attribute, &call);
}

static bool is_card(const CUmemLocation *location) {
    return location->type == CU_MEM_LOCATION_TYPE_DEVICE && location->id >= 0 &&
           location->id < (int)sim_state()->cards;
}

static CUresult set_access(CUmemoryPool pool, void *argument) {
    const CUmemAccessDesc *access = argument;
    if (!is_card(&access->location))
        return CUDA_ERROR_INVALID_VALUE;
    if (access->location.id == pool->card && access->flags != CU_MEM_ACCESS_FLAGS_PROT_READWRITE)
        return CUDA_ERROR_INVALID_VALUE; /* A pool's own card always reaches it. */
    pool->access[access->location.id] = access->flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemPoolSetAccess(CUmemoryPool pool, const CUmemAccessDesc *access, size_t count) {
    CUresult result = access == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
    for (size_t index = 0; index < count && result == CUDA_SUCCESS; index++) {
        CUmemAccessDesc copy = access[index];
        result = on_pool(pool, set_access, &copy);
    }
    return result;
}

struct access_query {
    CUmemAccess_flags *flags;
    const CUmemLocation *location;
};

static CUresult get_access(CUmemoryPool pool, void *argument) {
    const struct access_query *query = argument;
    if (!is_card(query->location))
        return CUDA_ERROR_INVALID_VALUE;
    *query->flags = pool->access[query->location->id];
    return CUDA_SUCCESS;
}

CUresult sim_cuMemPoolGetAccess(CUmemAccess_flags *flags, CUmemoryPool pool, CUmemLocation *location) {
    struct access_query query = {flags, location};
    return flags == NULL || location == NULL ? CUDA_ERROR_INVALID_VALUE : on_pool(pool, get_access, &query);
}

CUresult sim_cuDeviceGetDefaultMemPool(CUmemoryPool *pool, CUdevice device);
CUresult sim_cuDeviceGetMemPool(CUmemoryPool *pool, CUdevice device);
CUresult sim_cuDeviceSetMemPool(CUdevice device, CUmemoryPool pool);

/* 13.0 names pools by place and type; of those only pinned memory of a card has a default here. */
static CUresult located(const CUmemLocation *location, CUmemAllocationType type) {
    if (location == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (type != CU_MEM_ALLOCATION_TYPE_PINNED || location->type != CU_MEM_LOCATION_TYPE_DEVICE)
        return CUDA_ERROR_NOT_SUPPORTED;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemGetDefaultMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type) {
    CUresult result = located(location, type);
    return result == CUDA_SUCCESS ? sim_cuDeviceGetDefaultMemPool(pool, location->id) : result;
}

CUresult sim_cuMemGetMemPool(CUmemoryPool *pool, CUmemLocation *location, CUmemAllocationType type) {
    CUresult result = located(location, type);
    return result == CUDA_SUCCESS ? sim_cuDeviceGetMemPool(pool, location->id) : result;
}

CUresult sim_cuMemSetMemPool(CUmemLocation *location, CUmemAllocationType type, CUmemoryPool pool) {
    CUresult result = located(location, type);
    return result == CUDA_SUCCESS ? sim_cuDeviceSetMemPool(location->id, pool) : result;
}
