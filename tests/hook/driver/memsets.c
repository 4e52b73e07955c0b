/* cuMemset of one and of several rows, in elements of 1, 2 and 4 bytes. */
#include "copies.h"

static CUresult fill(CUdeviceptr address, size_t pitch, uint32_t value, uint32_t element_bytes, size_t width,
                     size_t height, CUstream stream) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (height > 1 && pitch < width * element_bytes)
        return CUDA_ERROR_INVALID_VALUE;
    struct fill_work work = {.address = address, .pitch = pitch, .width = width, .height = height, .value = value,
                             .element_bytes = element_bytes};
    return fill_submit(&work, stream);
}

CUresult sim_cuMemsetD8_v2(CUdeviceptr to, unsigned char value, size_t count) {
    return fill(to, 0, value, 1, count, 1, NULL);
}

CUresult sim_cuMemsetD16_v2(CUdeviceptr to, unsigned short value, size_t count) {
    return fill(to, 0, value, 2, count, 1, NULL);
}

CUresult sim_cuMemsetD32_v2(CUdeviceptr to, unsigned int value, size_t count) {
    return fill(to, 0, value, 4, count, 1, NULL);
}

CUresult sim_cuMemsetD8Async(CUdeviceptr to, unsigned char value, size_t count, CUstream stream) {
    return fill(to, 0, value, 1, count, 1, stream);
}

CUresult sim_cuMemsetD16Async(CUdeviceptr to, unsigned short value, size_t count, CUstream stream) {
    return fill(to, 0, value, 2, count, 1, stream);
}

CUresult sim_cuMemsetD32Async(CUdeviceptr to, unsigned int value, size_t count, CUstream stream) {
    return fill(to, 0, value, 4, count, 1, stream);
}

CUresult sim_cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height) {
    return fill(to, pitch, value, 1, width, height, NULL);
}

CUresult sim_cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height) {
    return fill(to, pitch, value, 2, width, height, NULL);
}

CUresult sim_cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height) {
    return fill(to, pitch, value, 4, width, height, NULL);
}

CUresult sim_cuMemsetD2D8Async(CUdeviceptr to, size_t pitch, unsigned char value, size_t width, size_t height,
                               CUstream stream) {
    return fill(to, pitch, value, 1, width, height, stream);
}

CUresult sim_cuMemsetD2D16Async(CUdeviceptr to, size_t pitch, unsigned short value, size_t width, size_t height,
                                CUstream stream) {
    return fill(to, pitch, value, 2, width, height, stream);
}

CUresult sim_cuMemsetD2D32Async(CUdeviceptr to, size_t pitch, unsigned int value, size_t width, size_t height,
                                CUstream stream) {
    return fill(to, pitch, value, 4, width, height, stream);
}
