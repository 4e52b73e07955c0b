/* cuMemcpy2D, cuMemcpy3D, their forms between cards, and the batches of 12.8 and 13.0. */
#include <string.h>

#include "copies.h"

/* One side as the interface spells it. `height` is the rows of a slice, 0 in the two-dimensional form. */
struct box_side {
    CUmemorytype type;
    const void *host;
    CUdeviceptr device;
    CUarray array;
    size_t x, y, z;
    size_t pitch, height;
};

static CUresult side_of(const struct box_side *box, const struct copy_work *work, struct copy_side *side) {
    if (box->type == CU_MEMORYTYPE_ARRAY) {
        if (box->array == NULL)
            return CUDA_ERROR_INVALID_HANDLE;
        bool known = array_side(box->array, box->x, box->y, box->z, side);
        bool holds = known && array_holds(box->array, box->x, box->y, box->z, work);
        return holds ? CUDA_SUCCESS : known ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
    }
    uint64_t pitch = box->pitch != 0 ? box->pitch : work->width + box->x;
    uint64_t slice = pitch * (box->height != 0 ? box->height : work->height + box->y);
    if (work->height > 1 && pitch < work->width + box->x)
        return CUDA_ERROR_INVALID_VALUE;
    if (work->depth > 1 && slice < pitch * work->height)
        return CUDA_ERROR_INVALID_VALUE;
    uint64_t offset = box->z * slice + box->y * pitch + box->x;
    switch (box->type) {
    case CU_MEMORYTYPE_HOST:
        *side = (struct copy_side){.address = (uint64_t)box->host, .pitch = pitch, .slice = slice};
        break;
    case CU_MEMORYTYPE_DEVICE:
        *side = (struct copy_side){.address = box->device, .pitch = pitch, .slice = slice, .of_card = true};
        break;
    case CU_MEMORYTYPE_UNIFIED:
        *side = copy_side_unified(box->device, pitch, slice);
        break;
    default:
        return CUDA_ERROR_INVALID_VALUE;
    }
    if (side->address == 0)
        return CUDA_ERROR_INVALID_VALUE;
    side->address += offset;
    return CUDA_SUCCESS;
}

static CUresult sides_of(const struct box_side *from, const struct box_side *to, struct copy_work *work) {
    CUresult result = side_of(from, work, &work->from);
    return result == CUDA_SUCCESS ? side_of(to, work, &work->to) : result;
}

static CUresult work_of_2d(const CUDA_MEMCPY2D *copy, struct copy_work *work) {
    struct box_side from = {.type = copy->srcMemoryType, .host = copy->srcHost, .device = copy->srcDevice,
                            .array = copy->srcArray, .x = copy->srcXInBytes, .y = copy->srcY, .pitch = copy->srcPitch};
    struct box_side to = {.type = copy->dstMemoryType, .host = copy->dstHost, .device = copy->dstDevice,
                          .array = copy->dstArray, .x = copy->dstXInBytes, .y = copy->dstY, .pitch = copy->dstPitch};
    *work = (struct copy_work){.width = copy->WidthInBytes, .height = copy->Height, .depth = 1};
    return sides_of(&from, &to, work);
}

CUresult copy_work_of(const CUDA_MEMCPY3D *copy, struct copy_work *work) {
    if (copy->srcLOD != 0 || copy->dstLOD != 0)
        return CUDA_ERROR_INVALID_VALUE;
    struct box_side from = {.type = copy->srcMemoryType, .host = copy->srcHost, .device = copy->srcDevice,
                            .array = copy->srcArray, .x = copy->srcXInBytes, .y = copy->srcY, .z = copy->srcZ,
                            .pitch = copy->srcPitch, .height = copy->srcHeight};
    struct box_side to = {.type = copy->dstMemoryType, .host = copy->dstHost, .device = copy->dstDevice,
                          .array = copy->dstArray, .x = copy->dstXInBytes, .y = copy->dstY, .z = copy->dstZ,
                          .pitch = copy->dstPitch, .height = copy->dstHeight};
    *work = (struct copy_work){.width = copy->WidthInBytes, .height = copy->Height, .depth = copy->Depth};
    return sides_of(&from, &to, work);
}

static bool touches_host(const struct copy_work *work) { return !work->from.of_card || !work->to.of_card; }

static CUresult enter(const void *parameters) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    return result == CUDA_SUCCESS && parameters == NULL ? CUDA_ERROR_INVALID_VALUE : result;
}

static CUresult copy_2d(const CUDA_MEMCPY2D *copy, CUstream stream, bool asynchronous) {
    struct copy_work work;
    CUresult result = enter(copy);
    if (result == CUDA_SUCCESS)
        result = work_of_2d(copy, &work);
    if (result != CUDA_SUCCESS)
        return result;
    return copy_submit(&work, stream, !asynchronous && touches_host(&work) ? COPY_WAIT : COPY_ASYNC);
}

CUresult sim_cuMemcpy2D_v2(const CUDA_MEMCPY2D *copy) { return copy_2d(copy, NULL, false); }

CUresult sim_cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D *copy) { return copy_2d(copy, NULL, false); }

CUresult sim_cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D *copy, CUstream stream) { return copy_2d(copy, stream, true); }

static CUresult copy_3d(const CUDA_MEMCPY3D *copy, CUstream stream, bool asynchronous) {
    struct copy_work work;
    CUresult result = enter(copy);
    if (result == CUDA_SUCCESS)
        result = copy_work_of(copy, &work);
    if (result != CUDA_SUCCESS)
        return result;
    return copy_submit(&work, stream, !asynchronous && touches_host(&work) ? COPY_WAIT : COPY_ASYNC);
}

CUresult sim_cuMemcpy3D_v2(const CUDA_MEMCPY3D *copy) { return copy_3d(copy, NULL, false); }

CUresult sim_cuMemcpy3DAsync_v2(const CUDA_MEMCPY3D *copy, CUstream stream) { return copy_3d(copy, stream, true); }

static CUresult copy_peer(const CUDA_MEMCPY3D_PEER *copy, CUstream stream) {
    CUresult result = enter(copy);
    if (result != CUDA_SUCCESS)
        return result;
    if (sim_context_of(copy->srcContext) == NULL || sim_context_of(copy->dstContext) == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    CUDA_MEMCPY3D plain = {.srcXInBytes = copy->srcXInBytes, .srcY = copy->srcY, .srcZ = copy->srcZ,
                           .srcLOD = copy->srcLOD, .srcMemoryType = copy->srcMemoryType, .srcHost = copy->srcHost,
                           .srcDevice = copy->srcDevice, .srcArray = copy->srcArray, .srcPitch = copy->srcPitch,
                           .srcHeight = copy->srcHeight, .dstXInBytes = copy->dstXInBytes, .dstY = copy->dstY,
                           .dstZ = copy->dstZ, .dstLOD = copy->dstLOD, .dstMemoryType = copy->dstMemoryType,
                           .dstHost = copy->dstHost, .dstDevice = copy->dstDevice, .dstArray = copy->dstArray,
                           .dstPitch = copy->dstPitch, .dstHeight = copy->dstHeight,
                           .WidthInBytes = copy->WidthInBytes, .Height = copy->Height, .Depth = copy->Depth};
    return copy_3d(&plain, stream, true);
}

CUresult sim_cuMemcpy3DPeer(const CUDA_MEMCPY3D_PEER *copy) { return copy_peer(copy, NULL); }

CUresult sim_cuMemcpy3DPeerAsync(const CUDA_MEMCPY3D_PEER *copy, CUstream stream) { return copy_peer(copy, stream); }

/* A batch is not allowed in the legacy stream nor while capturing; the first bad copy is named, none after it runs. */
static CUresult batch_allowed(CUstream stream, size_t count) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (count == 0 || stream == NULL || stream == CU_STREAM_LEGACY)
        return CUDA_ERROR_INVALID_VALUE;
    return sim_stream_capturing(stream) ? CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED : CUDA_SUCCESS;
}

static bool attributes_known(const CUmemcpyAttributes *attributes, const size_t *indices, size_t count,
                             size_t copies) {
    if (attributes == NULL || indices == NULL || count == 0 || count > copies || indices[0] != 0)
        return false;
    for (size_t index = 0; index < count; index++)
        if (attributes[index].srcAccessOrder < 1 || attributes[index].srcAccessOrder > 3)
            return false;
    return true;
}

CUresult sim_cuMemcpyBatchAsync(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                                CUmemcpyAttributes *attributes, size_t *indices, size_t attributes_count,
                                size_t *failed, CUstream stream) {
    CUresult result = batch_allowed(stream, count);
    if (result == CUDA_SUCCESS && (to == NULL || from == NULL || sizes == NULL ||
                                   !attributes_known(attributes, indices, attributes_count, count)))
        result = CUDA_ERROR_INVALID_VALUE;
    if (failed != NULL)
        *failed = SIZE_MAX; /* None in particular. */
    for (size_t index = 0; index < count && result == CUDA_SUCCESS; index++) {
        struct copy_work work = {.from = copy_side_unified(from[index], 0, 0), .to = copy_side_unified(to[index], 0, 0),
                                 .width = sizes[index], .height = 1, .depth = 1};
        result = copy_submit(&work, stream, COPY_ASYNC);
        if (result != CUDA_SUCCESS && failed != NULL)
            *failed = index;
    }
    return result;
}

CUresult sim_cuMemcpyBatchAsync_v2(CUdeviceptr *to, CUdeviceptr *from, size_t *sizes, size_t count,
                                   CUmemcpyAttributes *attributes, size_t *indices, size_t attributes_count,
                                   CUstream stream) {
    return sim_cuMemcpyBatchAsync(to, from, sizes, count, attributes, indices, attributes_count, NULL, stream);
}

#define OPERAND_POINTER 1
#define OPERAND_ARRAY 2

/* Extents count bytes for pointers and elements as soon as an array takes part. */
static CUresult operand_side(const CUmemcpy3DOperand *operand, uint64_t element_bytes, const struct copy_work *work,
                             struct copy_side *side) {
    if (operand->type == OPERAND_ARRAY) {
        struct box_side box = {.type = CU_MEMORYTYPE_ARRAY, .array = operand->op.array.array,
                               .x = operand->op.array.offset.x * element_bytes, .y = operand->op.array.offset.y,
                               .z = operand->op.array.offset.z};
        return side_of(&box, work, side);
    }
    if (operand->type != OPERAND_POINTER)
        return CUDA_ERROR_INVALID_VALUE;
    struct box_side box = {.type = CU_MEMORYTYPE_UNIFIED, .device = operand->op.ptr.ptr,
                           .pitch = operand->op.ptr.rowLength * element_bytes, .height = operand->op.ptr.layerHeight};
    return side_of(&box, work, side);
}

static CUresult copy_operands(const CUDA_MEMCPY3D_BATCH_OP *one, CUstream stream) {
    uint64_t element_bytes = 1;
    if (one->src.type == OPERAND_ARRAY)
        element_bytes = array_element_bytes(one->src.op.array.array);
    else if (one->dst.type == OPERAND_ARRAY)
        element_bytes = array_element_bytes(one->dst.op.array.array);
    struct copy_work work = {
        .width = one->extent.width * element_bytes, .height = one->extent.height, .depth = one->extent.depth};
    CUresult result = operand_side(&one->src, element_bytes, &work, &work.from);
    if (result == CUDA_SUCCESS)
        result = operand_side(&one->dst, element_bytes, &work, &work.to);
    return result == CUDA_SUCCESS ? copy_submit(&work, stream, COPY_ASYNC) : result;
}

CUresult sim_cuMemcpy3DBatchAsync(size_t count, CUDA_MEMCPY3D_BATCH_OP *operations, size_t *failed,
                                  unsigned long long flags, CUstream stream) {
    CUresult result = batch_allowed(stream, count);
    if (result == CUDA_SUCCESS && (operations == NULL || flags != 0))
        result = CUDA_ERROR_INVALID_VALUE;
    if (failed != NULL)
        *failed = SIZE_MAX;
    for (size_t index = 0; index < count && result == CUDA_SUCCESS; index++) {
        result = copy_operands(&operations[index], stream);
        if (result != CUDA_SUCCESS && failed != NULL)
            *failed = index;
    }
    return result;
}

CUresult sim_cuMemcpy3DBatchAsync_v2(size_t count, CUDA_MEMCPY3D_BATCH_OP *operations, unsigned long long flags,
                                     CUstream stream) {
    return sim_cuMemcpy3DBatchAsync(count, operations, NULL, flags, stream);
}
