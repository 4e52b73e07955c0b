/* Arrays of one, two and three dimensions and mipmapped ones: an opaque layout that is linear here. */
#include <stdlib.h>

#include "copies.h"

#define ARRAY_MAGIC UINT64_C(0x4547505541525259)
#define ARRAY_LEVELS_MAX 17
#define ARRAY_ALIGNMENT 512
#define ARRAY_WIDTH_MAX 131072
#define ARRAY_LAYERED 0x01U /* the interface's CUDA_ARRAY3D_LAYERED and its like */
#define ARRAY_CUBE 0x04U
#define ARRAY_SPARSE 0x40U
#define ARRAY_DEFERRED 0x80U

struct CUarray_st {
    uint64_t magic;
    struct CUarray_st *next;
    CUDA_ARRAY3D_DESCRIPTOR shape;
    CUcontext context;
    int card;
    uint64_t address;
    uint64_t pitch;
    uint64_t bytes;
    struct memory_block block; /* none when it is a level of a mipmapped one */
};

struct CUmipmappedArray_st {
    uint64_t magic;
    struct CUmipmappedArray_st *next;
    CUDA_ARRAY3D_DESCRIPTOR shape;
    CUcontext context;
    int card;
    uint64_t bytes;
    struct memory_block block;
    unsigned levels_count;
    struct CUarray_st levels[ARRAY_LEVELS_MAX];
};

static struct CUarray_st *arrays;
static struct CUmipmappedArray_st *mipmapped_arrays;

/* Formats of simple elements by their numbers, and the bytes of a channel; planes and compressed blocks are not
 * simulated. */
static const struct {
    CUarray_format first, last;
    uint64_t bytes;
} formats[] = {
    {0x01, 0x01, 1}, {0x02, 0x02, 2}, {0x03, 0x03, 4}, {0x08, 0x08, 1}, {0x09, 0x09, 2}, {0x0a, 0x0a, 4},
    {0x10, 0x10, 2}, {0x20, 0x20, 4}, {0xc0, 0xc2, 1}, {0xc3, 0xc5, 2}, {0xc6, 0xc8, 1}, {0xc9, 0xcb, 2},
};

/* Bytes of one element; 0 for formats that are not simulated. */
static uint64_t format_bytes(CUarray_format format, unsigned channels) {
    for (size_t index = 0; index < sizeof formats / sizeof formats[0]; index++)
        if (format >= formats[index].first && format <= formats[index].last)
            return formats[index].bytes * channels;
    return 0;
}

static bool extent_known(const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    bool layered = (shape->Flags & (ARRAY_LAYERED | ARRAY_CUBE)) != 0;
    if (shape->Width == 0 || shape->Width > ARRAY_WIDTH_MAX || shape->Height > ARRAY_WIDTH_MAX ||
        shape->Depth > ARRAY_WIDTH_MAX)
        return false;
    return shape->Depth == 0 || shape->Height != 0 || layered;
}

static CUresult shape_known(const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    unsigned channels = shape->NumChannels;
    if ((channels != 1 && channels != 2 && channels != 4) || !extent_known(shape))
        return CUDA_ERROR_INVALID_VALUE;
    if (shape->Flags & (ARRAY_SPARSE | ARRAY_DEFERRED))
        return CUDA_ERROR_NOT_SUPPORTED;
    return format_bytes(shape->Format, channels) > 0 ? CUDA_SUCCESS : CUDA_ERROR_NOT_SUPPORTED;
}

static uint64_t at_least_one(uint64_t value) { return value > 0 ? value : 1; }

/* Rows are aligned as textures are; the whole is what the driver asks the card for. */
static void lay_out(struct CUarray_st *array, const CUDA_ARRAY3D_DESCRIPTOR *shape, uint64_t address) {
    array->magic = ARRAY_MAGIC;
    array->shape = *shape;
    array->address = address;
    uint64_t row = shape->Width * format_bytes(shape->Format, shape->NumChannels);
    bool rows = at_least_one(shape->Height) * at_least_one(shape->Depth) > 1;
    array->pitch = rows ? memory_round_up(row, 32) : row;
    array->bytes = array->pitch * at_least_one(shape->Height) * at_least_one(shape->Depth);
}

static bool is_level(CUarray handle) {
    for (struct CUmipmappedArray_st *one = mipmapped_arrays; one != NULL; one = one->next)
        if (handle >= one->levels && handle < one->levels + one->levels_count)
            return true;
    return false;
}

static struct CUarray_st *array_of(CUarray handle) {
    for (struct CUarray_st *array = arrays; array != NULL; array = array->next)
        if (array == handle)
            return array;
    return is_level(handle) ? handle : NULL;
}

static struct CUmipmappedArray_st *mipmapped_of(CUmipmappedArray handle) {
    struct CUmipmappedArray_st *one = mipmapped_arrays;
    while (one != NULL && one != handle)
        one = one->next;
    return one;
}

/* The block is in the table of addresses too, so that copies find it. */
static CUresult back(struct sim_context *context, uint64_t bytes, struct memory_block *block) {
    CUresult result = block_reserve(context->card, bytes, block);
    if (result != CUDA_SUCCESS)
        return result;
    struct memory_range range = {.address = block->address, .bytes = bytes, .kind = MEMORY_ARRAY,
                                 .card = context->card, .context = MEMORY_HANDLE(context), .block = *block};
    addresses_add(&range);
    return CUDA_SUCCESS;
}

static CUresult create(CUarray *handle, const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    struct sim_context *context;
    CUresult result = memory_begin_allocation(&context);
    if (result == CUDA_SUCCESS)
        result = handle == NULL ? CUDA_ERROR_INVALID_VALUE : shape_known(shape);
    if (result != CUDA_SUCCESS)
        return result;
    struct CUarray_st *array = calloc(1, sizeof *array);
    if (array == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    lay_out(array, shape, 0);
    memory_enter();
    result = back(context, array->bytes, &array->block);
    if (result == CUDA_SUCCESS) {
        array->address = array->block.address;
        array->context = MEMORY_HANDLE(context);
        array->card = context->card;
        array->next = arrays;
        arrays = array;
        *handle = array;
    } else {
        free(array);
    }
    memory_leave();
    return result;
}

CUresult sim_cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    return shape == NULL ? CUDA_ERROR_INVALID_VALUE : create(array, shape);
}

CUresult sim_cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *shape) {
    if (shape == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    CUDA_ARRAY3D_DESCRIPTOR whole = {.Width = shape->Width, .Height = shape->Height, .Format = shape->Format,
                                     .NumChannels = shape->NumChannels};
    return create(array, &whole);
}

static CUresult forget_block(int card, struct memory_block *block) {
    CUresult result = sim_wait_card(card);
    memory_enter();
    struct memory_range *range = addresses_find(block->address);
    if (range != NULL && range->kind == MEMORY_ARRAY)
        memory_free_range(range);
    memory_leave();
    return result;
}

CUresult sim_cuArrayDestroy(CUarray handle) {
    struct sim_context *context;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct CUarray_st **link = &arrays;
    while (*link != NULL && *link != handle)
        link = &(*link)->next;
    struct CUarray_st *array = *link;
    if (array != NULL)
        *link = array->next;
    memory_leave();
    if (array == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    result = forget_block(array->card, &array->block);
    free(array);
    return result;
}

static uint64_t halved(uint64_t value, unsigned level) { return value == 0 ? 0 : at_least_one(value >> level); }

static CUDA_ARRAY3D_DESCRIPTOR level_shape(const CUDA_ARRAY3D_DESCRIPTOR *shape, unsigned level) {
    bool layered = (shape->Flags & (ARRAY_LAYERED | ARRAY_CUBE)) != 0;
    CUDA_ARRAY3D_DESCRIPTOR smaller = *shape;
    smaller.Width = halved(shape->Width, level);
    smaller.Height = halved(shape->Height, level);
    smaller.Depth = layered ? shape->Depth : halved(shape->Depth, level);
    return smaller;
}

static unsigned levels_most(const CUDA_ARRAY3D_DESCRIPTOR *shape) {
    uint64_t longest = shape->Width > shape->Height ? shape->Width : shape->Height;
    if (!(shape->Flags & (ARRAY_LAYERED | ARRAY_CUBE)) && shape->Depth > longest)
        longest = shape->Depth;
    unsigned levels = 1;
    while (longest >>= 1)
        levels++;
    return levels < ARRAY_LEVELS_MAX ? levels : ARRAY_LEVELS_MAX;
}

CUresult sim_cuMipmappedArrayCreate(CUmipmappedArray *handle, const CUDA_ARRAY3D_DESCRIPTOR *shape,
                                    unsigned int levels) {
    struct sim_context *context;
    CUresult result = memory_begin_allocation(&context);
    if (result == CUDA_SUCCESS)
        result = handle == NULL || shape == NULL || levels == 0 ? CUDA_ERROR_INVALID_VALUE : shape_known(shape);
    if (result != CUDA_SUCCESS)
        return result;
    struct CUmipmappedArray_st *one = calloc(1, sizeof *one);
    if (one == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    one->shape = *shape;
    one->levels_count = levels < levels_most(shape) ? levels : levels_most(shape);
    for (unsigned level = 0; level < one->levels_count; level++) {
        CUDA_ARRAY3D_DESCRIPTOR smaller = level_shape(shape, level);
        lay_out(&one->levels[level], &smaller, one->bytes);
        one->bytes += memory_round_up(one->levels[level].bytes, ARRAY_ALIGNMENT);
    }
    memory_enter();
    result = back(context, one->bytes, &one->block);
    if (result == CUDA_SUCCESS) {
        for (unsigned level = 0; level < one->levels_count; level++)
            one->levels[level].address += one->block.address;
        one->context = MEMORY_HANDLE(context);
        one->card = context->card;
        one->next = mipmapped_arrays;
        mipmapped_arrays = one;
        *handle = one;
    } else {
        free(one);
    }
    memory_leave();
    return result;
}

CUresult sim_cuMipmappedArrayDestroy(CUmipmappedArray handle) {
    struct sim_context *context;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct CUmipmappedArray_st **link = &mipmapped_arrays;
    while (*link != NULL && *link != handle)
        link = &(*link)->next;
    struct CUmipmappedArray_st *one = *link;
    if (one != NULL)
        *link = one->next;
    memory_leave();
    if (one == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    result = forget_block(one->card, &one->block);
    free(one);
    return result;
}

CUresult sim_cuMipmappedArrayGetLevel(CUarray *level, CUmipmappedArray handle, unsigned int index) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct CUmipmappedArray_st *one = mipmapped_of(handle);
    bool known = one != NULL && level != NULL && index < one->levels_count;
    if (known)
        *level = &one->levels[index];
    memory_leave();
    return known ? CUDA_SUCCESS : one == NULL ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE;
}

static CUresult describe(CUarray handle, CUDA_ARRAY3D_DESCRIPTOR *shape) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct CUarray_st *array = array_of(handle);
    if (array != NULL)
        *shape = array->shape;
    memory_leave();
    return array != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult sim_cuArray3DGetDescriptor_v2(CUDA_ARRAY3D_DESCRIPTOR *shape, CUarray array) {
    return shape == NULL ? CUDA_ERROR_INVALID_VALUE : describe(array, shape);
}

CUresult sim_cuArrayGetDescriptor_v2(CUDA_ARRAY_DESCRIPTOR *shape, CUarray array) {
    CUDA_ARRAY3D_DESCRIPTOR whole = {0};
    CUresult result = shape == NULL ? CUDA_ERROR_INVALID_VALUE : describe(array, &whole);
    if (result == CUDA_SUCCESS)
        *shape = (CUDA_ARRAY_DESCRIPTOR){.Width = whole.Width, .Height = whole.Height, .Format = whole.Format,
                                         .NumChannels = whole.NumChannels};
    return result;
}

static CUresult requirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *needed, const void *known, uint64_t bytes,
                             CUdevice device) {
    if (known == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (needed == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (device < 0 || device >= (int)sim_state()->cards)
        return CUDA_ERROR_INVALID_DEVICE;
    *needed = (CUDA_ARRAY_MEMORY_REQUIREMENTS){.size = bytes, .alignment = ARRAY_ALIGNMENT};
    return CUDA_SUCCESS;
}

CUresult sim_cuArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *needed, CUarray handle, CUdevice device) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct CUarray_st *array = array_of(handle);
    result = requirements(needed, array, array != NULL ? array->bytes : 0, device);
    memory_leave();
    return result;
}

CUresult sim_cuMipmappedArrayGetMemoryRequirements(CUDA_ARRAY_MEMORY_REQUIREMENTS *needed, CUmipmappedArray handle,
                                                   CUdevice device) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct CUmipmappedArray_st *one = mipmapped_of(handle);
    result = requirements(needed, one, one != NULL ? one->bytes : 0, device);
    memory_leave();
    return result;
}

bool array_side(CUarray handle, uint64_t x, uint64_t y, uint64_t z, struct copy_side *side) {
    memory_enter();
    const struct CUarray_st *array = array_of(handle);
    if (array != NULL) {
        uint64_t slice = array->pitch * at_least_one(array->shape.Height);
        *side = (struct copy_side){.address = array->address + z * slice + y * array->pitch + x,
                                   .pitch = array->pitch,
                                   .slice = slice,
                                   .of_card = true};
    }
    memory_leave();
    return array != NULL;
}

bool array_known(CUarray handle) {
    struct copy_side side;
    return array_side(handle, 0, 0, 0, &side);
}

bool array_holds(CUarray array, uint64_t x, uint64_t y, uint64_t z, const struct copy_work *work) {
    uint64_t row = array->shape.Width * array_element_bytes(array);
    return x + work->width <= row && y + work->height <= at_least_one(array->shape.Height) &&
           z + work->depth <= at_least_one(array->shape.Depth);
}

uint64_t array_element_bytes(CUarray array) {
    return array == NULL ? 1 : format_bytes(array->shape.Format, array->shape.NumChannels);
}

uint64_t array_bytes(CUarray array) { return array->bytes; }

/* The arrays of a context end with it; their blocks are freed with its other ranges. */
void arrays_end_context(CUcontext context) {
    for (struct CUarray_st **link = &arrays; *link != NULL;) {
        struct CUarray_st *array = *link;
        bool ends = array->context == context;
        if (ends)
            *link = array->next;
        else
            link = &array->next;
        if (ends)
            free(array);
    }
    for (struct CUmipmappedArray_st **link = &mipmapped_arrays; *link != NULL;) {
        struct CUmipmappedArray_st *one = *link;
        bool ends = one->context == context;
        if (ends)
            *link = one->next;
        else
            link = &one->next;
        if (ends)
            free(one);
    }
}

void arrays_forked(void) {
    arrays = NULL;
    mipmapped_arrays = NULL;
}
