/* Pools between processes: a descriptor names the pool, exported pointers name its pieces; the maker alone allocates. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ipc.h"
#include "pools.h"

#define POOL_FILE_MAGIC UINT64_C(0x45475055504f4f46)

/* What is in the file behind the descriptor. */
struct pool_file {
    uint64_t magic;
    CUmemPoolProps properties;
    int card;
};

static CUresult make_file(const struct pool_file *content, int *file) {
    *file = memfd_create("egpu-sim-pool", MFD_CLOEXEC);
    if (*file < 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    if (write(*file, content, sizeof *content) == (ssize_t)sizeof *content)
        return CUDA_SUCCESS;
    close(*file);
    return CUDA_ERROR_OPERATING_SYSTEM;
}

CUresult sim_cuMemPoolExportToShareableHandle(void *handle, CUmemoryPool pool, CUmemAllocationHandleType type,
                                              unsigned long long flags) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    struct pool_file content = {.magic = POOL_FILE_MAGIC};
    memory_enter();
    const struct CUmemPoolHandle_st *known = pool_of(pool);
    bool allowed = known != NULL && !known->imported && handle != NULL && flags == 0 &&
                   type == CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR && (known->properties.handleTypes & type);
    if (allowed) {
        content.properties = known->properties;
        content.card = known->card;
    }
    memory_leave();
    return allowed ? make_file(&content, handle) : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuMemPoolImportFromShareableHandle(CUmemoryPool *pool, void *handle, CUmemAllocationHandleType type,
                                                unsigned long long flags) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    struct pool_file content = {0};
    int file = (int)(intptr_t)handle;
    if (pool == NULL || flags != 0 || type != CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR)
        return CUDA_ERROR_INVALID_VALUE;
    if (pread(file, &content, sizeof content, 0) != (ssize_t)sizeof content || content.magic != POOL_FILE_MAGIC)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    *pool = pool_add(content.card, &content.properties);
    if (*pool != NULL)
        (*pool)->made = (*pool)->imported = true;
    memory_leave();
    return *pool != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuMemPoolExportPointer(CUmemPoolPtrExportData *data, CUdeviceptr address) {
    struct ipc_handle handle;
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    const struct memory_range *range = addresses_find(address);
    struct pool_piece *piece = range != NULL && range->kind == MEMORY_POOL ? range->body : NULL;
    bool allowed = piece != NULL && data != NULL && range->address == address &&
                   piece->chunk->pool->properties.handleTypes != CU_MEM_HANDLE_TYPE_NONE;
    result = CUDA_ERROR_INVALID_VALUE;
    if (allowed)
        result = ipc_describe(&piece->chunk->block, address - piece->chunk->block.address, range->bytes, &handle);
    memory_leave();
    if (result == CUDA_SUCCESS) {
        memset(data, 0, sizeof *data);
        memcpy(data, &handle, sizeof handle);
    }
    return result;
}

CUresult sim_cuMemPoolImportPointer(CUdeviceptr *address, CUmemoryPool pool, CUmemPoolPtrExportData *data) {
    struct sim_context *context;
    struct ipc_handle handle;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (address == NULL || data == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&handle, data, sizeof handle);
    result = ipc_check(&handle);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    CUmemoryPool known = pool_of(pool);
    if (known == NULL || !known->imported)
        result = CUDA_ERROR_INVALID_VALUE;
    else
        result = ipc_open(&handle, MEMORY_HANDLE(context), known, address);
    memory_leave();
    return result;
}
