/* Copies and fills. What runs on the card itself (fills, copies from card to card) is a submission like a kernel; what
 * goes between host and card has an engine of its own and only stands back while higher priority has work. Small ones
 * pass: they are done before a wait would have begun. */
#include "real.h"
#include "submissions.h"

#define SUBMITTED_BYTES_MIN (64u << 10)

static int fill_key, copy_key; /* their addresses stand for a function */

static uint64_t size_of_2d(const CUDA_MEMCPY2D *copy) { return copy ? copy->WidthInBytes * copy->Height : 0; }
static uint64_t size_of_3d(const CUDA_MEMCPY3D *copy) {
    return copy ? copy->WidthInBytes * copy->Height * copy->Depth : 0;
}
static uint64_t size_of_peer(const CUDA_MEMCPY3D_PEER *copy) {
    return copy ? copy->WidthInBytes * copy->Height * copy->Depth : 0;
}
static uint64_t size_of_3d_batch(const CUDA_MEMCPY3D_BATCH_OP *copies, size_t count) {
    uint64_t bytes = 0;
    for (size_t each = 0; copies && each < count; each++)
        bytes += copies[each].extent.width * copies[each].extent.height * copies[each].extent.depth;
    return bytes;
}
static uint64_t size_of_batch(const size_t *sizes, size_t count) {
    uint64_t bytes = 0;
    for (size_t each = 0; sizes && each < count; each++) bytes += sizes[each];
    return bytes;
}

#define HOST_COPY(name, bytes, parameters, arguments)                                                                \
    CUresult name parameters {                                                                                       \
        submission_yield(bytes);                                                                                     \
        return real.name arguments;                                                                                  \
    }
#define HOST_COPIES(name, other, bytes, parameters, arguments)                                                       \
    HOST_COPY(name, bytes, parameters, arguments)                                                                    \
    HOST_COPY(other, bytes, parameters, arguments)

#define CARD_WORK(name, per_thread, on, key, bytes, parameters, arguments)                                           \
    CUresult name parameters {                                                                                       \
        struct submission submission = {0};                                                                          \
        if ((uint64_t)(bytes) >= SUBMITTED_BYTES_MIN)                                                                \
            submission_begin(&submission, submission_stream(on, per_thread), &key, bytes, 0);                        \
        return submission_end(&submission, real.name arguments);                                                     \
    }
#define CARD_WORKS(name, other, on, key, bytes, parameters, arguments)                                               \
    CARD_WORK(name, false, on, key, bytes, parameters, arguments)                                                    \
    CARD_WORK(other, true, on, key, bytes, parameters, arguments)

/* Between host and card, or between places nobody has looked at. */
HOST_COPIES(cuMemcpy, cuMemcpy_ptds, bytes, (CUdeviceptr to, CUdeviceptr from, size_t bytes), (to, from, bytes))
HOST_COPIES(cuMemcpyHtoD_v2, cuMemcpyHtoD_v2_ptds, bytes, (CUdeviceptr to, const void *from, size_t bytes),
            (to, from, bytes))
HOST_COPIES(cuMemcpyDtoH_v2, cuMemcpyDtoH_v2_ptds, bytes, (void *to, CUdeviceptr from, size_t bytes), (to, from, bytes))
HOST_COPY(cuMemcpyHtoA, bytes, (CUarray to, unsigned int offset, const void *from, unsigned int bytes),
          (to, offset, from, bytes))
HOST_COPIES(cuMemcpyHtoA_v2, cuMemcpyHtoA_v2_ptds, bytes, (CUarray to, size_t offset, const void *from, size_t bytes),
            (to, offset, from, bytes))
HOST_COPY(cuMemcpyAtoH, bytes, (void *to, CUarray from, unsigned int offset, unsigned int bytes),
          (to, from, offset, bytes))
HOST_COPIES(cuMemcpyAtoH_v2, cuMemcpyAtoH_v2_ptds, bytes, (void *to, CUarray from, size_t offset, size_t bytes),
            (to, from, offset, bytes))
HOST_COPIES(cuMemcpy2D_v2, cuMemcpy2D_v2_ptds, size_of_2d(copy), (const CUDA_MEMCPY2D *copy), (copy))
HOST_COPIES(cuMemcpy2DUnaligned_v2, cuMemcpy2DUnaligned_v2_ptds, size_of_2d(copy), (const CUDA_MEMCPY2D *copy), (copy))
HOST_COPIES(cuMemcpy3D_v2, cuMemcpy3D_v2_ptds, size_of_3d(copy), (const CUDA_MEMCPY3D *copy), (copy))
HOST_COPIES(cuMemcpy3DPeer, cuMemcpy3DPeer_ptds, size_of_peer(copy), (const CUDA_MEMCPY3D_PEER *copy), (copy))
HOST_COPIES(cuMemcpyPeer, cuMemcpyPeer_ptds, bytes,
            (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes),
            (to, to_context, from, from_context, bytes))
HOST_COPIES(cuMemcpyPeerAsync, cuMemcpyPeerAsync_ptsz, bytes,
            (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes,
             CUstream stream),
            (to, to_context, from, from_context, bytes, stream))
HOST_COPIES(cuMemcpyAsync, cuMemcpyAsync_ptsz, bytes, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream),
            (to, from, bytes, stream))
HOST_COPIES(cuMemcpyHtoDAsync_v2, cuMemcpyHtoDAsync_v2_ptsz, bytes,
            (CUdeviceptr to, const void *from, size_t bytes, CUstream stream), (to, from, bytes, stream))
HOST_COPIES(cuMemcpyDtoHAsync_v2, cuMemcpyDtoHAsync_v2_ptsz, bytes,
            (void *to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream))
HOST_COPY(cuMemcpyHtoAAsync, bytes,
          (CUarray to, unsigned int offset, const void *from, unsigned int bytes, CUstream stream),
          (to, offset, from, bytes, stream))
HOST_COPIES(cuMemcpyHtoAAsync_v2, cuMemcpyHtoAAsync_v2_ptsz, bytes,
            (CUarray to, size_t offset, const void *from, size_t bytes, CUstream stream),
            (to, offset, from, bytes, stream))
HOST_COPY(cuMemcpyAtoHAsync, bytes, (void *to, CUarray from, unsigned int offset, unsigned int bytes, CUstream stream),
          (to, from, offset, bytes, stream))
HOST_COPIES(cuMemcpyAtoHAsync_v2, cuMemcpyAtoHAsync_v2_ptsz, bytes,
            (void *to, CUarray from, size_t offset, size_t bytes, CUstream stream), (to, from, offset, bytes, stream))
HOST_COPIES(cuMemcpy2DAsync_v2, cuMemcpy2DAsync_v2_ptsz, size_of_2d(copy), (const CUDA_MEMCPY2D *copy, CUstream stream),
            (copy, stream))
HOST_COPIES(cuMemcpy3DAsync_v2, cuMemcpy3DAsync_v2_ptsz, size_of_3d(copy), (const CUDA_MEMCPY3D *copy, CUstream stream),
            (copy, stream))
HOST_COPIES(cuMemcpy3DPeerAsync, cuMemcpy3DPeerAsync_ptsz, size_of_peer(copy),
            (const CUDA_MEMCPY3D_PEER *copy, CUstream stream), (copy, stream))
HOST_COPIES(cuMemcpyBatchAsync, cuMemcpyBatchAsync_ptsz, size_of_batch(sizes, count),
            (CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, CUmemcpyAttributes *attributes,
             size_t *indexes, size_t attribute_count, size_t *failed, CUstream stream),
            (to, from, sizes, count, attributes, indexes, attribute_count, failed, stream))
HOST_COPIES(cuMemcpyBatchAsync_v2, cuMemcpyBatchAsync_v2_ptsz, size_of_batch(sizes, count),
            (CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, CUmemcpyAttributes *attributes,
             size_t *indexes, size_t attribute_count, CUstream stream),
            (to, from, sizes, count, attributes, indexes, attribute_count, stream))
HOST_COPIES(cuMemcpy3DBatchAsync, cuMemcpy3DBatchAsync_ptsz, size_of_3d_batch(copies, count),
            (size_t count, CUDA_MEMCPY3D_BATCH_OP *copies, size_t *failed, unsigned long long flags, CUstream stream),
            (count, copies, failed, flags, stream))
HOST_COPIES(cuMemcpy3DBatchAsync_v2, cuMemcpy3DBatchAsync_v2_ptsz, size_of_3d_batch(copies, count),
            (size_t count, CUDA_MEMCPY3D_BATCH_OP *copies, unsigned long long flags, CUstream stream),
            (count, copies, flags, stream))
HOST_COPIES(cuMemBatchDecompressAsync, cuMemBatchDecompressAsync_ptsz, UINT64_MAX,
            (CUmemDecompressParams *parameters, size_t count, unsigned int flags, size_t *failed, CUstream stream),
            (parameters, count, flags, failed, stream))

/* On the card. */
CARD_WORKS(cuMemcpyDtoD_v2, cuMemcpyDtoD_v2_ptds, NULL, copy_key, bytes,
           (CUdeviceptr to, CUdeviceptr from, size_t bytes), (to, from, bytes))
CARD_WORKS(cuMemcpyDtoA_v2, cuMemcpyDtoA_v2_ptds, NULL, copy_key, bytes,
           (CUarray to, size_t offset, CUdeviceptr from, size_t bytes), (to, offset, from, bytes))
CARD_WORKS(cuMemcpyAtoD_v2, cuMemcpyAtoD_v2_ptds, NULL, copy_key, bytes,
           (CUdeviceptr to, CUarray from, size_t offset, size_t bytes), (to, from, offset, bytes))
CARD_WORK(cuMemcpyAtoA, false, NULL, copy_key, bytes,
          (CUarray to, unsigned int to_offset, CUarray from, unsigned int from_offset, unsigned int bytes),
          (to, to_offset, from, from_offset, bytes))
CARD_WORKS(cuMemcpyAtoA_v2, cuMemcpyAtoA_v2_ptds, NULL, copy_key, bytes,
           (CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t bytes),
           (to, to_offset, from, from_offset, bytes))
CARD_WORKS(cuMemcpyDtoDAsync_v2, cuMemcpyDtoDAsync_v2_ptsz, stream, copy_key, bytes,
           (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream))

#define FILLS(bits, type)                                                                                            \
    CARD_WORKS(cuMemsetD##bits##_v2, cuMemsetD##bits##_v2_ptds, NULL, fill_key, count *sizeof(type),                 \
               (CUdeviceptr to, type value, size_t count), (to, value, count))                                       \
    CARD_WORKS(cuMemsetD##bits##Async, cuMemsetD##bits##Async_ptsz, stream, fill_key, count *sizeof(type),           \
               (CUdeviceptr to, type value, size_t count, CUstream stream), (to, value, count, stream))              \
    CARD_WORKS(cuMemsetD2D##bits##_v2, cuMemsetD2D##bits##_v2_ptds, NULL, fill_key, width *height * sizeof(type),    \
               (CUdeviceptr to, size_t pitch_bytes, type value, size_t width, size_t height),                        \
               (to, pitch_bytes, value, width, height))                                                              \
    CARD_WORKS(cuMemsetD2D##bits##Async, cuMemsetD2D##bits##Async_ptsz, stream, fill_key,                            \
               width *height * sizeof(type),                                                                         \
               (CUdeviceptr to, size_t pitch_bytes, type value, size_t width, size_t height, CUstream stream),       \
               (to, pitch_bytes, value, width, height, stream))
FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned int)
