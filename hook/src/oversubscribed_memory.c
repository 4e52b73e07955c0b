/* Device memory turned managed: made, found and forgotten. */
#include "movable.h"
#include "oversubscription.h"
#include "real.h"
#include "region.h"

#include <stdint.h>

/* Rows of cuMemAllocPitch: CU_DEVICE_ATTRIBUTE_TEXTURE_PITCH_ALIGNMENT is 32, whole cache lines are kept coalesced. */
#define PITCH_BYTES 512

bool oversubscription_active(int card) {
    const struct egpu_card_limits *limits = card < 0 ? NULL : region_limits(card);
    return limits != NULL && limits->oversubscription != 0;
}

CUresult oversubscription_allocate(int card, CUdeviceptr *address, size_t bytes) {
    CUdevice device;
    CUresult result = real.cuCtxGetDevice(&device);
    if (result == CUDA_SUCCESS)
        result = real.cuMemAllocManaged(address, bytes, CU_MEM_ATTACH_GLOBAL);
    if (result != CUDA_SUCCESS)
        return result;
    struct movable movable = {.start = *address, .bytes = bytes, .kept_bytes = bytes, .card = card, .device = device};
    if (!movable_add(&movable)) {
        real.cuMemFree_v2(*address);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    real.cuMemAdvise(*address, bytes, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, device);
    oversubscription_changed(card);
    return CUDA_SUCCESS;
}

size_t oversubscription_pitch_bytes(size_t width_bytes) {
    return width_bytes > SIZE_MAX - PITCH_BYTES ? SIZE_MAX : (width_bytes + PITCH_BYTES - 1) / PITCH_BYTES * PITCH_BYTES;
}

CUresult oversubscription_allocate_pitch(int card, CUdeviceptr *address, size_t *pitch_bytes, size_t width_bytes,
                                         size_t height, unsigned int element_bytes) {
    size_t bytes;
    if (element_bytes != 4 && element_bytes != 8 && element_bytes != 16)
        return CUDA_ERROR_INVALID_VALUE; /* as the driver's own */
    if (__builtin_mul_overflow(oversubscription_pitch_bytes(width_bytes), height, &bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = oversubscription_allocate(card, address, bytes);
    if (result == CUDA_SUCCESS)
        *pitch_bytes = oversubscription_pitch_bytes(width_bytes);
    return result;
}

bool oversubscription_owns(CUdeviceptr address, CUdeviceptr *start, size_t *bytes, CUdevice *device) {
    struct movable found;
    if (!movable_find(address, &found))
        return false;
    if (start != NULL)
        *start = found.start;
    if (bytes != NULL)
        *bytes = found.bytes;
    if (device != NULL)
        *device = found.device;
    return true;
}

bool oversubscription_forget(CUdeviceptr address) {
    struct movable movable;
    if (!movable_find(address, &movable) || !movable_remove(address))
        return false;
    oversubscription_changed(movable.card);
    return true;
}
