/* Copies of one form, of known places: copy_forms FORM PLACES MS. PLACES: card, host (to the card), cards (from one to the
 * other). For MS of the card's clock. */
#include <stdbool.h>

#include "driver_calls.h"
#include "memory_client.h"

enum { COLUMNS = 1 << 14, ROWS = 1 << 10, BYTES = COLUMNS * ROWS, POINTER = 1, ORDER_STREAM = 1 };

static CUstream stream;
static CUdeviceptr to, from;
static CUcontext to_context, from_context;
static bool from_host;
static CUmemorytype named; /* of the source; the target is named by what it is */

static void copy_plain(void) { MUST(cuMemcpy(to, from, BYTES)); }
static void copy_async(void) { MUST(cuMemcpyAsync(to, from, BYTES, stream)); }
static void copy_peer(void) { MUST(cuMemcpyPeer(to, to_context, from, from_context, BYTES)); }
static void copy_peer_async(void) { MUST(cuMemcpyPeerAsync(to, to_context, from, from_context, BYTES, stream)); }

static CUDA_MEMCPY2D box_2d(void) {
    return (CUDA_MEMCPY2D){.srcMemoryType = named, .srcHost = (void *)from, .srcDevice = from, .srcPitch = COLUMNS,
                           .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = to, .dstPitch = COLUMNS,
                           .WidthInBytes = COLUMNS, .Height = ROWS};
}

static CUDA_MEMCPY3D box_3d(void) {
    return (CUDA_MEMCPY3D){.srcMemoryType = named, .srcHost = (void *)from, .srcDevice = from, .srcPitch = COLUMNS,
                           .srcHeight = 1, .dstMemoryType = CU_MEMORYTYPE_UNIFIED, .dstDevice = to,
                           .dstPitch = COLUMNS, .dstHeight = 1, .WidthInBytes = COLUMNS, .Height = 1, .Depth = ROWS};
}

static CUDA_MEMCPY3D_PEER box_peer(void) {
    return (CUDA_MEMCPY3D_PEER){.srcMemoryType = named, .srcHost = (void *)from, .srcDevice = from,
                                .srcContext = from_context, .srcPitch = COLUMNS, .srcHeight = 1,
                                .dstMemoryType = CU_MEMORYTYPE_DEVICE, .dstDevice = to, .dstContext = to_context,
                                .dstPitch = COLUMNS, .dstHeight = 1, .WidthInBytes = COLUMNS, .Height = 1,
                                .Depth = ROWS};
}

static void copy_2d(void) {
    CUDA_MEMCPY2D box = box_2d();
    MUST(cuMemcpy2D_v2(&box));
}
static void copy_2d_unaligned(void) {
    CUDA_MEMCPY2D box = box_2d();
    MUST(cuMemcpy2DUnaligned_v2(&box));
}
static void copy_2d_async(void) {
    CUDA_MEMCPY2D box = box_2d();
    MUST(cuMemcpy2DAsync_v2(&box, stream));
}
static void copy_3d(void) {
    CUDA_MEMCPY3D box = box_3d();
    MUST(cuMemcpy3D_v2(&box));
}
static void copy_3d_async(void) {
    CUDA_MEMCPY3D box = box_3d();
    MUST(cuMemcpy3DAsync_v2(&box, stream));
}
static void copy_3d_peer(void) {
    CUDA_MEMCPY3D_PEER box = box_peer();
    MUST(cuMemcpy3DPeer(&box));
}
static void copy_3d_peer_async(void) {
    CUDA_MEMCPY3D_PEER box = box_peer();
    MUST(cuMemcpy3DPeerAsync(&box, stream));
}

static void copy_batch(void) {
    CUdeviceptr targets[] = {to, to + BYTES / 2}, sources[] = {from, from + BYTES / 2};
    size_t sizes[] = {BYTES / 2, BYTES / 2}, index = 0, failed;
    CUmemcpyAttributes attributes = {.srcAccessOrder = ORDER_STREAM};
    MUST(cuMemcpyBatchAsync(targets, sources, sizes, 2, &attributes, &index, 1, &failed, stream));
}

static void copy_3d_batch(void) {
    CUDA_MEMCPY3D_BATCH_OP one = {.src = {.type = POINTER}, .dst = {.type = POINTER}, .srcAccessOrder = ORDER_STREAM,
                                  .extent = {COLUMNS, ROWS, 1}};
    size_t failed;
    one.src.op.ptr.ptr = from;
    one.dst.op.ptr.ptr = to;
    MUST(cuMemcpy3DBatchAsync(1, &one, &failed, 0, stream));
}

static const struct memory_case cases[] = {
    {"plain", copy_plain},
    {"async", copy_async},
    {"peer", copy_peer},
    {"peer_async", copy_peer_async},
    {"2d", copy_2d},
    {"2d_unaligned", copy_2d_unaligned},
    {"2d_async", copy_2d_async},
    {"3d", copy_3d},
    {"3d_async", copy_3d_async},
    {"3d_peer", copy_3d_peer},
    {"3d_peer_async", copy_3d_peer_async},
    {"batch", copy_batch},
    {"3d_batch", copy_3d_batch},
};

static void open_places(const char *places) {
    static char host[BYTES];
    to_context = from_context = begin();
    MUST(cuStreamCreate(&stream, 1));
    MUST(cuMemAlloc_v2(&to, BYTES));
    MUST(cuMemAlloc_v2(&from, BYTES));
    named = CU_MEMORYTYPE_DEVICE;
    from_host = strcmp(places, "host") == 0;
    if (from_host) {
        from = (CUdeviceptr)(uintptr_t)host;
        named = CU_MEMORYTYPE_HOST;
    }
    if (strcmp(places, "cards") == 0) {
        MUST(cuDevicePrimaryCtxRetain(&from_context, 1));
        MUST(cuCtxSetCurrent(from_context));
        MUST(cuMemAlloc_v2(&from, BYTES));
        MUST(cuCtxSetCurrent(to_context));
    }
}

int main(int count, char **arguments) {
    if (count != 4) return 2;
    open_places(arguments[2]);
    uint64_t until_ns = egpuSimNow() + (uint64_t)atoi(arguments[3]) * 1000000;
    while (egpuSimNow() < until_ns)
        if (run_case(cases, sizeof cases / sizeof *cases, count, arguments) != 0) return 2;
    MUST(cuCtxSynchronize());
    return 0;
}
