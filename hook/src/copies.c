/* Copies and fills. What runs on the card itself (fills, copies from card to card) is a submission like a kernel; what
 * goes between host and card has an engine of its own, only stands back while higher priority has work, and is nobody's
 * card time. Small ones of these pass: they are done before a wait would have begun. */
#include "copy_places.h"
#include "real.h"
#include "region.h"
#include "submissions.h"

#define LARGE_BYTES_MIN (64u << 10)

static int fill_key, copy_key, decompress_key; /* their addresses stand for a function */

struct passage {
    struct submission submission;
    bool blocks; /* the application waits for the copy */
};

/* Sizes that differ by less than an eighth cost about the same; each one apart would have to be learned. */
static uint64_t size_class(uint64_t bytes) {
    enum { BITS_KEPT = 4 };
    if (bytes < LARGE_BYTES_MIN) return 0; /* as long as the card needs to begin with one */
    int bits = bytes ? 64 - __builtin_clzll(bytes) : 0;
    return bits <= BITS_KEPT ? bytes : bytes >> (bits - BITS_KEPT) << (bits - BITS_KEPT);
}

static void begin_on_card(struct passage *passage, CUstream stream, const void *key, uint64_t bytes) {
    passage->blocks = false;
    submission_begin(&passage->submission, stream, key, size_class(bytes), 0);
}

/* `stream` of an asynchronous copy; without one the application waits. */
static void begin_beside(struct passage *passage, CUstream stream, uint64_t bytes) {
    bool watched = region_gates_launches() && !submissions_in_callback;
    *passage = (struct passage){.blocks = !stream && watched && batches_outstanding()};
    submission_yield(stream, bytes);
    if (passage->blocks) batches_block_all();
    else if (stream && bytes >= LARGE_BYTES_MIN) submission_interrupt(stream);
}

static CUresult end(struct passage *passage, CUresult result) {
    if (passage->blocks) batches_settle_all();
    return submission_end(&passage->submission, result);
}

#define PASS_CARD(on, waits, bytes, looked) begin_on_card(&passage, on, &copy_key, bytes)
#define PASS_FILL(on, waits, bytes, looked) begin_on_card(&passage, on, &fill_key, bytes)
#define PASS_HOST(on, waits, bytes, looked) begin_beside(&passage, (waits) ? NULL : (on), bytes)
/* Between places that have to be looked at. */
#define PASS_LOOK(on, waits, bytes, looked)                                                                          \
    uint64_t size = (bytes);                                                                                         \
    if (size >= LARGE_BYTES_MIN && region_gates_launches() && (looked)) PASS_CARD(on, waits, size, );            \
    else PASS_HOST(on, waits, size, )

/* WAITING: in the default stream, and the application waits if the host takes part. QUEUED: in `stream`. */
#define WAITING(kind, name, per_thread, bytes, looked, parameters, arguments)                                        \
    CUresult name parameters {                                                                                       \
        struct passage passage;                                                                                      \
        PASS_##kind(submission_stream(NULL, per_thread), true, bytes, looked);                                       \
        return end(&passage, real.name arguments);                                                                   \
    }
#define QUEUED(kind, name, per_thread, bytes, looked, parameters, arguments)                                         \
    CUresult name parameters {                                                                                       \
        struct passage passage;                                                                                      \
        PASS_##kind(submission_stream(stream, per_thread), false, bytes, looked);                                    \
        return end(&passage, real.name arguments);                                                                   \
    }
#define WAITING_FORMS(kind, name, other, ...)                                                                        \
    WAITING(kind, name, false, __VA_ARGS__)                                                                          \
    WAITING(kind, other, true, __VA_ARGS__)
#define QUEUED_FORMS(kind, name, other, ...)                                                                         \
    QUEUED(kind, name, false, __VA_ARGS__)                                                                           \
    QUEUED(kind, other, true, __VA_ARGS__)

/* Between host and card. */
WAITING_FORMS(HOST, cuMemcpyHtoD_v2, cuMemcpyHtoD_v2_ptds, bytes, , (CUdeviceptr to, const void *from, size_t bytes),
              (to, from, bytes))
WAITING_FORMS(HOST, cuMemcpyDtoH_v2, cuMemcpyDtoH_v2_ptds, bytes, , (void *to, CUdeviceptr from, size_t bytes),
              (to, from, bytes))
WAITING(HOST, cuMemcpyHtoA, false, bytes, , (CUarray to, unsigned int offset, const void *from, unsigned int bytes),
        (to, offset, from, bytes))
WAITING_FORMS(HOST, cuMemcpyHtoA_v2, cuMemcpyHtoA_v2_ptds, bytes, ,
              (CUarray to, size_t offset, const void *from, size_t bytes), (to, offset, from, bytes))
WAITING(HOST, cuMemcpyAtoH, false, bytes, , (void *to, CUarray from, unsigned int offset, unsigned int bytes),
        (to, from, offset, bytes))
WAITING_FORMS(HOST, cuMemcpyAtoH_v2, cuMemcpyAtoH_v2_ptds, bytes, ,
              (void *to, CUarray from, size_t offset, size_t bytes), (to, from, offset, bytes))
QUEUED_FORMS(HOST, cuMemcpyHtoDAsync_v2, cuMemcpyHtoDAsync_v2_ptsz, bytes, ,
             (CUdeviceptr to, const void *from, size_t bytes, CUstream stream), (to, from, bytes, stream))
QUEUED_FORMS(HOST, cuMemcpyDtoHAsync_v2, cuMemcpyDtoHAsync_v2_ptsz, bytes, ,
             (void *to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream))
QUEUED(HOST, cuMemcpyHtoAAsync, false, bytes, ,
       (CUarray to, unsigned int offset, const void *from, unsigned int bytes, CUstream stream),
       (to, offset, from, bytes, stream))
QUEUED_FORMS(HOST, cuMemcpyHtoAAsync_v2, cuMemcpyHtoAAsync_v2_ptsz, bytes, ,
             (CUarray to, size_t offset, const void *from, size_t bytes, CUstream stream),
             (to, offset, from, bytes, stream))
QUEUED(HOST, cuMemcpyAtoHAsync, false, bytes, ,
       (void *to, CUarray from, unsigned int offset, unsigned int bytes, CUstream stream),
       (to, from, offset, bytes, stream))
QUEUED_FORMS(HOST, cuMemcpyAtoHAsync_v2, cuMemcpyAtoHAsync_v2_ptsz, bytes, ,
             (void *to, CUarray from, size_t offset, size_t bytes, CUstream stream), (to, from, offset, bytes, stream))

/* Between places that the call does not name, or names in a struct. */
WAITING_FORMS(LOOK, cuMemcpy, cuMemcpy_ptds, bytes, copy_on_card(to, from),
              (CUdeviceptr to, CUdeviceptr from, size_t bytes), (to, from, bytes))
WAITING_FORMS(LOOK, cuMemcpyPeer, cuMemcpyPeer_ptds, bytes, copy_on_card(to, from),
              (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes),
              (to, to_context, from, from_context, bytes))
WAITING_FORMS(LOOK, cuMemcpy2D_v2, cuMemcpy2D_v2_ptds, copy_bytes_2d(copy), copy_on_card_2d(copy),
              (const CUDA_MEMCPY2D *copy), (copy))
WAITING_FORMS(LOOK, cuMemcpy2DUnaligned_v2, cuMemcpy2DUnaligned_v2_ptds, copy_bytes_2d(copy), copy_on_card_2d(copy),
              (const CUDA_MEMCPY2D *copy), (copy))
WAITING_FORMS(LOOK, cuMemcpy3D_v2, cuMemcpy3D_v2_ptds, copy_bytes_3d(copy), copy_on_card_3d(copy),
              (const CUDA_MEMCPY3D *copy), (copy))
WAITING_FORMS(LOOK, cuMemcpy3DPeer, cuMemcpy3DPeer_ptds, copy_bytes_peer(copy), copy_on_card_peer(copy),
              (const CUDA_MEMCPY3D_PEER *copy), (copy))
QUEUED_FORMS(LOOK, cuMemcpyAsync, cuMemcpyAsync_ptsz, bytes, copy_on_card(to, from),
             (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream))
QUEUED_FORMS(LOOK, cuMemcpyPeerAsync, cuMemcpyPeerAsync_ptsz, bytes, copy_on_card(to, from),
             (CUdeviceptr to, CUcontext to_context, CUdeviceptr from, CUcontext from_context, size_t bytes,
              CUstream stream),
             (to, to_context, from, from_context, bytes, stream))
QUEUED_FORMS(LOOK, cuMemcpy2DAsync_v2, cuMemcpy2DAsync_v2_ptsz, copy_bytes_2d(copy), copy_on_card_2d(copy),
             (const CUDA_MEMCPY2D *copy, CUstream stream), (copy, stream))
QUEUED_FORMS(LOOK, cuMemcpy3DAsync_v2, cuMemcpy3DAsync_v2_ptsz, copy_bytes_3d(copy), copy_on_card_3d(copy),
             (const CUDA_MEMCPY3D *copy, CUstream stream), (copy, stream))
QUEUED_FORMS(LOOK, cuMemcpy3DPeerAsync, cuMemcpy3DPeerAsync_ptsz, copy_bytes_peer(copy), copy_on_card_peer(copy),
             (const CUDA_MEMCPY3D_PEER *copy, CUstream stream), (copy, stream))
QUEUED_FORMS(LOOK, cuMemcpyBatchAsync, cuMemcpyBatchAsync_ptsz, copy_bytes_batch(sizes, count),
             copy_on_card_batch(to, from, count),
             (CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, CUmemcpyAttributes *attributes,
              size_t *indexes, size_t attribute_count, size_t *failed, CUstream stream),
             (to, from, sizes, count, attributes, indexes, attribute_count, failed, stream))
QUEUED_FORMS(LOOK, cuMemcpyBatchAsync_v2, cuMemcpyBatchAsync_v2_ptsz, copy_bytes_batch(sizes, count),
             copy_on_card_batch(to, from, count),
             (CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count, CUmemcpyAttributes *attributes,
              size_t *indexes, size_t attribute_count, CUstream stream),
             (to, from, sizes, count, attributes, indexes, attribute_count, stream))
QUEUED_FORMS(LOOK, cuMemcpy3DBatchAsync, cuMemcpy3DBatchAsync_ptsz, copy_bytes_3d_batch(copies, count),
             copy_on_card_3d_batch(copies, count),
             (size_t count, CUDA_MEMCPY3D_BATCH_OP *copies, size_t *failed, unsigned long long flags, CUstream stream),
             (count, copies, failed, flags, stream))
QUEUED_FORMS(LOOK, cuMemcpy3DBatchAsync_v2, cuMemcpy3DBatchAsync_v2_ptsz, copy_bytes_3d_batch(copies, count),
             copy_on_card_3d_batch(copies, count),
             (size_t count, CUDA_MEMCPY3D_BATCH_OP *copies, unsigned long long flags, CUstream stream),
             (count, copies, flags, stream))

/* On the card. */
WAITING_FORMS(CARD, cuMemcpyDtoD_v2, cuMemcpyDtoD_v2_ptds, bytes, , (CUdeviceptr to, CUdeviceptr from, size_t bytes),
              (to, from, bytes))
WAITING_FORMS(CARD, cuMemcpyDtoA_v2, cuMemcpyDtoA_v2_ptds, bytes, ,
              (CUarray to, size_t offset, CUdeviceptr from, size_t bytes), (to, offset, from, bytes))
WAITING_FORMS(CARD, cuMemcpyAtoD_v2, cuMemcpyAtoD_v2_ptds, bytes, ,
              (CUdeviceptr to, CUarray from, size_t offset, size_t bytes), (to, from, offset, bytes))
WAITING(CARD, cuMemcpyAtoA, false, bytes, ,
        (CUarray to, unsigned int to_offset, CUarray from, unsigned int from_offset, unsigned int bytes),
        (to, to_offset, from, from_offset, bytes))
WAITING_FORMS(CARD, cuMemcpyAtoA_v2, cuMemcpyAtoA_v2_ptds, bytes, ,
              (CUarray to, size_t to_offset, CUarray from, size_t from_offset, size_t bytes),
              (to, to_offset, from, from_offset, bytes))
QUEUED_FORMS(CARD, cuMemcpyDtoDAsync_v2, cuMemcpyDtoDAsync_v2_ptsz, bytes, ,
             (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream), (to, from, bytes, stream))

/* How large it is stands in structs that newer drivers make longer; how many there are tells some of it apart. */
#define DECOMPRESS(name, per_thread)                                                                                 \
    CUresult name(CUmemDecompressParams *parameters, size_t count, unsigned int flags, size_t *failed,               \
                  CUstream stream) {                                                                                 \
        struct submission submission;                                                                                \
        submission_begin(&submission, submission_stream(stream, per_thread), &decompress_key, count, 0);             \
        return submission_end(&submission, real.name(parameters, count, flags, failed, stream));                     \
    }
DECOMPRESS(cuMemBatchDecompressAsync, false)
DECOMPRESS(cuMemBatchDecompressAsync_ptsz, true)

#define FILLS(bits, type)                                                                                            \
    WAITING_FORMS(FILL, cuMemsetD##bits##_v2, cuMemsetD##bits##_v2_ptds, count * sizeof(type), ,                     \
                  (CUdeviceptr to, type value, size_t count), (to, value, count))                                    \
    QUEUED_FORMS(FILL, cuMemsetD##bits##Async, cuMemsetD##bits##Async_ptsz, count * sizeof(type), ,                  \
                 (CUdeviceptr to, type value, size_t count, CUstream stream), (to, value, count, stream))            \
    WAITING_FORMS(FILL, cuMemsetD2D##bits##_v2, cuMemsetD2D##bits##_v2_ptds, width * height * sizeof(type), ,        \
                  (CUdeviceptr to, size_t pitch_bytes, type value, size_t width, size_t height),                     \
                  (to, pitch_bytes, value, width, height))                                                           \
    QUEUED_FORMS(FILL, cuMemsetD2D##bits##Async, cuMemsetD2D##bits##Async_ptsz, width * height * sizeof(type), ,     \
                 (CUdeviceptr to, size_t pitch_bytes, type value, size_t width, size_t height, CUstream stream),     \
                 (to, pitch_bytes, value, width, height, stream))
FILLS(8, unsigned char)
FILLS(16, unsigned short)
FILLS(32, unsigned int)
