/* Tensor maps: what may be encoded, and what may not; the encoding itself only this file understands. */
#include <string.h>

#include "sim.h"
#include "simulated.h"

#define RANK_MAX 5
#define RANK_IM2COL_LEAST 3
#define ADDRESS_ALIGNMENT 16
#define ADDRESS_ALIGNMENT_WIDE 32 /* interleaved, and the packed types */
#define DIMENSION_MAX (UINT64_C(1) << 32)
#define STRIDE_MAX (UINT64_C(1) << 40)
#define BOX_MAX 256
#define ELEMENT_STRIDE_MAX 8
#define CHANNELS_MAX 256
#define PIXELS_MAX 1024
#define INNER_BYTES_STEP 16
#define MAP_MAGIC UINT64_C(0x70616d726f736e65)

enum { INTERLEAVE_NONE = 0, INTERLEAVE_16 = 1, INTERLEAVE_32 = 2 };
enum { SWIZZLE_NONE = 0, SWIZZLE_32 = 1, SWIZZLE_MAX = 6 };
enum { TYPE_PACKED = 13, TYPE_MAX = 15, FLOAT_FIRST = 6, FLOAT_LAST = 12, PROMOTION_MAX = 3, WIDE_MODE_MAX = 1 };

/* What all three kinds share. */
struct tensor {
    unsigned type, rank;
    const void *address;
    const uint64_t *sizes, *strides; /* strides: of all dimensions but the first */
    const uint32_t *element_strides;
    unsigned interleave, swizzle, promotion, fill;
};

static uint64_t element_bytes(unsigned type)
{
    static const unsigned char bytes[TYPE_MAX + 1] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4, 1, 1, 1};

    return bytes[type];
}

static bool enumerations_known(const struct tensor *tensor)
{
    bool floating = tensor->type >= FLOAT_FIRST && tensor->type <= FLOAT_LAST;

    if (tensor->type > TYPE_MAX || tensor->interleave > INTERLEAVE_32 || tensor->swizzle > SWIZZLE_MAX)
        return false;
    if (tensor->interleave == INTERLEAVE_32 && tensor->swizzle != SWIZZLE_32)
        return false;
    return tensor->promotion <= PROMOTION_MAX && (tensor->fill == 0 || (tensor->fill == 1 && floating));
}

static bool dimensions_fit(const struct tensor *tensor)
{
    uint64_t step = tensor->interleave == INTERLEAVE_32 || tensor->type >= TYPE_PACKED ? ADDRESS_ALIGNMENT_WIDE
                                                                                      : ADDRESS_ALIGNMENT;

    for (unsigned dimension = 0; dimension < tensor->rank; dimension++) {
        uint32_t element_stride = tensor->element_strides[dimension];

        if (tensor->sizes[dimension] == 0 || tensor->sizes[dimension] > DIMENSION_MAX)
            return false;
        if (element_stride == 0 || element_stride > ELEMENT_STRIDE_MAX)
            return false;
        if (dimension + 1 < tensor->rank
            && (tensor->strides[dimension] % step != 0 || tensor->strides[dimension] >= STRIDE_MAX))
            return false;
    }
    return true;
}

static CUresult check(CUtensorMap *map, const struct tensor *tensor, unsigned rank_least)
{
    CUresult result = sim_answer(sim_answer(sim_enter(SIM_CALL_OTHER), map), tensor->address);
    uint64_t alignment = tensor->interleave == INTERLEAVE_32 || tensor->type >= TYPE_PACKED ? ADDRESS_ALIGNMENT_WIDE
                                                                                          : ADDRESS_ALIGNMENT;

    if (result != CUDA_SUCCESS)
        return result;
    if (tensor->rank < rank_least || tensor->rank > RANK_MAX || tensor->sizes == NULL || tensor->element_strides == NULL
        || (tensor->rank > 1 && tensor->strides == NULL))
        return CUDA_ERROR_INVALID_VALUE;
    if (tensor->interleave != INTERLEAVE_NONE && tensor->rank < RANK_IM2COL_LEAST)
        return CUDA_ERROR_INVALID_VALUE;
    if (!enumerations_known(tensor) || (uintptr_t)tensor->address % alignment != 0 || !dimensions_fit(tensor))
        return CUDA_ERROR_INVALID_VALUE;
    return (uintptr_t)map % _Alignof(CUtensorMap) == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult encode(CUtensorMap *map, const struct tensor *tensor)
{
    memset(map, 0, sizeof(*map));
    map->opaque[0] = MAP_MAGIC;
    map->opaque[1] = (uintptr_t)tensor->address;
    map->opaque[2] = tensor->type;
    return CUDA_SUCCESS;
}

CUresult sim_cuTensorMapEncodeTiled(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *address,
                                    const uint64_t *sizes, const uint64_t *strides, const uint32_t *box,
                                    const uint32_t *element_strides, CUtensorMapInterleave interleave,
                                    CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                    CUtensorMapFloatOOBfill fill)
{
    struct tensor tensor = {type, rank, address, sizes, strides, element_strides, interleave, swizzle, promotion, fill};
    CUresult result = sim_answer(check(map, &tensor, 1), box);

    if (result != CUDA_SUCCESS)
        return result;
    for (unsigned dimension = 0; dimension < rank; dimension++)
        if (box[dimension] == 0 || box[dimension] > BOX_MAX)
            return CUDA_ERROR_INVALID_VALUE;
    if (interleave == INTERLEAVE_NONE && type < TYPE_PACKED && box[0] * element_bytes(type) % INNER_BYTES_STEP != 0)
        return CUDA_ERROR_INVALID_VALUE;
    return encode(map, &tensor);
}

static bool pixels_fit(uint32_t channels, uint32_t pixels)
{
    return channels > 0 && channels <= CHANNELS_MAX && pixels > 0 && pixels <= PIXELS_MAX;
}

CUresult sim_cuTensorMapEncodeIm2col(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *address,
                                     const uint64_t *sizes, const uint64_t *strides, const int *lower, const int *upper,
                                     uint32_t channels, uint32_t pixels, const uint32_t *element_strides,
                                     CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                     CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill)
{
    struct tensor tensor = {type, rank, address, sizes, strides, element_strides, interleave, swizzle, promotion, fill};
    CUresult result = sim_answer(sim_answer(check(map, &tensor, RANK_IM2COL_LEAST), lower), upper);

    if (result == CUDA_SUCCESS && !pixels_fit(channels, pixels))
        result = CUDA_ERROR_INVALID_VALUE;
    return result == CUDA_SUCCESS ? encode(map, &tensor) : result;
}

CUresult sim_cuTensorMapEncodeIm2colWide(CUtensorMap *map, CUtensorMapDataType type, uint32_t rank, void *address,
                                         const uint64_t *sizes, const uint64_t *strides, int lower, int upper,
                                         uint32_t channels, uint32_t pixels, const uint32_t *element_strides,
                                         CUtensorMapInterleave interleave, CUtensorMapIm2ColWideMode mode,
                                         CUtensorMapSwizzle swizzle, CUtensorMapL2promotion promotion,
                                         CUtensorMapFloatOOBfill fill)
{
    struct tensor tensor = {type, rank, address, sizes, strides, element_strides, interleave, swizzle, promotion, fill};
    CUresult result = check(map, &tensor, RANK_IM2COL_LEAST);

    (void)lower;
    (void)upper;
    if (result == CUDA_SUCCESS && (mode > WIDE_MODE_MAX || !pixels_fit(channels, pixels)))
        result = CUDA_ERROR_INVALID_VALUE;
    return result == CUDA_SUCCESS ? encode(map, &tensor) : result;
}

CUresult sim_cuTensorMapReplaceAddress(CUtensorMap *map, void *address)
{
    CUresult result = sim_answer(sim_answer(sim_enter(SIM_CALL_OTHER), map), address);

    if (result == CUDA_SUCCESS && (map->opaque[0] != MAP_MAGIC || (uintptr_t)address % ADDRESS_ALIGNMENT != 0))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        map->opaque[1] = (uintptr_t)address;
    return result;
}
