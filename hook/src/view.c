/* What the application is told about memory: the container's share as if it were the card. */
#include "view.h"

#include "cards.h"
#include "oversubscription.h"
#include "quota.h"
#include "real.h"
#include "region.h"
#include "true_up.h"

struct view_memory view_memory_of(int card, uint64_t driver_total_bytes, uint64_t driver_free_bytes) {
    const struct egpu_card_limits *limits = region_limits(card);
    const struct egpu_card_usage *usage = region_card_usage(card);
    if (limits == NULL || usage == NULL)
        return (struct view_memory){driver_total_bytes, driver_total_bytes - driver_free_bytes, driver_free_bytes};
    region_reap_sometimes();
    true_up_shown(card);
    uint64_t quota = limits->memory_quota_bytes;
    uint64_t charged = __atomic_load_n(&usage->charged_bytes, __ATOMIC_RELAXED);
    /* Virtual size does not end where the card does. */
    uint64_t total = limits->oversubscription || quota < driver_total_bytes ? quota : driver_total_bytes;
    uint64_t unused = quota_free(total, charged, limits->oversubscription ? UINT64_MAX : driver_free_bytes);
    /* A quota that was lowered below what is in use shows a full card, and no free memory below zero. */
    return (struct view_memory){total, charged < total ? charged : total, unused};
}

/* The driver takes NULL for what nobody wants to know, and so must this. */
CUresult cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    size_t driver_free, driver_total;
    int card = card_current();
    if (card < 0 || (free_bytes == NULL && total_bytes == NULL))
        return real.cuMemGetInfo_v2(free_bytes, total_bytes);
    CUresult result = real.cuMemGetInfo_v2(&driver_free, &driver_total);
    if (result != CUDA_SUCCESS)
        return result;
    struct view_memory own = view_memory_of(card, driver_total, driver_free);
    if (free_bytes != NULL)
        *free_bytes = own.free_bytes;
    if (total_bytes != NULL)
        *total_bytes = own.total_bytes;
    return result;
}

CUresult cuDeviceTotalMem_v2(size_t *bytes, CUdevice device) {
    CUresult result = real.cuDeviceTotalMem_v2(bytes, device);
    int card = result == CUDA_SUCCESS ? card_of_device(device) : CARD_NONE;
    if (card >= 0)
        *bytes = view_memory_of(card, *bytes, *bytes).total_bytes;
    return result;
}

/* What the attribute would be for plain device memory. */
static void pretend(CUpointer_attribute attribute, void *value, CUdevice device) {
    if (value == NULL)
        return;
    switch (attribute) {
    case CU_POINTER_ATTRIBUTE_IS_MANAGED:
    case CU_POINTER_ATTRIBUTE_IS_LEGACY_CUDA_IPC_CAPABLE:
        *(char *)value = 0;
        break;
    case CU_POINTER_ATTRIBUTE_MEMORY_TYPE:
        *(unsigned int *)value = CU_MEMORYTYPE_DEVICE;
        break;
    case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL:
        *(CUdevice *)value = device;
        break;
    case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        *(void **)value = NULL;
        break;
    default:
        break;
    }
}

CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address) {
    CUdevice device;
    CUresult result = real.cuPointerGetAttribute(value, attribute, address);
    if (result != CUDA_SUCCESS || !oversubscription_owns(address, NULL, NULL, &device))
        return result;
    /* The driver's answer about device memory, which no host address leads to. */
    if (attribute == CU_POINTER_ATTRIBUTE_HOST_POINTER)
        result = CUDA_ERROR_INVALID_VALUE;
    pretend(attribute, value, device);
    return result;
}

CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute *attributes, void **values, CUdeviceptr address) {
    CUdevice device;
    CUresult result = real.cuPointerGetAttributes(count, attributes, values, address);
    if (result != CUDA_SUCCESS || !oversubscription_owns(address, NULL, NULL, &device))
        return result;
    for (unsigned int index = 0; index < count; index++)
        pretend(attributes[index], values[index], device);
    return result;
}
