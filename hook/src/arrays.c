/* Arrays and mipmapped arrays: their layout is the driver's secret, so they are charged by their description, rounded up as
 * the driver does. What that misses comes in with the driver's figure for the process. */
#include "cards.h"
#include "charges.h"
#include "real.h"
#include "region.h"

enum {
    CUBE_FACES = 6,
    ELEMENT_BYTES_MAX = 16, /* four channels of 32 bits */
    LEVELS_MAX = 32,
    ARRAY_SPARSE = 0x40,           /* CUDA_ARRAY3D_SPARSE */
    ARRAY_DEFERRED_MAPPING = 0x80, /* CUDA_ARRAY3D_DEFERRED_MAPPING */
};
static const uint64_t ARRAY_BYTES_STEP = 65536; /* what cuArrayGetMemoryRequirements rounds up to on current cards */

static uint64_t channel_bytes(CUarray_format format) {
    switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
        return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
        return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
        return 4;
    default:
        return 0;
    }
}

/* Block-compressed, planar and normalised formats take at most four bytes a texel and channel: an upper bound. */
static uint64_t texel_bytes(CUarray_format format, unsigned int channels) {
    uint64_t bytes = channel_bytes(format) * channels;
    return bytes > 0 ? bytes : ELEMENT_BYTES_MAX;
}

static uint64_t times(uint64_t a, uint64_t b) {
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t plus(uint64_t a, uint64_t b) { return b > UINT64_MAX - a ? UINT64_MAX : a + b; }

/* A height or depth of 0 says that the array has fewer dimensions. */
static uint64_t level_bytes(const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int level) {
    uint64_t width = d->Width >> level, height = d->Height >> level, depth = d->Depth >> level;
    uint64_t texels = times(times(width > 0 ? width : 1, height > 0 ? height : 1), depth > 0 ? depth : 1);
    return times(texels, texel_bytes(d->Format, d->NumChannels));
}

static uint64_t round_up(uint64_t bytes) {
    return bytes > UINT64_MAX - ARRAY_BYTES_STEP ? UINT64_MAX : (bytes + ARRAY_BYTES_STEP - 1) & -ARRAY_BYTES_STEP;
}

static uint64_t described_bytes(const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int levels) {
    /* Memory is mapped into these later, as cuMemCreate's, which is charged there. */
    if ((d->Flags & (ARRAY_SPARSE | ARRAY_DEFERRED_MAPPING)) != 0)
        return 0;
    uint64_t bytes = 0;
    for (unsigned int level = 0; level < levels && level < LEVELS_MAX; level++)
        bytes = plus(bytes, level_bytes(d, level));
    return round_up(bytes);
}

static CUresult undo_array(uint64_t array) { return real.cuArrayDestroy((CUarray)(uintptr_t)array); }
static CUresult undo_mipmap(uint64_t array) { return real.cuMipmappedArrayDestroy((CUmipmappedArray)(uintptr_t)array); }

static struct holding holding_of(enum holding_kind kind, int card, uint64_t bytes) {
    struct holding holding = {.kind = kind, .card = card, .memory_class = EGPU_MEMORY_ARRAY, .bytes = bytes};
    if (real.cuCtxGetCurrent(&holding.context) != CUDA_SUCCESS)
        holding.context = NULL;
    return holding;
}

static CUresult settle_array(CUresult result, int card, uint64_t bytes, const CUarray *array) {
    struct holding holding = holding_of(HOLDING_ARRAY, card, bytes);
    holding.key = (uint64_t)(uintptr_t)*array;
    return charge_settle(result, &holding, undo_array);
}

CUresult cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *d) {
    int card = card_current();
    if (card == CARD_NONE || array == NULL || d == NULL)
        return real.cuArrayCreate_v2(array, d);
    CUDA_ARRAY3D_DESCRIPTOR whole = {d->Width, d->Height, 0, d->Format, d->NumChannels, 0};
    uint64_t bytes = described_bytes(&whole, 1);
    if (charge_reserve(card, EGPU_MEMORY_ARRAY, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return settle_array(real.cuArrayCreate_v2(array, d), card, bytes, array);
}

CUresult cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *d) {
    int card = card_current();
    if (card == CARD_NONE || array == NULL || d == NULL)
        return real.cuArray3DCreate_v2(array, d);
    uint64_t bytes = described_bytes(d, 1);
    if (charge_reserve(card, EGPU_MEMORY_ARRAY, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    return settle_array(real.cuArray3DCreate_v2(array, d), card, bytes, array);
}

CUresult cuMipmappedArrayCreate(CUmipmappedArray *array, const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int levels) {
    int card = card_current();
    if (card == CARD_NONE || array == NULL || d == NULL)
        return real.cuMipmappedArrayCreate(array, d, levels);
    uint64_t bytes = described_bytes(d, levels);
    if (charge_reserve(card, EGPU_MEMORY_ARRAY, bytes) != CUDA_SUCCESS)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct holding holding = holding_of(HOLDING_MIPMAP, card, bytes);
    CUresult result = real.cuMipmappedArrayCreate(array, d, levels);
    holding.key = (uint64_t)(uintptr_t)*array;
    return charge_settle(result, &holding, undo_mipmap);
}

CUresult cuArrayDestroy(CUarray array) {
    struct holding holding;
    bool known = holding_take(HOLDING_ARRAY, (uint64_t)(uintptr_t)array, &holding);
    CUresult result = real.cuArrayDestroy(array);
    if (known && result == CUDA_SUCCESS)
        charge_release(&holding);
    else if (known)
        (void)holding_add(&holding);
    return result;
}

CUresult cuMipmappedArrayDestroy(CUmipmappedArray array) {
    struct holding holding;
    bool known = holding_take(HOLDING_MIPMAP, (uint64_t)(uintptr_t)array, &holding);
    CUresult result = real.cuMipmappedArrayDestroy(array);
    if (known && result == CUDA_SUCCESS)
        charge_release(&holding);
    else if (known)
        (void)holding_add(&holding);
    return result;
}
