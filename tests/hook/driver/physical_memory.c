/* Physical memory by handle: cuMemCreate, cuMemRelease, and handles that go to other processes. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "virtual_memory.h"

static struct physical *physicals;

struct physical *physical_of(CUmemGenericAllocationHandle handle) {
    for (struct physical *physical = physicals; physical != NULL; physical = physical->next)
        if (physical == (void *)(uintptr_t)handle && physical->handles > 0)
            return physical;
    return NULL;
}

/* A shared mapping, so that more mappings of the same bytes can be made from it. */
static bool give_home(struct physical *physical) {
    int kind = physical->file < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
    void *home = mmap(NULL, physical->bytes, PROT_READ | PROT_WRITE, kind | MAP_NORESERVE, physical->file, 0);
    physical->home = (uint64_t)home;
    return home != MAP_FAILED;
}

static void charge_back(const struct physical *physical) {
    if (physical->card >= 0)
        card_memory_discharge(physical->card, physical->bytes);
    else
        card_memory_count_host(0, -(int64_t)physical->bytes);
}

static void add_physical(struct physical *physical) {
    physical->handles = 1;
    physical->next = physicals;
    physicals = physical;
}

void physical_drop_if_unused(struct physical *physical) {
    if (physical->handles > 0 || physical->mappings > 0)
        return;
    struct physical **link = &physicals;
    while (*link != physical)
        link = &(*link)->next;
    *link = physical->next;
    munmap((void *)physical->home, physical->bytes);
    if (physical->exported)
        export_leave(physical->file);
    else
        charge_back(physical);
    if (physical->file >= 0)
        close(physical->file);
    free(physical);
}

static bool location_known(const CUmemLocation *location) {
    switch (location->type) {
    case CU_MEM_LOCATION_TYPE_DEVICE:
        return location->id >= 0 && location->id < (int)sim_state()->cards;
    case CU_MEM_LOCATION_TYPE_HOST:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA:
    case CU_MEM_LOCATION_TYPE_HOST_NUMA_CURRENT:
        return true;
    default:
        return false;
    }
}

static CUresult properties_known(const CUmemAllocationProp *properties) {
    if (properties == NULL || properties->type != CU_MEM_ALLOCATION_TYPE_PINNED)
        return CUDA_ERROR_INVALID_VALUE;
    if (!location_known(&properties->location))
        return CUDA_ERROR_INVALID_DEVICE;
    if (properties->requestedHandleTypes & ~(unsigned)CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_NOT_SUPPORTED; /* No fabric, no Windows. */
    return CUDA_SUCCESS;
}

/* The bytes against the card of the properties, which need not be the current context's (cuda_hook.md 4.9). */
static CUresult back(struct physical *physical) {
    CUresult result = CUDA_SUCCESS;
    if (physical->card >= 0)
        result = card_memory_charge(physical->card, physical->bytes);
    else
        card_memory_count_host(0, (int64_t)physical->bytes);
    if (result != CUDA_SUCCESS)
        return result;
    bool made = true;
    if (physical->properties.requestedHandleTypes != CU_MEM_HANDLE_TYPE_NONE) {
        physical->file = memfd_create("egpu-sim-physical", MFD_CLOEXEC);
        made = physical->file >= 0 && ftruncate(physical->file, (off_t)physical->bytes) == 0;
    }
    if (made && give_home(physical))
        return CUDA_SUCCESS;
    charge_back(physical);
    if (physical->file >= 0)
        close(physical->file);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                         unsigned long long flags) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result == CUDA_SUCCESS && sim_fault(SIM_FAULT_MEMORY))
        result = CUDA_ERROR_OUT_OF_MEMORY;
    if (result != CUDA_SUCCESS)
        return result;
    if (handle == NULL || flags != 0 || bytes == 0 || bytes % MEMORY_GRANULE_BYTES != 0)
        return CUDA_ERROR_INVALID_VALUE;
    result = properties_known(properties);
    if (result != CUDA_SUCCESS)
        return result;
    struct physical *physical = calloc(1, sizeof *physical);
    if (physical == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    bool of_card = properties->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    physical->card = of_card ? properties->location.id : MEMORY_NO_CARD;
    physical->bytes = bytes;
    physical->file = -1;
    physical->properties = *properties;
    memory_enter();
    result = back(physical);
    if (result == CUDA_SUCCESS) {
        add_physical(physical);
        *handle = (CUmemGenericAllocationHandle)(uintptr_t)physical;
    } else {
        free(physical);
    }
    memory_leave();
    return result;
}

CUresult sim_cuMemRelease(CUmemGenericAllocationHandle handle) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct physical *physical = physical_of(handle);
    if (physical != NULL) {
        physical->handles--;
        physical_drop_if_unused(physical);
    }
    memory_leave();
    return physical != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *handle, void *address) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct memory_range *range = addresses_find((uint64_t)address);
    bool mapped = handle != NULL && range != NULL && range->kind == MEMORY_MAPPED;
    if (mapped) {
        struct physical *physical = ((struct virtual_mapping *)range->body)->physical;
        physical->handles++;
        *handle = (CUmemGenericAllocationHandle)(uintptr_t)physical;
    }
    memory_leave();
    return mapped ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemGetAllocationPropertiesFromHandle(CUmemAllocationProp *properties,
                                                    CUmemGenericAllocationHandle handle) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct physical *physical = physical_of(handle);
    if (physical != NULL && properties != NULL)
        *properties = physical->properties;
    memory_leave();
    return physical != NULL && properties != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemGetAllocationGranularity(size_t *granularity, const CUmemAllocationProp *properties,
                                           CUmemAllocationGranularity_flags option) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result == CUDA_SUCCESS)
        result = properties_known(properties);
    if (result != CUDA_SUCCESS)
        return result;
    if (granularity == NULL || option > CU_MEM_ALLOC_GRANULARITY_RECOMMENDED)
        return CUDA_ERROR_INVALID_VALUE;
    *granularity = MEMORY_GRANULE_BYTES;
    return CUDA_SUCCESS;
}

CUresult sim_cuMemExportToShareableHandle(void *shareable, CUmemGenericAllocationHandle handle,
                                          CUmemAllocationHandleType type, unsigned long long flags) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct physical *physical = physical_of(handle);
    bool allowed = physical != NULL && shareable != NULL && flags == 0 &&
                   type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR && physical->file >= 0;
    result = allowed ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    if (allowed && !physical->exported)
        physical->exported = export_begin(physical->file, physical->card, physical->bytes);
    if (allowed && physical->exported) {
        *(int *)shareable = fcntl(physical->file, F_DUPFD_CLOEXEC, 0);
        result = *(int *)shareable >= 0 ? CUDA_SUCCESS : CUDA_ERROR_OPERATING_SYSTEM;
    } else if (allowed) {
        result = CUDA_ERROR_OPERATING_SYSTEM;
    }
    memory_leave();
    return result;
}

CUresult sim_cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *handle, void *shareable,
                                            CUmemAllocationHandleType type) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    if (handle == NULL || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_INVALID_VALUE;
    struct physical *physical = calloc(1, sizeof *physical);
    if (physical == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    physical->file = fcntl((int)(intptr_t)shareable, F_DUPFD_CLOEXEC, 0);
    memory_enter();
    bool joined = physical->file >= 0 && export_join(physical->file, &physical->card, &physical->bytes);
    if (joined && !give_home(physical)) {
        export_leave(physical->file);
        joined = false;
    }
    if (joined) {
        physical->exported = true;
        physical->properties = (CUmemAllocationProp){
            .type = CU_MEM_ALLOCATION_TYPE_PINNED,
            .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
            .location = {.type = physical->card >= 0 ? CU_MEM_LOCATION_TYPE_DEVICE : CU_MEM_LOCATION_TYPE_HOST,
                         .id = physical->card >= 0 ? physical->card : 0}};
        add_physical(physical);
        *handle = (CUmemGenericAllocationHandle)(uintptr_t)physical;
    } else {
        if (physical->file >= 0)
            close(physical->file);
        free(physical);
    }
    memory_leave();
    return joined ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

void physical_memory_forked(void) { physicals = NULL; }
