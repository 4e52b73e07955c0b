/* Memory of another process by its handle.
 *
 * The exporter's bytes move into a file without a name; the handle says where that file is open. So it can be opened
 * as long as the exporter lives, and only the exporter is charged. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc.h"

#define IPC_MAGIC UINT64_C(0x454750555f495043)
#define IPC_LAZY_PEER_ACCESS 1U /* the interface's only flag, and it has to be given */
#define IPC_PATH_BYTES 64

struct ipc_import {
    struct ipc_handle handle;
    CUmemoryPool pool;
    void *mapped;
    uint64_t mapped_bytes;
    unsigned opens;
};

CUresult ipc_describe(struct memory_block *block, uint64_t offset, uint64_t bytes, struct ipc_handle *handle) {
    struct stat status;
    uint64_t base;
    int file = block_share(block, &base);
    if (file < 0 || fstat(file, &status) != 0)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *handle = (struct ipc_handle){.magic = IPC_MAGIC,
                                  .start_time = sim_process()->start_time,
                                  .inode = status.st_ino,
                                  .offset = base + offset,
                                  .bytes = bytes,
                                  .process = sim_process_index(),
                                  .pid = getpid(),
                                  .file = file,
                                  .card = block->card};
    return CUDA_SUCCESS;
}

CUresult sim_cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address) {
    struct sim_context *context;
    struct ipc_handle content;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (handle == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    struct memory_range *range = addresses_find(address);
    if (range == NULL || range->kind != MEMORY_PLAIN) /* Managed, pooled and mapped memory has no such handle. */
        result = CUDA_ERROR_INVALID_VALUE;
    else
        result = ipc_describe(&range->block, 0, range->bytes, &content);
    memory_leave();
    if (result == CUDA_SUCCESS) {
        memset(handle, 0, sizeof *handle);
        memcpy(handle, &content, sizeof content);
    }
    return result;
}

CUresult ipc_check(const struct ipc_handle *handle) {
    if (handle->magic != IPC_MAGIC || handle->process >= SIM_PROCESSES_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    if (handle->pid == getpid())
        return CUDA_ERROR_INVALID_CONTEXT; /* A process does not open what is its own. */
    const struct sim_process *process = &sim_state()->processes[handle->process];
    bool lives = process->pid == handle->pid && process->start_time == handle->start_time;
    return lives && sim_process_alive(process) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static bool map_exported(const struct ipc_handle *handle, struct ipc_import *import) {
    char path[IPC_PATH_BYTES];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", handle->pid, handle->file);
    int file = open(path, O_RDWR | O_CLOEXEC);
    struct stat status;
    if (file < 0)
        return false;
    bool same = fstat(file, &status) == 0 && status.st_ino == handle->inode;
    if (same) {
        import->mapped_bytes = (uint64_t)status.st_size;
        import->mapped = mmap(NULL, import->mapped_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    }
    close(file);
    return same && import->mapped != MAP_FAILED;
}

static struct memory_range *opened_before(const struct ipc_handle *handle) {
    struct memory_range *range;
    for (size_t index = 0; (range = addresses_at(index)) != NULL; index++)
        if (range->kind == MEMORY_IMPORTED &&
            memcmp(&((struct ipc_import *)range->body)->handle, handle, sizeof *handle) == 0)
            return range;
    return NULL;
}

CUresult ipc_open(const struct ipc_handle *handle, CUcontext context, CUmemoryPool pool, CUdeviceptr *address) {
    struct memory_range *before = opened_before(handle);
    if (before != NULL) {
        ((struct ipc_import *)before->body)->opens++;
        *address = before->address;
        return CUDA_SUCCESS;
    }
    struct ipc_import *import = calloc(1, sizeof *import);
    if (import == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (!map_exported(handle, import)) {
        free(import);
        return CUDA_ERROR_INVALID_VALUE; /* Freed by its owner meanwhile. */
    }
    import->handle = *handle;
    import->pool = pool;
    import->opens = 1;
    struct memory_range range = {.address = (uint64_t)import->mapped + handle->offset, .bytes = handle->bytes,
                                 .kind = MEMORY_IMPORTED, .card = handle->card, .context = context, .body = import};
    addresses_add(&range);
    *address = range.address;
    return CUDA_SUCCESS;
}

void ipc_close(struct memory_range *range) {
    struct ipc_import *import = range->body;
    if (--import->opens > 0)
        return;
    munmap(import->mapped, import->mapped_bytes);
    free(import);
    addresses_remove(range);
}

CUmemoryPool ipc_pool(const struct memory_range *range) { return ((const struct ipc_import *)range->body)->pool; }

CUresult sim_cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle opaque, unsigned int flags) {
    struct sim_context *context;
    struct ipc_handle handle;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS)
        return result;
    if (address == NULL || flags != IPC_LAZY_PEER_ACCESS)
        return CUDA_ERROR_INVALID_VALUE;
    memcpy(&handle, &opaque, sizeof handle);
    result = ipc_check(&handle);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    result = ipc_open(&handle, MEMORY_HANDLE(context), NULL, address);
    memory_leave();
    return result;
}

CUresult sim_cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags) {
    return sim_cuIpcOpenMemHandle_v2(address, handle, flags);
}

static struct memory_range *opened_at(CUdeviceptr address) {
    struct memory_range *range = addresses_find(address);
    bool opened = range != NULL && range->kind == MEMORY_IMPORTED && range->address == address;
    return opened && ipc_pool(range) == NULL ? range : NULL;
}

CUresult sim_cuIpcCloseMemHandle(CUdeviceptr address) {
    struct sim_context *context;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    bool opened = opened_at(address) != NULL;
    memory_leave();
    if (!opened)
        return CUDA_ERROR_INVALID_VALUE;
    result = sim_wait_context(context);
    memory_enter();
    struct memory_range *range = opened_at(address);
    if (range != NULL)
        ipc_close(range);
    memory_leave();
    return result;
}
