/* Texture and surface references, the older form of the objects: named in code or made, and set value by value. */
#include <stdlib.h>
#include <string.h>

#include "copies.h"
#include "functions.h"

#define REFERENCE_MAGIC UINT64_C(0x65636e6572656665)
#define LINEAR_ALIGNMENT 512
#define DIMENSIONS 3

/* Of both kinds; a surface has only its array. */
struct reference {
    uint64_t magic;
    const struct sim_module *module; /* NULL: made, not named in code */
    char *name;
    struct reference *next;
    CUarray array;
    CUmipmappedArray mipmapped;
    CUdeviceptr address;
    CUarray_format format;
    int channels;
    CUaddress_mode address_mode[DIMENSIONS];
    CUfilter_mode filter, mipmap_filter;
    float bias, clamp_least, clamp_most, border[4];
    unsigned anisotropy, flags;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct reference *named;

static CUresult enter(void *handle, struct reference **reference)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    *reference = handle;
    if (result == CUDA_SUCCESS && (handle == NULL || (*reference)->magic != REFERENCE_MAGIC))
        result = CUDA_ERROR_INVALID_VALUE;
    return result;
}

static struct reference *make(const struct sim_module *module, const char *name)
{
    struct reference *reference = calloc(1, sizeof(*reference));

    if (reference == NULL)
        return NULL;
    reference->magic = REFERENCE_MAGIC;
    reference->format = CU_AD_FORMAT_FLOAT;
    reference->channels = 1;
    reference->module = module;
    reference->name = name != NULL ? strdup(name) : NULL;
    return reference;
}

/* The same one for the same name. */
static CUresult get(void **made, CUmodule handle, const char *name)
{
    const struct sim_module *module = sim_module_of(handle);
    CUresult result = sim_answer(sim_answer(sim_enter(SIM_CALL_OTHER), made), name);
    struct reference *found;

    if (result == CUDA_SUCCESS && module == NULL)
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&lock);
    for (found = named; found != NULL; found = found->next)
        if (found->module == module && strcmp(found->name, name) == 0)
            break;
    if (found == NULL) {
        found = make(module, name);
        if (found != NULL) {
            found->next = named;
            named = found;
        }
    }
    pthread_mutex_unlock(&lock);
    *made = found;
    return found != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuModuleGetTexRef(CUtexref *made, CUmodule module, const char *name)
{
    return get((void **)made, module, name);
}

CUresult sim_cuModuleGetSurfRef(CUsurfref *made, CUmodule module, const char *name)
{
    return get((void **)made, module, name);
}

CUresult sim_cuTexRefCreate(CUtexref *made)
{
    struct sim_context *context;
    CUresult result = sim_answer(sim_enter_context(SIM_CALL_OTHER, &context), made);

    if (result == CUDA_SUCCESS)
        *made = (CUtexref)(void *)make(NULL, NULL);
    return result == CUDA_SUCCESS && *made == NULL ? CUDA_ERROR_OUT_OF_MEMORY : result;
}

CUresult sim_cuTexRefDestroy(CUtexref handle)
{
    struct reference *reference;
    CUresult result = enter(handle, &reference);

    if (result == CUDA_SUCCESS && reference->module != NULL)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS) {
        reference->magic = 0;
        free(reference);
    }
    return result;
}

static CUresult bind_array(void *handle, CUarray array, unsigned int flags, unsigned int wanted)
{
    struct reference *reference;
    CUresult result = enter(handle, &reference);

    if (result == CUDA_SUCCESS && flags != wanted)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS && !array_known(array))
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS) {
        reference->array = array;
        reference->mipmapped = NULL;
        reference->address = 0;
    }
    return result;
}

CUresult sim_cuTexRefSetArray(CUtexref handle, CUarray array, unsigned int flags)
{
    return bind_array(handle, array, flags, 1); /* 1: with the array's format, the only way there is */
}

CUresult sim_cuSurfRefSetArray(CUsurfref handle, CUarray array, unsigned int flags)
{
    return bind_array(handle, array, flags, 0);
}

CUresult sim_cuTexRefSetMipmappedArray(CUtexref handle, CUmipmappedArray array, unsigned int flags)
{
    struct reference *reference;
    CUresult result = sim_answer(enter(handle, &reference), array);

    if (result == CUDA_SUCCESS && flags != 1)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS) {
        reference->mipmapped = array;
        reference->array = NULL;
        reference->address = 0;
    }
    return result;
}

/* `offset`: how far the address is from what the card can begin at; NULL allows none. */
static CUresult bind(void *handle, size_t *offset, CUdeviceptr address, size_t bytes)
{
    struct reference *reference;
    CUresult result = enter(handle, &reference);
    bool known;

    memory_enter();
    known = addresses_reach(address) >= bytes;
    memory_leave();
    if (result == CUDA_SUCCESS && (!known || (offset == NULL && address % LINEAR_ALIGNMENT != 0)))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    if (offset != NULL)
        *offset = address % LINEAR_ALIGNMENT;
    reference->address = address;
    reference->array = NULL;
    reference->mipmapped = NULL;
    return CUDA_SUCCESS;
}

CUresult sim_cuTexRefSetAddress_v2(size_t *offset, CUtexref handle, CUdeviceptr address, size_t bytes)
{
    return bind(handle, offset, address, bytes);
}

CUresult sim_cuTexRefSetAddress2D_v3(CUtexref handle, const CUDA_ARRAY_DESCRIPTOR *shape, CUdeviceptr address,
                                     size_t pitch)
{
    return shape != NULL ? bind(handle, NULL, address, shape->Height * pitch) : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuTexRefSetAddress2D_v2(CUtexref handle, const CUDA_ARRAY_DESCRIPTOR *shape, CUdeviceptr address,
                                     size_t pitch)
{
    return sim_cuTexRefSetAddress2D_v3(handle, shape, address, pitch);
}

/* What is set and told without a question. */
#define SETTING(name, type, field)                                                                                    \
    CUresult sim_cuTexRefSet##name(CUtexref handle, type value)                                                       \
    {                                                                                                                 \
        struct reference *reference;                                                                                  \
        CUresult result = enter(handle, &reference);                                                                  \
        if (result == CUDA_SUCCESS)                                                                                   \
            reference->field = value;                                                                                 \
        return result;                                                                                                \
    }
#define TELLING(name, handle_type, type, field)                                                                       \
    CUresult sim_cu##name(type *value, handle_type handle)                                                            \
    {                                                                                                                 \
        struct reference *reference;                                                                                  \
        CUresult result = sim_answer(enter(handle, &reference), value);                                               \
        if (result == CUDA_SUCCESS)                                                                                   \
            *value = (type)reference->field;                                                                          \
        return result;                                                                                                \
    }

SETTING(FilterMode, CUfilter_mode, filter)
SETTING(MipmapFilterMode, CUfilter_mode, mipmap_filter)
SETTING(MipmapLevelBias, float, bias)
SETTING(MaxAnisotropy, unsigned int, anisotropy)
SETTING(Flags, unsigned int, flags)
TELLING(TexRefGetFilterMode, CUtexref, CUfilter_mode, filter)
TELLING(TexRefGetMipmapFilterMode, CUtexref, CUfilter_mode, mipmap_filter)
TELLING(TexRefGetMipmapLevelBias, CUtexref, float, bias)
TELLING(TexRefGetMaxAnisotropy, CUtexref, int, anisotropy)
TELLING(TexRefGetFlags, CUtexref, unsigned int, flags)
TELLING(TexRefGetArray, CUtexref, CUarray, array)
TELLING(TexRefGetMipmappedArray, CUtexref, CUmipmappedArray, mipmapped)
TELLING(TexRefGetAddress_v2, CUtexref, CUdeviceptr, address)
TELLING(SurfRefGetArray, CUsurfref, CUarray, array)

CUresult sim_cuTexRefSetFormat(CUtexref handle, CUarray_format format, int channels)
{
    struct reference *reference;
    CUresult result = enter(handle, &reference);

    if (result == CUDA_SUCCESS) {
        reference->format = format;
        reference->channels = channels;
    }
    return result;
}

CUresult sim_cuTexRefGetFormat(CUarray_format *format, int *channels, CUtexref handle)
{
    struct reference *reference;
    CUresult result = sim_answer(sim_answer(enter(handle, &reference), format), channels);

    if (result == CUDA_SUCCESS) {
        *format = reference->format;
        *channels = reference->channels;
    }
    return result;
}

CUresult sim_cuTexRefSetAddressMode(CUtexref handle, int dimension, CUaddress_mode mode)
{
    struct reference *reference;
    CUresult result = enter(handle, &reference);

    if (result == CUDA_SUCCESS && (dimension < 0 || dimension >= DIMENSIONS))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        reference->address_mode[dimension] = mode;
    return result;
}

CUresult sim_cuTexRefGetAddressMode(CUaddress_mode *mode, CUtexref handle, int dimension)
{
    struct reference *reference;
    CUresult result = sim_answer(enter(handle, &reference), mode);

    if (result == CUDA_SUCCESS && (dimension < 0 || dimension >= DIMENSIONS))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *mode = reference->address_mode[dimension];
    return result;
}

CUresult sim_cuTexRefSetMipmapLevelClamp(CUtexref handle, float least, float most)
{
    struct reference *reference;
    CUresult result = enter(handle, &reference);

    if (result == CUDA_SUCCESS) {
        reference->clamp_least = least;
        reference->clamp_most = most;
    }
    return result;
}

CUresult sim_cuTexRefGetMipmapLevelClamp(float *least, float *most, CUtexref handle)
{
    struct reference *reference;
    CUresult result = sim_answer(sim_answer(enter(handle, &reference), least), most);

    if (result == CUDA_SUCCESS) {
        *least = reference->clamp_least;
        *most = reference->clamp_most;
    }
    return result;
}

CUresult sim_cuTexRefSetBorderColor(CUtexref handle, float *color)
{
    struct reference *reference;
    CUresult result = sim_answer(enter(handle, &reference), color);

    if (result == CUDA_SUCCESS)
        memcpy(reference->border, color, sizeof(reference->border));
    return result;
}

CUresult sim_cuTexRefGetBorderColor(float *color, CUtexref handle)
{
    struct reference *reference;
    CUresult result = sim_answer(enter(handle, &reference), color);

    if (result == CUDA_SUCCESS)
        memcpy(color, reference->border, sizeof(reference->border));
    return result;
}

CUresult sim_cuParamSetTexRef(CUfunction function, int unit, CUtexref handle)
{
    struct reference *reference;
    CUresult result = enter(handle, &reference);

    if (result == CUDA_SUCCESS && unit != -1) /* the only unit that may be named */
        result = CUDA_ERROR_INVALID_VALUE;
    return result == CUDA_SUCCESS && sim_function_of(function) == NULL ? CUDA_ERROR_INVALID_HANDLE : result;
}
