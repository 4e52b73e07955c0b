#include "capture.h"

#include "real.h"

unsigned capture_count;

void capture_began(CUresult result) {
    if (result == CUDA_SUCCESS) __atomic_fetch_add(&capture_count, 1, __ATOMIC_RELAXED);
}

void capture_ended(CUresult result) {
    unsigned before = __atomic_load_n(&capture_count, __ATOMIC_RELAXED);
    /* An invalidated capture ends as well, with an error that says so. */
    if (result != CUDA_SUCCESS && result != CUDA_ERROR_STREAM_CAPTURE_INVALIDATED &&
        result != CUDA_ERROR_STREAM_CAPTURE_UNJOINED)
        return;
    while (before > 0 &&
           !__atomic_compare_exchange_n(&capture_count, &before, before - 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

bool capture_asks(CUstream stream) {
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
    /* An error means the legacy stream while another captures: not ours to disturb either. */
    return real.cuStreamIsCapturing(stream, &status) != CUDA_SUCCESS || status != CU_STREAM_CAPTURE_STATUS_NONE;
}

struct capture_guard capture_guard_begin(void) {
    struct capture_guard guard = {.mode = CU_STREAM_CAPTURE_MODE_RELAXED};
    if (__atomic_load_n(&capture_count, __ATOMIC_RELAXED) == 0) return guard;
    guard.changed = real.cuThreadExchangeStreamCaptureMode(&guard.mode) == CUDA_SUCCESS;
    return guard;
}

void capture_guard_end(struct capture_guard guard) {
    if (guard.changed) real.cuThreadExchangeStreamCaptureMode(&guard.mode);
}
