/* Making, asking and ending streams. */
#include <stdlib.h>
#include <string.h>

#include "streams.h"
#include "simulated.h"

#define PER_THREAD_CONTEXTS_MAX 16

static uint64_t identities;
static __thread struct sim_stream *per_thread[PER_THREAD_CONTEXTS_MAX];
static pthread_key_t ending; /* a thread's streams end with it */
static pthread_once_t ending_once = PTHREAD_ONCE_INIT;

struct sim_stream *sim_stream_make(struct sim_context *context, unsigned flags, int priority)
{
    struct sim_stream *stream = calloc(1, sizeof(*stream));

    if (stream == NULL)
        return NULL;
    stream->magic = SIM_STREAM_MAGIC;
    stream->context = context;
    stream->flags = flags;
    stream->priority = priority;
    sim_lock();
    stream->identity = ++identities;
    stream->next = context->streams;
    context->streams = stream;
    sim_unlock();
    return stream;
}

/* Its work goes on; the context's latest point still waits for it. */
static void leave_context(struct sim_stream *stream)
{
    struct sim_context *context = stream->context;

    sim_lock_with_room(context->card, SIM_JOIN);
    for (struct sim_stream **link = &context->streams; *link != NULL; link = &(*link)->next)
        if (*link == stream) {
            *link = stream->next;
            break;
        }
    if (!context->destroyed)
        context->latest = sim_join(context->card, context->latest, stream->tail);
    stream->magic = 0;
    sim_unlock();
}

static void end_per_thread(void *unused)
{
    (void)unused;
    for (int place = 0; place < PER_THREAD_CONTEXTS_MAX && per_thread[place] != NULL; place++) {
        if (!sim_process_over() && sim_process()->lost == 0 && !sim_capture_active(per_thread[place]))
            leave_context(per_thread[place]);
        per_thread[place] = NULL;
    }
}

static void make_ending(void)
{
    pthread_key_create(&ending, end_per_thread);
}

static struct sim_stream *per_thread_stream(struct sim_context *context)
{
    pthread_once(&ending_once, make_ending);
    pthread_setspecific(ending, context);
    for (int place = 0; place < PER_THREAD_CONTEXTS_MAX; place++) {
        if (per_thread[place] == NULL) {
            per_thread[place] = sim_stream_make(context, CU_STREAM_DEFAULT, 0);
            if (per_thread[place] != NULL)
                per_thread[place]->per_thread = true;
            return per_thread[place];
        }
        if (per_thread[place]->context == context)
            return per_thread[place];
    }
    return NULL;
}

CUresult sim_stream_of(CUstream handle, struct sim_stream **stream)
{
    if (handle == NULL || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD) {
        struct sim_context *context = sim_context_current();

        if (context == NULL)
            return CUDA_ERROR_INVALID_CONTEXT;
        if (context->destroyed)
            return CUDA_ERROR_CONTEXT_IS_DESTROYED;
        *stream = handle == CU_STREAM_PER_THREAD ? per_thread_stream(context) : context->legacy;
        return *stream != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
    }
    *stream = (struct sim_stream *)(void *)handle;
    if ((*stream)->magic != SIM_STREAM_MAGIC || (*stream)->context->destroyed)
        return CUDA_ERROR_INVALID_HANDLE;
    return CUDA_SUCCESS;
}

CUresult sim_enter_stream(enum sim_call call, CUstream handle, struct sim_stream **stream)
{
    CUresult result = sim_enter(call);

    return result != CUDA_SUCCESS ? result : sim_stream_of(handle, stream);
}

int sim_stream_card(CUstream handle)
{
    struct sim_stream *stream;

    return sim_stream_of(handle, &stream) == CUDA_SUCCESS ? stream->context->card : -1;
}

CUresult sim_cuStreamCreateWithPriority(CUstream *handle, unsigned int flags, int priority)
{
    struct sim_context *context;
    struct sim_stream *stream;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);

    if (result != CUDA_SUCCESS)
        return result;
    if (handle == NULL || (flags & ~(unsigned)CU_STREAM_NON_BLOCKING) != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (priority > SIM_STREAM_PRIORITY_LEAST)
        priority = SIM_STREAM_PRIORITY_LEAST;
    if (priority < SIM_STREAM_PRIORITY_GREATEST)
        priority = SIM_STREAM_PRIORITY_GREATEST;
    stream = sim_stream_make(context, flags, priority);
    if (stream == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    *handle = (CUstream)(void *)stream;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamCreate(CUstream *handle, unsigned int flags)
{
    return sim_cuStreamCreateWithPriority(handle, flags, 0);
}

CUresult sim_cuStreamDestroy_v2(CUstream handle)
{
    struct sim_stream *stream;
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (handle == NULL || handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD)
        return CUDA_ERROR_INVALID_HANDLE;
    result = sim_stream_of(handle, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (sim_capture_active(stream))
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    leave_context(stream);
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamDestroy(CUstream handle)
{
    return sim_cuStreamDestroy_v2(handle);
}

CUresult sim_cuStreamGetPriority(CUstream handle, int *priority)
{
    struct sim_stream *stream;
    CUresult result = sim_answer(sim_enter_stream(SIM_CALL_OTHER, handle, &stream), priority);

    if (result == CUDA_SUCCESS)
        *priority = stream->priority;
    return result;
}

CUresult sim_cuStreamGetFlags(CUstream handle, unsigned int *flags)
{
    struct sim_stream *stream;
    CUresult result = sim_answer(sim_enter_stream(SIM_CALL_OTHER, handle, &stream), flags);

    if (result == CUDA_SUCCESS)
        *flags = stream->flags;
    return result;
}

CUresult sim_cuStreamGetId(CUstream handle, unsigned long long *identity)
{
    struct sim_stream *stream;
    CUresult result = sim_answer(sim_enter_stream(SIM_CALL_OTHER, handle, &stream), identity);

    if (result == CUDA_SUCCESS)
        *identity = stream->identity;
    return result;
}

CUresult sim_cuStreamGetDevice(CUstream handle, CUdevice *device)
{
    struct sim_stream *stream;
    CUresult result = sim_answer(sim_enter_stream(SIM_CALL_OTHER, handle, &stream), device);

    if (result == CUDA_SUCCESS)
        *device = stream->context->card;
    return result;
}

CUresult sim_cuStreamGetCtx(CUstream handle, CUcontext *context)
{
    struct sim_stream *stream;
    CUresult result = sim_answer(sim_enter_stream(SIM_CALL_OTHER, handle, &stream), context);

    if (result == CUDA_SUCCESS)
        *context = (CUcontext)(void *)stream->context;
    return result;
}

CUresult sim_cuStreamQuery(CUstream handle)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    return result != CUDA_SUCCESS ? result : sim_query_stream(handle);
}

CUresult sim_cuStreamSynchronize(CUstream handle)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    return result != CUDA_SUCCESS ? result : sim_wait_stream(handle);
}

CUresult sim_cuCtxSynchronize(void)
{
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);

    return result != CUDA_SUCCESS ? result : sim_wait_context(context);
}

CUresult sim_cuCtxSynchronize_v2(CUcontext handle)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);
    struct sim_context *context = handle != NULL ? sim_context_of(handle) : sim_context_current();

    if (result != CUDA_SUCCESS)
        return result;
    return context != NULL ? sim_wait_context(context) : CUDA_ERROR_INVALID_CONTEXT;
}

CUresult sim_cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);

    if (result != CUDA_SUCCESS)
        return result;
    if (least != NULL)
        *least = SIM_STREAM_PRIORITY_LEAST;
    if (greatest != NULL)
        *greatest = SIM_STREAM_PRIORITY_GREATEST;
    return CUDA_SUCCESS;
}
