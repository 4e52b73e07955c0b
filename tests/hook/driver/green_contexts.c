/* Green contexts: contexts with a share of the processors, which this card does not divide; and events of contexts. */
#include <stdlib.h>

#include "green_contexts.h"
#include "simulated.h"

#define GREEN_MAGIC UINT64_C(0x6e65657267677231)
#define DEFAULT_STREAM 1U /* the one flag cuGreenCtxCreate must be given */

CUgreenCtx sim_green_of(CUgreenCtx green)
{
    return green != NULL && green->magic == GREEN_MAGIC ? green : NULL;
}

CUresult sim_cuGreenCtxCreate(CUgreenCtx *made, CUdevResourceDesc description, CUdevice device, unsigned int flags)
{
    CUgreenCtx green;
    CUresult result = sim_answer(sim_answer(sim_enter_card(device), made), description);

    if (result != CUDA_SUCCESS)
        return result;
    if (flags != DEFAULT_STREAM || sim_resource_described(description) == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    green = calloc(1, sizeof(*green));
    if (green == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    result = sim_context_make(device, &green->context);
    if (result != CUDA_SUCCESS) {
        free(green);
        return result;
    }
    green->magic = GREEN_MAGIC;
    green->resource = *sim_resource_described(description);
    green->context->green = green;
    *made = green;
    return CUDA_SUCCESS;
}

CUresult sim_cuGreenCtxDestroy(CUgreenCtx green)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_green_of(green) == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    sim_context_end(green->context);
    green->context->green = NULL;
    green->magic = 0;
    free(green);
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxFromGreenCtx(CUcontext *context, CUgreenCtx green)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), context);

    if (result == CUDA_SUCCESS && sim_green_of(green) == NULL)
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS)
        *context = (CUcontext)(void *)green->context;
    return result;
}

CUresult sim_cuGreenCtxGetId(CUgreenCtx green, unsigned long long *identity)
{
    if (identity == NULL || sim_green_of(green) == NULL)
        return identity == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
    *identity = green->context->identity;
    return CUDA_SUCCESS;
}

CUresult sim_cuGreenCtxStreamCreate(CUstream *handle, CUgreenCtx green, unsigned int flags, int priority)
{
    struct sim_stream *stream;
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_green_of(green) == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (handle == NULL || flags != CU_STREAM_NON_BLOCKING)
        return CUDA_ERROR_INVALID_VALUE;
    stream = sim_stream_make(green->context, flags, priority);
    if (stream == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *handle = (CUstream)(void *)stream;
    return CUDA_SUCCESS;
}

/* A context's event stands for all its streams: what the legacy stream would wait for. */
static CUresult record(struct sim_context *context, CUevent event)
{
    if (context == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    CUresult result = sim_capture_refuse_context(context);
    return result == CUDA_SUCCESS ? sim_cuEventRecord(event, (CUstream)(void *)context->legacy) : result;
}

static CUresult wait(struct sim_context *context, CUevent event)
{
    CUresult result = context != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT;

    for (struct sim_stream *stream = context != NULL ? context->streams : NULL;
         stream != NULL && result == CUDA_SUCCESS; stream = stream->next)
        result = sim_cuStreamWaitEvent((CUstream)(void *)stream, event, 0);
    return result;
}

CUresult sim_cuCtxRecordEvent(CUcontext handle, CUevent event)
{
    return record(sim_context_of(handle), event);
}

CUresult sim_cuCtxWaitEvent(CUcontext handle, CUevent event)
{
    return wait(sim_context_of(handle), event);
}

CUresult sim_cuGreenCtxRecordEvent(CUgreenCtx green, CUevent event)
{
    return record(sim_green_of(green) != NULL ? green->context : NULL, event);
}

CUresult sim_cuGreenCtxWaitEvent(CUgreenCtx green, CUevent event)
{
    return wait(sim_green_of(green) != NULL ? green->context : NULL, event);
}

CUresult sim_cuStreamGetGreenCtx(CUstream handle, CUgreenCtx *green)
{
    struct sim_stream *stream;
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), green);

    if (result == CUDA_SUCCESS)
        result = sim_stream_of(handle, &stream);
    if (result == CUDA_SUCCESS)
        *green = stream->context->green;
    return result;
}

/* A stream of a green context has no other context to be told. */
CUresult sim_cuStreamGetCtx_v2(CUstream handle, CUcontext *context, CUgreenCtx *green)
{
    CUresult result = green != NULL ? sim_cuStreamGetGreenCtx(handle, green) : CUDA_SUCCESS;

    return result == CUDA_SUCCESS ? sim_cuStreamGetCtx(handle, context) : result;
}
