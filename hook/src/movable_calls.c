/* Calls that tell managed memory from plain. Memory that was turned managed behind the application's back is plain device
 * memory to it, about which the driver takes no hints and answers CUDA_ERROR_INVALID_VALUE; moving the application's own
 * managed memory waits for a turn like a launch. What other processes or devices are to reach cannot move at all. */
#include "capture.h"
#include "cards.h"
#include "oversubscription.h"
#include "real.h"
#include "region.h"
#include "submissions.h"

/* To the application, not to the driver. */
static bool is_plain(CUdeviceptr address) { return oversubscription_owns(address, NULL, NULL, NULL); }

static void take_turn(CUstream stream, bool per_thread) {
    submission_interrupt(submission_stream(stream, per_thread));
    if (submissions_in_callback == 0 && !capture_holds(submission_stream(stream, per_thread)))
        oversubscription_gate(card_current());
}

#define PREFETCH(name, per_thread)                                                                                   \
    CUresult name(CUdeviceptr address, size_t bytes, CUdevice device, CUstream stream) {                             \
        if (is_plain(address)) return CUDA_ERROR_INVALID_VALUE;                                                      \
        take_turn(stream, per_thread);                                                                               \
        return real.name(address, bytes, device, stream);                                                            \
    }
PREFETCH(cuMemPrefetchAsync, false)
PREFETCH(cuMemPrefetchAsync_ptsz, true)

#define PREFETCH_TO(name, per_thread)                                                                                \
    CUresult name(CUdeviceptr address, size_t bytes, CUmemLocation place, unsigned int flags, CUstream stream) {     \
        if (is_plain(address)) return CUDA_ERROR_INVALID_VALUE;                                                      \
        take_turn(stream, per_thread);                                                                               \
        return real.name(address, bytes, place, flags, stream);                                                      \
    }
PREFETCH_TO(cuMemPrefetchAsync_v2, false)
PREFETCH_TO(cuMemPrefetchAsync_v2_ptsz, true)

#define PREFETCH_BATCH(name, per_thread)                                                                             \
    CUresult name(CUdeviceptr *addresses, size_t *bytes, size_t count, CUmemLocation *places, size_t *place_indexes, \
                  size_t place_count, unsigned long long flags, CUstream stream) {                                   \
        for (size_t each = 0; addresses && each < count; each++)                                                     \
            if (is_plain(addresses[each])) return CUDA_ERROR_INVALID_VALUE;                                          \
        take_turn(stream, per_thread);                                                                               \
        return real.name(addresses, bytes, count, places, place_indexes, place_count, flags, stream);                \
    }
PREFETCH_BATCH(cuMemPrefetchBatchAsync, false)
PREFETCH_BATCH(cuMemPrefetchBatchAsync_ptsz, true)
PREFETCH_BATCH(cuMemDiscardAndPrefetchBatchAsync, false)
PREFETCH_BATCH(cuMemDiscardAndPrefetchBatchAsync_ptsz, true)

CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUdevice device) {
    return is_plain(address) ? CUDA_ERROR_INVALID_VALUE : real.cuMemAdvise(address, bytes, advice, device);
}

CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise advice, CUmemLocation place) {
    return is_plain(address) ? CUDA_ERROR_INVALID_VALUE : real.cuMemAdvise_v2(address, bytes, advice, place);
}

CUresult cuMemRangeGetAttribute(void *data, size_t data_bytes, CUmem_range_attribute attribute, CUdeviceptr address,
                                size_t bytes) {
    return is_plain(address) ? CUDA_ERROR_INVALID_VALUE
                             : real.cuMemRangeGetAttribute(data, data_bytes, attribute, address, bytes);
}

CUresult cuMemRangeGetAttributes(void **data, size_t *data_bytes, CUmem_range_attribute *attributes, size_t count,
                                 CUdeviceptr address, size_t bytes) {
    return is_plain(address) ? CUDA_ERROR_INVALID_VALUE
                             : real.cuMemRangeGetAttributes(data, data_bytes, attributes, count, address, bytes);
}

#define DISCARD_BATCH(name)                                                                                          \
    CUresult name(CUdeviceptr *addresses, size_t *bytes, size_t count, unsigned long long flags, CUstream stream) {  \
        for (size_t each = 0; addresses && each < count; each++)                                                     \
            if (is_plain(addresses[each])) return CUDA_ERROR_INVALID_VALUE;                                          \
        return real.name(addresses, bytes, count, flags, stream);                                                    \
    }
DISCARD_BATCH(cuMemDiscardBatchAsync)
DISCARD_BATCH(cuMemDiscardBatchAsync_ptsz)

static CUresult cannot_be_shared(void) {
    region_complain("oversubscribed memory cannot be shared with other processes: give this container none of it");
    return CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address) {
    return is_plain(address) ? cannot_be_shared() : real.cuIpcGetMemHandle(handle, address);
}

CUresult cuMemGetHandleForAddressRange(void *handle, CUdeviceptr address, size_t bytes, CUmemRangeHandleType type,
                                       unsigned long long flags) {
    return is_plain(address) ? cannot_be_shared() : real.cuMemGetHandleForAddressRange(handle, address, bytes, type, flags);
}
