/* Memory of another process by a handle: what the legacy handles and those of pools share. */
#ifndef EGPU_SIM_IPC_H
#define EGPU_SIM_IPC_H

#include "memory.h"

/* Says where the bytes are: in a file without a name that the exporter holds open. */
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

/* Under memory_enter(). `offset` and `bytes` are the exported part of the block. */
CUresult ipc_describe(struct memory_block *block, uint64_t offset, uint64_t bytes, struct ipc_handle *handle);
CUresult ipc_open(const struct ipc_handle *handle, CUcontext context, CUmemoryPool pool, CUdeviceptr *address);
void ipc_close(struct memory_range *range);
CUmemoryPool ipc_pool(const struct memory_range *range); /* NULL: opened by a legacy handle */
/* The exporter is the one that made the handle, it lives, and it is not this process. */
CUresult ipc_check(const struct ipc_handle *handle);

#endif
