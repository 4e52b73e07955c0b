/* Texture and surface objects: descriptions that are kept and told; no kernel here samples them. */
#include <stdlib.h>
#include <string.h>

#include "copies.h"

#define TEXTURE_MAGIC UINT64_C(0x6572757478657431)
#define SURFACE_MAGIC UINT64_C(0x6563616672757331)
#define LINEAR_ALIGNMENT 512 /* the card's texture alignment */
#define PITCH_ALIGNMENT 32

enum { OF_ARRAY = 0, OF_MIPMAPPED_ARRAY = 1, OF_LINEAR = 2, OF_PITCHED = 3 };

struct texture {
    uint64_t magic;
    CUDA_RESOURCE_DESC resource;
    CUDA_TEXTURE_DESC texture;
    CUDA_RESOURCE_VIEW_DESC view;
    bool viewed;
};

static bool holds(CUdeviceptr address, size_t bytes, size_t alignment)
{
    bool known;

    memory_enter();
    known = bytes > 0 && address % alignment == 0 && addresses_reach(address) >= bytes;
    memory_leave();
    return known;
}

static CUresult check_resource(const CUDA_RESOURCE_DESC *resource, bool surface)
{
    size_t pitch = resource->res.pitch2D.pitchInBytes;
    bool known = false;

    if (resource->flags != 0 || (surface && resource->resType != OF_ARRAY))
        return CUDA_ERROR_INVALID_VALUE;
    switch (resource->resType) {
    case OF_ARRAY:
        return array_known(resource->res.array.hArray) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    case OF_MIPMAPPED_ARRAY:
        return resource->res.mipmap.hMipmappedArray != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
    case OF_LINEAR:
        known = holds(resource->res.linear.devPtr, resource->res.linear.sizeInBytes, LINEAR_ALIGNMENT);
        break;
    case OF_PITCHED:
        known = pitch % PITCH_ALIGNMENT == 0 && resource->res.pitch2D.width > 0
            && holds(resource->res.pitch2D.devPtr, pitch * resource->res.pitch2D.height, LINEAR_ALIGNMENT);
        break;
    default:
        break;
    }
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult make(unsigned long long *made, uint64_t magic, const CUDA_RESOURCE_DESC *resource,
                     struct texture **object)
{
    struct sim_context *context;
    CUresult result = sim_answer(sim_answer(sim_enter_context(SIM_CALL_OTHER, &context), made), resource);

    if (result == CUDA_SUCCESS)
        result = check_resource(resource, magic == SURFACE_MAGIC);
    if (result != CUDA_SUCCESS)
        return result;
    *object = calloc(1, sizeof(**object));
    if (*object == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    (*object)->magic = magic;
    (*object)->resource = *resource;
    *made = (unsigned long long)(uintptr_t)*object;
    return CUDA_SUCCESS;
}

static CUresult find(unsigned long long handle, uint64_t magic, struct texture **object)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    *object = (struct texture *)(uintptr_t)handle;
    if (result == CUDA_SUCCESS && (*object == NULL || (*object)->magic != magic))
        result = CUDA_ERROR_INVALID_VALUE;
    return result;
}

static CUresult end(unsigned long long handle, uint64_t magic)
{
    struct texture *object;
    CUresult result = find(handle, magic, &object);

    if (result == CUDA_SUCCESS) {
        object->magic = 0;
        free(object);
    }
    return result;
}

static CUresult tell_resource(CUDA_RESOURCE_DESC *resource, unsigned long long handle, uint64_t magic)
{
    struct texture *object;
    CUresult result = sim_answer(find(handle, magic, &object), resource);

    if (result == CUDA_SUCCESS)
        *resource = object->resource;
    return result;
}

CUresult sim_cuTexObjectCreate(CUtexObject *made, const CUDA_RESOURCE_DESC *resource, const CUDA_TEXTURE_DESC *texture,
                               const CUDA_RESOURCE_VIEW_DESC *view)
{
    struct texture *object;
    CUresult result = texture != NULL ? make(made, TEXTURE_MAGIC, resource, &object) : CUDA_ERROR_INVALID_VALUE;

    if (result != CUDA_SUCCESS)
        return result;
    object->texture = *texture;
    object->viewed = view != NULL;
    if (view != NULL)
        object->view = *view;
    return CUDA_SUCCESS;
}

CUresult sim_cuTexObjectDestroy(CUtexObject handle)
{
    return end(handle, TEXTURE_MAGIC);
}

CUresult sim_cuTexObjectGetResourceDesc(CUDA_RESOURCE_DESC *resource, CUtexObject handle)
{
    return tell_resource(resource, handle, TEXTURE_MAGIC);
}

CUresult sim_cuTexObjectGetTextureDesc(CUDA_TEXTURE_DESC *texture, CUtexObject handle)
{
    struct texture *object;
    CUresult result = sim_answer(find(handle, TEXTURE_MAGIC, &object), texture);

    if (result == CUDA_SUCCESS)
        *texture = object->texture;
    return result;
}

CUresult sim_cuTexObjectGetResourceViewDesc(CUDA_RESOURCE_VIEW_DESC *view, CUtexObject handle)
{
    struct texture *object;
    CUresult result = sim_answer(find(handle, TEXTURE_MAGIC, &object), view);

    if (result == CUDA_SUCCESS && !object->viewed)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        *view = object->view;
    return result;
}

CUresult sim_cuSurfObjectCreate(CUsurfObject *made, const CUDA_RESOURCE_DESC *resource)
{
    struct texture *object;

    return make(made, SURFACE_MAGIC, resource, &object);
}

CUresult sim_cuSurfObjectDestroy(CUsurfObject handle)
{
    return end(handle, SURFACE_MAGIC);
}

CUresult sim_cuSurfObjectGetResourceDesc(CUDA_RESOURCE_DESC *resource, CUsurfObject handle)
{
    return tell_resource(resource, handle, SURFACE_MAGIC);
}
