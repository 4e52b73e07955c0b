/* cuMemRangeGetAttribute(s): what was advised for all pages of a range; where they differ, the driver says "none". */
#include "managed.h"

#define DEVICE_INVALID (-2) /* the interface's CU_DEVICE_INVALID: no one place */

struct range_view {
    bool read_mostly;
    bool accessed_by_host;
    uint16_t accessed_by_cards;
    int preferred;
    int prefetched;
};

static bool look(CUdeviceptr address, size_t bytes, struct range_view *view) {
    struct memory_range *range = addresses_find(address);
    if (range == NULL || range->kind != MEMORY_MANAGED || bytes == 0 ||
        bytes > range->address + range->bytes - address)
        return false;
    bool first = true;
    for (uint64_t at = address / MEMORY_GRANULE_BYTES * MEMORY_GRANULE_BYTES; at < address + bytes;
         at += MEMORY_GRANULE_BYTES) {
        uint64_t key;
        const struct managed_page *page = managed_page_at(range, at, &key);
        if (first)
            *view = (struct range_view){page->read_mostly, page->accessed_by_host, page->accessed_by_cards,
                                        page->preferred, page->prefetched};
        first = false;
        view->read_mostly &= page->read_mostly;
        view->accessed_by_host &= page->accessed_by_host;
        view->accessed_by_cards &= page->accessed_by_cards;
        view->preferred = view->preferred == page->preferred ? view->preferred : DEVICE_INVALID;
        view->prefetched = view->prefetched == page->prefetched ? view->prefetched : DEVICE_INVALID;
    }
    return true;
}

static int type_of(int place) {
    if (place == DEVICE_INVALID)
        return CU_MEM_LOCATION_TYPE_INVALID;
    return place == CU_DEVICE_CPU ? CU_MEM_LOCATION_TYPE_HOST : CU_MEM_LOCATION_TYPE_DEVICE;
}

static CUresult write_accessed_by(int *data, size_t count, const struct range_view *view) {
    size_t used = 0;
    for (int card = 0; card < SIM_CARDS_MAX && used < count; card++)
        if (view->accessed_by_cards >> card & 1)
            data[used++] = card;
    if (view->accessed_by_host && used < count)
        data[used++] = CU_DEVICE_CPU;
    while (used < count)
        data[used++] = DEVICE_INVALID;
    return CUDA_SUCCESS;
}

static CUresult write_attribute(void *data, size_t data_bytes, CUmem_range_attribute attribute,
                                const struct range_view *view) {
    int *value = data;
    if (data == NULL || data_bytes < sizeof *value || data_bytes % sizeof *value != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (attribute == CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY)
        return write_accessed_by(value, data_bytes / sizeof *value, view);
    if (data_bytes != sizeof *value)
        return CUDA_ERROR_INVALID_VALUE;
    switch (attribute) {
    case CU_MEM_RANGE_ATTRIBUTE_READ_MOSTLY:
        *value = view->read_mostly;
        return CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION:
        *value = view->preferred;
        return CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION:
        *value = view->prefetched;
        return CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_TYPE:
        *value = type_of(view->preferred);
        return CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION_ID:
        *value = view->preferred;
        return CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_TYPE:
        *value = type_of(view->prefetched);
        return CUDA_SUCCESS;
    case CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION_ID:
        *value = view->prefetched;
        return CUDA_SUCCESS;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
}

CUresult sim_cuMemRangeGetAttributes(void **data, size_t *data_bytes, CUmem_range_attribute *attributes, size_t count,
                                     CUdeviceptr address, size_t bytes) {
    struct range_view view = {.preferred = DEVICE_INVALID, .prefetched = DEVICE_INVALID};
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    if (data == NULL || data_bytes == NULL || attributes == NULL || count == 0)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    bool known = look(address, bytes, &view);
    memory_leave();
    if (!known)
        return CUDA_ERROR_INVALID_VALUE;
    for (size_t index = 0; index < count && result == CUDA_SUCCESS; index++)
        result = write_attribute(data[index], data_bytes[index], attributes[index], &view);
    return result;
}

CUresult sim_cuMemRangeGetAttribute(void *data, size_t data_bytes, CUmem_range_attribute attribute,
                                    CUdeviceptr address, size_t bytes) {
    return sim_cuMemRangeGetAttributes(&data, &data_bytes, &attribute, 1, address, bytes);
}
