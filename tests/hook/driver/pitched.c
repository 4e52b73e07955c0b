/* cuMemAllocPitch: rows begin at multiples of the pitch, which is the card's. */
#include "memory.h"

CUresult sim_cuMemAlloc_v2(CUdeviceptr *address, size_t bytes);
CUresult sim_cuMemAllocPitch_v2(CUdeviceptr *address, size_t *pitch, size_t width_bytes, size_t height,
                                unsigned int element_bytes) {
    bool element_known = element_bytes == 4 || element_bytes == 8 || element_bytes == 16;
    if (address == NULL || pitch == NULL || width_bytes == 0 || height == 0 || !element_known)
        return sim_context_current() == NULL ? CUDA_ERROR_INVALID_CONTEXT : CUDA_ERROR_INVALID_VALUE;
    uint64_t row_bytes = memory_round_up(width_bytes, MEMORY_PITCH_BYTES);
    uint64_t bytes;
    if (row_bytes < width_bytes || __builtin_mul_overflow(row_bytes, height, &bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    CUresult result = sim_cuMemAlloc_v2(address, bytes);
    if (result == CUDA_SUCCESS)
        *pitch = row_bytes;
    return result;
}
