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

#include "memory.h"

#define IPC_MAGIC UINT64_C(0x454750555f495043)
#define IPC_LAZY_PEER_ACCESS 1U /* the interface's only flag, and it has to be given */
#define IPC_PATH_BYTES 64

struct ipc_handle {
    uint64_t magic;
    uint64_t start_time;
    uint64_t inode;
    uint64_t offset;
    uint64_t bytes;
    uint32_t process;
    int32_t pid;
    int32_t file;
    int32_t card;
};
_Static_assert(sizeof(struct ipc_handle) <= sizeof(CUipcMemHandle), "the interface's handle has 64 bytes");

struct ipc_import {
    struct ipc_handle handle;
    void *mapped;
    uint64_t mapped_bytes;
    unsigned opens;
};

CUresult sim_cuIpcGetMemHandle(CUipcMemHandle *handle, CUdeviceptr address) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (handle == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    struct memory_range *range = addresses_find(address);
    bool plain = range != NULL && range->kind == MEMORY_PLAIN; /* Managed, pooled and mapped memory has no handle. */
    struct ipc_handle content = {.magic = IPC_MAGIC, .file = -1};
    struct stat status;
    if (plain)
        content.file = block_share(&range->block, &content.offset);
    if (content.file >= 0 && fstat(content.file, &status) == 0) {
        content.inode = status.st_ino;
        content.bytes = range->bytes;
        content.card = range->card;
        content.process = sim_process_index();
        content.pid = getpid();
        content.start_time = sim_process()->start_time;
        memset(handle, 0, sizeof *handle);
        memcpy(handle, &content, sizeof content);
    } else {
        result = plain ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_ERROR_INVALID_VALUE;
    }
    memory_leave();
    return result;
}

/* The exporter is the one that made the handle, and it lives. */
static bool exporter_lives(const struct ipc_handle *handle) {
    if (handle->magic != IPC_MAGIC || handle->process >= SIM_PROCESSES_MAX)
        return false;
    const struct sim_process *process = &sim_state()->processes[handle->process];
    return process->pid == handle->pid && process->start_time == handle->start_time && sim_process_alive(process);
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

static CUresult open_first(const struct ipc_handle *handle, CUcontext context, CUdeviceptr *address) {
    struct ipc_import *import = calloc(1, sizeof *import);
    if (import == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    if (!map_exported(handle, import)) {
        free(import);
        return CUDA_ERROR_INVALID_VALUE; /* Freed by its owner meanwhile. */
    }
    import->handle = *handle;
    import->opens = 1;
    struct memory_range range = {.address = (uint64_t)import->mapped + handle->offset, .bytes = handle->bytes,
                                 .kind = MEMORY_IMPORTED, .card = handle->card, .context = context, .body = import};
    addresses_add(&range);
    *address = range.address;
    return CUDA_SUCCESS;
}

CUresult sim_cuIpcOpenMemHandle_v2(CUdeviceptr *address, CUipcMemHandle opaque, unsigned int flags) {
    struct sim_context *context;
    struct ipc_handle handle;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS)
        return result;
    memcpy(&handle, &opaque, sizeof handle);
    if (address == NULL || flags != IPC_LAZY_PEER_ACCESS || !exporter_lives(&handle))
        return CUDA_ERROR_INVALID_VALUE;
    if (handle.pid == getpid())
        return CUDA_ERROR_INVALID_CONTEXT; /* A process does not open what is its own. */
    memory_enter();
    struct memory_range *range = opened_before(&handle);
    if (range != NULL) {
        ((struct ipc_import *)range->body)->opens++;
        *address = range->address;
    } else {
        result = open_first(&handle, MEMORY_HANDLE(context), address);
    }
    memory_leave();
    return result;
}

CUresult sim_cuIpcOpenMemHandle(CUdeviceptr *address, CUipcMemHandle handle, unsigned int flags) {
    return sim_cuIpcOpenMemHandle_v2(address, handle, flags);
}

CUresult sim_cuIpcCloseMemHandle(CUdeviceptr address) {
    struct sim_context *context;
    CUresult result = memory_begin(&context);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    struct memory_range *range = addresses_find(address);
    bool opened = range != NULL && range->kind == MEMORY_IMPORTED && range->address == address;
    memory_leave();
    if (!opened)
        return CUDA_ERROR_INVALID_VALUE;
    result = sim_wait_context(context);
    memory_enter();
    range = addresses_find(address);
    if (range != NULL && range->kind == MEMORY_IMPORTED) {
        struct ipc_import *import = range->body;
        if (--import->opens == 0) {
            munmap(import->mapped, import->mapped_bytes);
            free(import);
            addresses_remove(range);
        }
    }
    memory_leave();
    return result;
}
