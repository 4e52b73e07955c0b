/* Semaphores that other interfaces share: here a count that lives in this process, whatever file it is imported from. */
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "graphs.h"
#include "simulated.h"

#define SEMAPHORE_MAGIC UINT64_C(0x6572616870616d65)
#define SEMAPHORES_AT_ONCE_MAX 64

enum { OPAQUE_FILE = 1, TIMELINE_FILE = 9 };

struct CUextSemaphore_st {
    uint64_t magic;
    uint64_t count;    /* under the state's lock, as the driver's thread is alone in changing it */
    bool timeline;     /* waits for a value; else each signal lets one wait pass */
};

struct turn {
    CUexternalSemaphore semaphore;
    uint64_t value;
};

static CUexternalSemaphore live(CUexternalSemaphore semaphore)
{
    return semaphore != NULL && semaphore->magic == SEMAPHORE_MAGIC ? semaphore : NULL;
}

CUresult sim_cuImportExternalSemaphore(CUexternalSemaphore *made, const CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC *handle)
{
    struct sim_context *context;
    CUresult result = sim_answer(sim_answer(sim_enter_context(SIM_CALL_OTHER, &context), made), handle);
    CUexternalSemaphore semaphore;

    if (result != CUDA_SUCCESS)
        return result;
    if (handle->type != OPAQUE_FILE && handle->type != TIMELINE_FILE)
        return CUDA_ERROR_NOT_SUPPORTED; /* Windows, NvSci */
    if (handle->flags != 0 || fcntl(handle->handle.fd, F_GETFD) < 0)
        return CUDA_ERROR_INVALID_VALUE;
    semaphore = calloc(1, sizeof(*semaphore));
    if (semaphore == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    close(handle->handle.fd); /* the driver owns it once it is imported */
    semaphore->magic = SEMAPHORE_MAGIC;
    semaphore->timeline = handle->type == TIMELINE_FILE;
    *made = semaphore;
    return CUDA_SUCCESS;
}

/* The memory stays: a stream may still wait, and passes. */
CUresult sim_cuDestroyExternalSemaphore(CUexternalSemaphore semaphore)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result == CUDA_SUCCESS && live(semaphore) == NULL)
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS)
        semaphore->magic = 0;
    return result;
}

static bool signal(void *argument)
{
    const struct turn *turn = argument;

    turn->semaphore->count = turn->semaphore->timeline ? turn->value : turn->semaphore->count + 1;
    return true;
}

static bool wait(void *argument)
{
    const struct turn *turn = argument;
    CUexternalSemaphore semaphore = live(turn->semaphore);

    if (semaphore == NULL)
        return true;
    if (semaphore->timeline)
        return semaphore->count >= turn->value;
    if (semaphore->count == 0)
        return false;
    semaphore->count--;
    return true;
}

static CUresult submit(struct sim_stream *stream, const struct turn *turns, size_t count, unsigned type)
{
    CUresult result = CUDA_SUCCESS;

    for (size_t index = 0; index < count && result == CUDA_SUCCESS; index++)
        result = sim_host_submit_condition(stream, type == CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL ? signal : wait,
                                           &turns[index], sizeof(turns[index]));
    return result;
}

CUresult sim_semaphores_launch(struct sim_stream *stream, const struct CUgraphNode_st *node)
{
    return submit(stream, node->operation.argument, node->operation.argument_bytes / sizeof(struct turn), node->type);
}

static CUresult add(const CUexternalSemaphore *semaphores, const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *parameters,
                    unsigned int count, CUstream handle, unsigned type)
{
    struct turn turns[SEMAPHORES_AT_ONCE_MAX];
    struct sim_stream *stream;
    CUresult result = sim_answer(sim_answer(sim_enter(SIM_CALL_LAUNCH), semaphores), parameters);

    if (result == CUDA_SUCCESS)
        result = sim_stream_of(handle, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (count == 0 || count > SEMAPHORES_AT_ONCE_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned index = 0; index < count; index++) {
        if (live(semaphores[index]) == NULL)
            return CUDA_ERROR_INVALID_HANDLE;
        turns[index] = (struct turn){semaphores[index], parameters[index].params.fence.value};
    }
    if (sim_capture_active(stream)) {
        struct sim_operation operation = {.kind = SIM_HOST, .argument = turns, .argument_bytes = count * sizeof(turns[0]),
                                          .node_type = (int)type};

        return sim_capture_add(stream, &operation);
    }
    if (stream == stream->context->legacy)
        result = sim_capture_implicit(stream);
    return result == CUDA_SUCCESS ? submit(stream, turns, count, type) : result;
}

CUresult sim_cuSignalExternalSemaphoresAsync(const CUexternalSemaphore *semaphores,
                                             const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *parameters,
                                             unsigned int count, CUstream stream)
{
    return add(semaphores, parameters, count, stream, CU_GRAPH_NODE_TYPE_EXT_SEMAS_SIGNAL);
}

CUresult sim_cuWaitExternalSemaphoresAsync(const CUexternalSemaphore *semaphores,
                                           const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *parameters, unsigned int count,
                                           CUstream stream)
{
    return add(semaphores, parameters, count, stream, CU_GRAPH_NODE_TYPE_EXT_SEMAS_WAIT);
}
