/* cuMemcpy of one row of bytes in all its forms, between host, card and arrays. */
#include "copies.h"

static CUresult enter(void) {
    struct sim_context *context;
    return sim_enter_context(SIM_CALL_OTHER, &context);
}

static struct copy_side host_side(const void *address) { return (struct copy_side){.address = (uint64_t)address}; }

static struct copy_side card_side(CUdeviceptr address) {
    return (struct copy_side){.address = address, .of_card = true};
}

static CUresult copy(struct copy_side to, struct copy_side from, size_t bytes, CUstream stream, enum copy_wait wait) {
    CUresult result = enter();
    if (result != CUDA_SUCCESS)
        return result;
    struct copy_work work = {.from = from, .to = to, .width = bytes, .height = 1, .depth = 1};
    return copy_submit(&work, stream, wait);
}

CUresult sim_cuMemcpyHtoD_v2(CUdeviceptr to, const void *from, size_t bytes) {
    return copy(card_side(to), host_side(from), bytes, NULL, COPY_WAIT);
}

CUresult sim_cuMemcpyDtoH_v2(void *to, CUdeviceptr from, size_t bytes) {
    return copy(host_side(to), card_side(from), bytes, NULL, COPY_WAIT);
}

/* On the card alone the call returns at once, as the driver's does. */
CUresult sim_cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy(card_side(to), card_side(from), bytes, NULL, COPY_ASYNC);
}

CUresult sim_cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void *from, size_t bytes, CUstream stream) {
    return copy(card_side(to), host_side(from), bytes, stream, COPY_ASYNC);
}

CUresult sim_cuMemcpyDtoHAsync_v2(void *to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy(host_side(to), card_side(from), bytes, stream, COPY_ASYNC);
}

CUresult sim_cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy(card_side(to), card_side(from), bytes, stream, COPY_ASYNC);
}

static CUresult copy_unified(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream, bool asynchronous) {
    struct copy_side to_side = copy_side_unified(to, 0, 0), from_side = copy_side_unified(from, 0, 0);
    bool waits = !asynchronous && !(to_side.of_card && from_side.of_card);
    return copy(to_side, from_side, bytes, stream, waits ? COPY_WAIT : COPY_ASYNC);
}

CUresult sim_cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t bytes) {
    return copy_unified(to, from, bytes, NULL, false);
}

CUresult sim_cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream) {
    return copy_unified(to, from, bytes, stream, true);
}

static CUresult contexts_known(CUcontext one, CUcontext other) {
    CUresult result = enter();
    if (result != CUDA_SUCCESS)
        return result;
    bool known = sim_context_of(one) != NULL && sim_context_of(other) != NULL;
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult sim_cuMemcpyPeer(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                          size_t bytes) {
    CUresult result = contexts_known(to_context, from_context);
    return result == CUDA_SUCCESS ? copy(card_side(to), card_side(from), bytes, NULL, COPY_ASYNC) : result;
}

CUresult sim_cuMemcpyPeerAsync(CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context,
                               size_t bytes, CUstream stream) {
    CUresult result = contexts_known(to_context, from_context);
    return result == CUDA_SUCCESS ? copy(card_side(to), card_side(from), bytes, stream, COPY_ASYNC) : result;
}

/* The bytes of an array from `offset`: arrays are linear here. */
static CUresult array_part(CUarray array, size_t offset, size_t bytes, struct copy_side *side) {
    if (!array_side(array, 0, 0, 0, side))
        return CUDA_ERROR_INVALID_HANDLE;
    if (offset > array_bytes(array) || bytes > array_bytes(array) - offset)
        return CUDA_ERROR_INVALID_VALUE;
    side->address += offset;
    return CUDA_SUCCESS;
}

static CUresult copy_to_array(CUarray to, size_t offset, struct copy_side from, size_t bytes, CUstream stream,
                              enum copy_wait wait) {
    struct copy_side side;
    CUresult result = array_part(to, offset, bytes, &side);
    return result == CUDA_SUCCESS ? copy(side, from, bytes, stream, wait) : result;
}

static CUresult copy_from_array(struct copy_side to, CUarray from, size_t offset, size_t bytes, CUstream stream,
                                enum copy_wait wait) {
    struct copy_side side;
    CUresult result = array_part(from, offset, bytes, &side);
    return result == CUDA_SUCCESS ? copy(to, side, bytes, stream, wait) : result;
}

CUresult sim_cuMemcpyDtoA_v2(CUarray to, size_t offset, CUdeviceptr from, size_t bytes) {
    return copy_to_array(to, offset, card_side(from), bytes, NULL, COPY_ASYNC);
}

CUresult sim_cuMemcpyAtoD_v2(CUdeviceptr to, CUarray from, size_t offset, size_t bytes) {
    return copy_from_array(card_side(to), from, offset, bytes, NULL, COPY_ASYNC);
}

CUresult sim_cuMemcpyHtoA_v2(CUarray to, size_t offset, const void *from, size_t bytes) {
    return copy_to_array(to, offset, host_side(from), bytes, NULL, COPY_WAIT);
}

CUresult sim_cuMemcpyAtoH_v2(void *to, CUarray from, size_t offset, size_t bytes) {
    return copy_from_array(host_side(to), from, offset, bytes, NULL, COPY_WAIT);
}

CUresult sim_cuMemcpyHtoAAsync_v2(CUarray to, size_t offset, const void *from, size_t bytes, CUstream stream) {
    return copy_to_array(to, offset, host_side(from), bytes, stream, COPY_ASYNC);
}

CUresult sim_cuMemcpyAtoHAsync_v2(void *to, CUarray from, size_t offset, size_t bytes, CUstream stream) {
    return copy_from_array(host_side(to), from, offset, bytes, stream, COPY_ASYNC);
}

CUresult sim_cuMemcpyAtoA_v2(CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t bytes) {
    struct copy_side side;
    CUresult result = array_part(from, from_offset, bytes, &side);
    return result == CUDA_SUCCESS ? copy_to_array(to, to_offset, side, bytes, NULL, COPY_ASYNC) : result;
}
