/* Arrays and mipmapped arrays: their layout is the driver's secret, so they are charged by their description, rounded up as
 * the driver does. What that misses comes in with the driver's figure for the process. */
#include "cards.h"
#include "charges.h"
#include "real.h"
#include "region.h"

enum {
    CUBE_FACES = 6,
    TEXEL_BITS_MAX = 128, /* four channels of 32 bits */
    BLOCK_TEXELS = 4,     /* wide and high */
    BYTE_BITS = 8,
    LEVELS_MAX = 32,
    ARRAY_SPARSE = 0x40,           /* CUDA_ARRAY3D_SPARSE */
    ARRAY_DEFERRED_MAPPING = 0x80, /* CUDA_ARRAY3D_DEFERRED_MAPPING */
};
static const uint64_t ARRAY_BYTES_STEP = 65536; /* what cuArrayGetMemoryRequirements rounds up to on current cards */

/* By number, which the driver's interface fixes: bits of a texel in all its planes, or of a channel. */
static const struct format {
    CUarray_format first, last;
    uint8_t texel_bits, channel_bits;
} FORMATS[] = {
    {CU_AD_FORMAT_UNSIGNED_INT8, CU_AD_FORMAT_UNSIGNED_INT8, 0, 8},
    {CU_AD_FORMAT_UNSIGNED_INT16, CU_AD_FORMAT_UNSIGNED_INT16, 0, 16},
    {CU_AD_FORMAT_UNSIGNED_INT32, CU_AD_FORMAT_UNSIGNED_INT32, 0, 32},
    {CU_AD_FORMAT_SIGNED_INT8, CU_AD_FORMAT_SIGNED_INT8, 0, 8},
    {CU_AD_FORMAT_SIGNED_INT16, CU_AD_FORMAT_SIGNED_INT16, 0, 16},
    {CU_AD_FORMAT_SIGNED_INT32, CU_AD_FORMAT_SIGNED_INT32, 0, 32},
    {CU_AD_FORMAT_HALF, CU_AD_FORMAT_HALF, 0, 16},
    {CU_AD_FORMAT_FLOAT, CU_AD_FORMAT_FLOAT, 0, 32},
    {0x50, 0x50, 32, 0},                 /* 10, 10, 10 and 2 bits */
    {CU_AD_FORMAT_BC1_UNORM, 0x92, 4, 0}, /* BC1; these and the next are blocks of 4 x 4 texels */
    {0x93, 0x96, 8, 0},                  /* BC2, BC3 */
    {0x97, 0x98, 4, 0},                  /* BC4 */
    {0x99, CU_AD_FORMAT_BC7_UNORM_SRGB, 8, 0},
    {0x9f, 0xa1, 24, 0},                 /* P010, P016 */
    {0xa2, 0xa2, 16, 0},                 /* NV16 */
    {0xa3, 0xa4, 32, 0},                 /* P210, P216 */
    {0xa5, 0xa5, 16, 0},                 /* YUY2 */
    {0xa6, 0xa9, 32, 0},                 /* Y210, Y216, AYUV, Y410 */
    {CU_AD_FORMAT_NV12, CU_AD_FORMAT_NV12, 12, 0},
    {0xb1, 0xb1, 64, 0},                 /* Y416 */
    {0xb2, 0xb2, 24, 0},                 /* 4:4:4 in planes of 8 bits */
    {0xb3, 0xb3, 48, 0},                 /* in planes of 10 */
    {0xb4, 0xb4, 24, 0},                 /* in two planes of 8 */
    {0xb5, 0xb5, 48, 0},                 /* in two of 16 */
    {CU_AD_FORMAT_UNORM_INT8X1, 0xc2, 0, 8},
    {0xc3, 0xc5, 0, 16},
    {0xc6, 0xc8, 0, 8},
    {0xc9, CU_AD_FORMAT_SNORM_INT16X4, 0, 16},
};

/* A format that is newer than this table is taken for the largest one. */
static uint64_t texel_bits(CUarray_format format, unsigned int channels) {
    for (size_t each = 0; each < sizeof FORMATS / sizeof FORMATS[0]; each++)
        if (format >= FORMATS[each].first && format <= FORMATS[each].last)
            return FORMATS[each].texel_bits + (uint64_t)FORMATS[each].channel_bits * channels;
    return TEXEL_BITS_MAX;
}

static bool is_compressed(CUarray_format format) {
    return format >= CU_AD_FORMAT_BC1_UNORM && format <= CU_AD_FORMAT_BC7_UNORM_SRGB;
}

static uint64_t times(uint64_t a, uint64_t b) {
    uint64_t product;
    return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

static uint64_t plus(uint64_t a, uint64_t b) { return b > UINT64_MAX - a ? UINT64_MAX : a + b; }

/* A height or depth of 0 says that the array has fewer dimensions. */
static uint64_t level_bytes(const CUDA_ARRAY3D_DESCRIPTOR *d, unsigned int level) {
    uint64_t width = d->Width >> level, height = d->Height >> level, depth = d->Depth >> level;
    uint64_t step = is_compressed(d->Format) ? BLOCK_TEXELS : 1;
    width = plus(width > 0 ? width : 1, step - 1) / step * step;
    height = plus(height > 0 ? height : 1, step - 1) / step * step;
    uint64_t texels = times(times(width, height), depth > 0 ? depth : 1), bits = texel_bits(d->Format, d->NumChannels);
    return plus(times(texels / BYTE_BITS, bits), (texels % BYTE_BITS * bits + BYTE_BITS - 1) / BYTE_BITS);
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
