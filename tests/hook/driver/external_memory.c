/* Memory of other interfaces: here a file, of which the driver maps pieces. Whoever exported it pays for it. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "memory.h"

#define EXTERNAL_MAGIC UINT64_C(0x6c616e7265747865)

enum { OPAQUE_FILE = 1, SHARED_BUFFER = 9 };

struct CUextMemory_st {
    uint64_t magic;
    uint64_t bytes;
    void *mapped;
};

static CUexternalMemory live(CUexternalMemory memory) {
    return memory != NULL && memory->magic == EXTERNAL_MAGIC ? memory : NULL;
}

static bool file_holds(int file, uint64_t bytes) {
    struct stat status;
    return bytes > 0 && fstat(file, &status) == 0 && (uint64_t)status.st_size >= bytes;
}

CUresult sim_cuImportExternalMemory(CUexternalMemory *made, const CUDA_EXTERNAL_MEMORY_HANDLE_DESC *handle) {
    struct sim_context *context;
    CUresult result = sim_answer(sim_answer(memory_begin(&context), made), handle);
    if (result != CUDA_SUCCESS)
        return result;
    if (handle->type != OPAQUE_FILE && handle->type != SHARED_BUFFER)
        return CUDA_ERROR_NOT_SUPPORTED; /* Windows, NvSci. */
    if (!file_holds(handle->handle.fd, handle->size))
        return CUDA_ERROR_INVALID_VALUE;
    CUexternalMemory memory = calloc(1, sizeof *memory);
    if (memory == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memory->mapped = mmap(NULL, handle->size, PROT_READ | PROT_WRITE, MAP_SHARED, handle->handle.fd, 0);
    if (memory->mapped == MAP_FAILED) {
        free(memory);
        return CUDA_ERROR_INVALID_VALUE;
    }
    close(handle->handle.fd); /* The driver owns it once it is imported. */
    memory->magic = EXTERNAL_MAGIC;
    memory->bytes = handle->size;
    *made = memory;
    return CUDA_SUCCESS;
}

CUresult sim_cuExternalMemoryGetMappedBuffer(CUdeviceptr *address, CUexternalMemory memory,
                                             const CUDA_EXTERNAL_MEMORY_BUFFER_DESC *buffer) {
    struct sim_context *context;
    CUresult result = sim_answer(sim_answer(memory_begin(&context), address), buffer);
    if (result != CUDA_SUCCESS)
        return result;
    if (live(memory) == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (buffer->flags != 0 || buffer->size == 0 || buffer->offset > memory->bytes ||
        buffer->size > memory->bytes - buffer->offset)
        return CUDA_ERROR_INVALID_VALUE;
    struct memory_range range = {.address = (uint64_t)memory->mapped + buffer->offset, .bytes = buffer->size,
                                 .kind = MEMORY_EXTERNAL, .card = context->card, .context = MEMORY_HANDLE(context)};
    memory_enter();
    if (addresses_overlap(range.address, range.bytes))
        result = CUDA_ERROR_INVALID_VALUE; /* One mapping of a piece at a time is simulated. */
    else
        addresses_add(&range);
    memory_leave();
    *address = range.address;
    return result;
}

/* Buffers that are still mapped keep their bytes: the pages go with the process. */
CUresult sim_cuDestroyExternalMemory(CUexternalMemory memory) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    if (result == CUDA_SUCCESS && live(memory) == NULL)
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    if (!addresses_overlap((uint64_t)memory->mapped, memory->bytes))
        munmap(memory->mapped, memory->bytes);
    memory_leave();
    memory->magic = 0;
    free(memory);
    return CUDA_SUCCESS;
}
