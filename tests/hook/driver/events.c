/* Events: the time at which a stream had done all it had to do when the event was recorded. */
#include <stdlib.h>

#include "streams.h"
#include "simulated.h"

#define NS_PER_MS 1e6F
#define EVENT_FLAGS                                                                                                   \
    ((unsigned)(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS))
/* Points are remembered for SIM_LANE_ENTRIES operations: events ask for their times well before that. */
#define RESOLVE_INTERVAL 256

static struct CUevent_st *pending; /* under the lock */
static uint64_t resolved_at;

static void leave_pending(struct CUevent_st *event)
{
    if (event->pending_link == NULL)
        return;
    *event->pending_link = event->pending_next;
    if (event->pending_next != NULL)
        event->pending_next->pending_link = event->pending_link;
    event->pending_link = NULL;
    event->pending_next = NULL;
}

static bool resolve(struct CUevent_st *event)
{
    uint64_t completed;

    if (!event->recorded || event->completed_ns != 0)
        return true;
    if (!sim_point_done(event->point, &completed))
        return false;
    event->completed_ns = completed > event->recorded_ns ? completed : event->recorded_ns;
    leave_pending(event);
    return true;
}

void sim_events_resolve(void)
{
    struct CUevent_st *next;

    if (++resolved_at % RESOLVE_INTERVAL != 0)
        return;
    for (struct CUevent_st *event = pending; event != NULL; event = next) {
        next = event->pending_next;
        resolve(event);
    }
}

void sim_event_forget(struct CUevent_st *event)
{
    leave_pending(event);
}

static CUresult check(CUevent event)
{
    if (event == NULL || event->magic != SIM_EVENT_MAGIC)
        return CUDA_ERROR_INVALID_HANDLE;
    if (!event->context->destroyed)
        return CUDA_SUCCESS;
    __atomic_add_fetch(&sim_process()->dead_events, 1, __ATOMIC_RELAXED);
    return CUDA_ERROR_CONTEXT_IS_DESTROYED;
}

static CUresult enter(CUevent event)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    return result == CUDA_SUCCESS ? check(event) : result;
}

static void join_context(struct CUevent_st *event)
{
    struct CUevent_st **first = &event->context->events;

    sim_lock();
    event->next = *first;
    event->link = first;
    if (event->next != NULL)
        event->next->link = &event->next;
    *first = event;
    sim_unlock();
}

static void leave_context(struct CUevent_st *event)
{
    *event->link = event->next;
    if (event->next != NULL)
        event->next->link = event->link;
}

CUresult sim_cuEventCreate(CUevent *made, unsigned int flags)
{
    struct sim_context *context;
    struct CUevent_st *event;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);

    if (result != CUDA_SUCCESS)
        return result;
    if (made == NULL || (flags & ~EVENT_FLAGS) != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if ((flags & CU_EVENT_INTERPROCESS) != 0 && (flags & CU_EVENT_DISABLE_TIMING) == 0)
        return CUDA_ERROR_INVALID_VALUE;
    event = calloc(1, sizeof(*event));
    if (event == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    event->magic = SIM_EVENT_MAGIC;
    event->context = context;
    event->flags = flags;
    join_context(event);
    *made = event;
    return CUDA_SUCCESS;
}

CUresult sim_cuEventDestroy_v2(CUevent event)
{
    CUresult result = enter(event);

    if (result != CUDA_SUCCESS)
        return result;
    sim_lock();
    leave_pending(event);
    leave_context(event);
    sim_event_leave(event);
    event->magic = 0;
    sim_nodes_clear(&event->after);
    sim_unlock();
    free(event);
    return CUDA_SUCCESS;
}

CUresult sim_cuEventDestroy(CUevent event)
{
    return sim_cuEventDestroy_v2(event);
}

CUresult sim_cuEventRecordWithFlags(CUevent event, CUstream handle, unsigned int flags)
{
    struct sim_stream *stream;
    CUresult result = enter(event);

    (void)flags; /* CU_EVENT_RECORD_EXTERNAL changes only what a capture makes of it */
    if (result == CUDA_SUCCESS)
        result = sim_stream_of(handle, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (stream->context != event->context)
        return CUDA_ERROR_INVALID_HANDLE;
    if (sim_capture_active(stream))
        return sim_capture_record(stream, event);
    sim_participate();
    sim_lock_with_room(stream->context->card, SIM_JOIN);
    event->capture = NULL;
    event->point = sim_stream_settle(stream);
    event->recorded = true;
    event->recorded_ns = sim_now();
    event->completed_ns = 0;
    sim_event_publish(event);
    if (!resolve(event) && event->pending_link == NULL) {
        event->pending_next = pending;
        event->pending_link = &pending;
        if (pending != NULL)
            pending->pending_link = &event->pending_next;
        pending = event;
    }
    sim_unlock();
    return CUDA_SUCCESS;
}

CUresult sim_cuEventRecord(CUevent event, CUstream handle)
{
    return sim_cuEventRecordWithFlags(event, handle, 0);
}

CUresult sim_cuEventQuery(CUevent event)
{
    CUresult result = enter(event);
    bool over;

    if (result != CUDA_SUCCESS)
        return result;
    if (event->capture != NULL)
        return CUDA_ERROR_CAPTURED_EVENT;
    sim_lock();
    sim_advance(sim_now());
    sim_event_learn(event);
    over = resolve(event);
    sim_unlock();
    return over ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

CUresult sim_cuEventSynchronize(CUevent event)
{
    CUresult result = enter(event);
    struct sim_point point;
    bool over;

    if (result != CUDA_SUCCESS)
        return result;
    if (event->capture != NULL)
        return CUDA_ERROR_CAPTURED_EVENT;
    sim_lock();
    sim_event_learn(event);
    over = !event->recorded || event->completed_ns != 0;
    point = event->point;
    sim_unlock();
    if (!over)
        sim_wait_point(point);
    sim_lock();
    resolve(event);
    sim_unlock();
    return sim_enter(SIM_CALL_OTHER);
}

CUresult sim_cuEventElapsedTime_v2(float *milliseconds, CUevent start, CUevent end)
{
    CUresult result = enter(start);
    bool over;

    if (result == CUDA_SUCCESS)
        result = check(end);
    if (result != CUDA_SUCCESS)
        return result;
    if (milliseconds == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (!start->recorded || !end->recorded || ((start->flags | end->flags) & CU_EVENT_DISABLE_TIMING) != 0)
        return CUDA_ERROR_INVALID_HANDLE;
    if (start->capture != NULL || end->capture != NULL)
        return CUDA_ERROR_CAPTURED_EVENT;
    sim_lock();
    sim_advance(sim_now());
    over = resolve(start);
    over = resolve(end) && over;
    sim_unlock();
    if (!over)
        return CUDA_ERROR_NOT_READY;
    *milliseconds = (float)((double)(int64_t)(end->completed_ns - start->completed_ns) / (double)NS_PER_MS);
    return CUDA_SUCCESS;
}

CUresult sim_cuEventElapsedTime(float *milliseconds, CUevent start, CUevent end)
{
    return sim_cuEventElapsedTime_v2(milliseconds, start, end);
}

CUresult sim_cuStreamWaitEvent(CUstream handle, CUevent event, unsigned int flags)
{
    struct sim_stream *stream;
    CUresult result = enter(event);

    (void)flags;
    if (result == CUDA_SUCCESS)
        result = sim_stream_of(handle, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (event->capture != NULL || sim_capture_active(stream))
        return sim_capture_wait(stream, event);
    sim_participate();
    sim_lock_with_room(stream->context->card, SIM_JOIN);
    sim_event_learn(event);
    if (event->recorded && !resolve(event))
        stream->extra = sim_join(stream->context->card, stream->extra, event->point);
    sim_unlock();
    return CUDA_SUCCESS;
}
