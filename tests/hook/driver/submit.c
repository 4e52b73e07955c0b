/* From a stream to the card's queues, and waiting for what was submitted. */
#include <stddef.h>

#include "streams.h"

static bool done(struct sim_point point)
{
    uint64_t completed;

    return sim_point_done(point, &completed);
}

/* One point that ends when both have: one of them where that is enough. */
struct sim_point sim_join(int card, struct sim_point one, struct sim_point other)
{
    struct sim_point after[2] = {one, other};

    if (done(other))
        return one;
    if (done(one))
        return other;
    if (one.lane == other.lane && one.ticket == other.ticket)
        return one;
    return sim_enqueue(card, SIM_JOIN, 0, after);
}

static bool blocking(const struct sim_stream *stream)
{
    return (stream->flags & CU_STREAM_NON_BLOCKING) == 0;
}

/* Legacy ordering: work of the legacy stream waits for all blocking streams before it, and they for it. */
struct sim_point sim_stream_settle(struct sim_stream *stream)
{
    struct sim_context *context = stream->context;
    struct sim_point point = sim_join(context->card, stream->tail, stream->extra);

    if (stream == context->legacy) {
        for (struct sim_stream *other = context->streams; other != NULL; other = other->next)
            if (other != stream && blocking(other) && other->magic == SIM_STREAM_MAGIC)
                point = sim_join(context->card, sim_join(context->card, point, other->tail), other->extra);
    } else if (blocking(stream)) {
        point = sim_join(context->card, point, context->legacy->tail);
    }
    stream->tail = point;
    stream->extra.ticket = 0;
    return point;
}

void sim_wait_point(struct sim_point point)
{
    while (!sim_process_over() && sim_process()->lost == 0) {
        uint64_t wake = 0;
        bool over;

        sim_lock();
        sim_reap();
        sim_advance(sim_now());
        over = done(point);
        if (!over)
            wake = sim_point_foretell(point);
        sim_unlock();
        if (over)
            return;
        sim_wait_until(wake, SIM_KEY_ENDED);
    }
}

/* Takes the lock, with room for one operation and the joins before it. */
void sim_lock_with_room(int card, enum sim_kind kind)
{
    struct sim_point until = {0};

    sim_lock();
    sim_advance(sim_now());
    while (!sim_room(card, kind, &until) || !sim_room(card, SIM_JOIN, &until)) {
        sim_unlock();
        sim_wait_point(until);
        sim_lock();
        sim_advance(sim_now());
    }
    sim_events_resolve();
}

CUresult sim_submit_now(struct sim_stream *stream, const struct sim_operation *operation, struct sim_point *point)
{
    struct sim_context *context = stream->context;
    uint64_t duration_ns = operation->duration_ns;
    struct sim_point after[2] = {{0}, {0}};

    if (operation->extra_ns != NULL)
        duration_ns += operation->extra_ns((void *)(uintptr_t)operation->argument);
    sim_participate();
    sim_lock_with_room(context->card, operation->kind);
    after[0] = sim_stream_settle(stream);
    stream->tail = sim_enqueue(context->card, operation->kind, duration_ns, after);
    context->latest = stream->tail;
    if (point != NULL)
        *point = stream->tail;
    sim_unlock();
    if (operation->effect != NULL)
        operation->effect((void *)(uintptr_t)operation->argument);
    return CUDA_SUCCESS;
}

CUresult sim_submit(CUstream handle, const struct sim_operation *operation)
{
    struct sim_stream *stream;
    CUresult result = sim_stream_of(handle, &stream);

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_capture_active(stream))
        return sim_capture_add(stream, operation);
    if (stream == stream->context->legacy) {
        result = sim_capture_implicit(stream);
        if (result != CUDA_SUCCESS)
            return result;
    }
    return sim_submit_now(stream, operation, NULL);
}

struct sim_point sim_stream_tail(const struct sim_stream *stream)
{
    return stream->tail;
}

/* What a host that synchronises with the stream waits for. */
static struct sim_point settled(struct sim_stream *stream)
{
    struct sim_point point;

    sim_lock_with_room(stream->context->card, SIM_JOIN);
    point = sim_stream_settle(stream);
    sim_unlock();
    return point;
}

CUresult sim_wait_stream(CUstream handle)
{
    struct sim_stream *stream;
    CUresult result = sim_stream_of(handle, &stream);

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_capture_active(stream))
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    if (stream == stream->context->legacy) {
        result = sim_capture_implicit(stream);
        if (result != CUDA_SUCCESS)
            return result;
    }
    sim_participate();
    sim_wait_point(settled(stream));
    sim_pools_synchronised();
    return sim_enter(SIM_CALL_OTHER); /* the device may have been lost meanwhile */
}

CUresult sim_query_stream(CUstream handle)
{
    struct sim_stream *stream;
    CUresult result = sim_stream_of(handle, &stream);
    bool over;

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_capture_active(stream))
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    sim_lock_with_room(stream->context->card, SIM_JOIN);
    over = done(sim_stream_settle(stream));
    sim_unlock();
    return over ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY;
}

/* Streams that capture have nothing on the card of what they recorded. */
static CUresult wait_work(struct sim_context *context)
{
    struct sim_point point;

    if (sim_process_over())
        return CUDA_SUCCESS;
    sim_participate();
    sim_lock_with_room(context->card, SIM_JOIN);
    point = context->latest;
    for (struct sim_stream *stream = context->streams; stream != NULL; stream = stream->next)
        point = sim_join(context->card, sim_join(context->card, point, stream->tail), stream->extra);
    sim_unlock();
    sim_wait_point(point);
    sim_pools_synchronised();
    return CUDA_SUCCESS;
}

CUresult sim_wait_context(struct sim_context *context)
{
    CUresult result = sim_process_over() ? CUDA_SUCCESS : sim_capture_refuse_context(context);

    return result == CUDA_SUCCESS ? wait_work(context) : result;
}

/* For calls that wait by themselves: whether a capture forbids them is a question of its mode and thread, asked before. */
CUresult sim_wait_card(int card)
{
    CUresult result = CUDA_SUCCESS;

    for (struct sim_context *context = sim_context_first(); context != NULL; context = context->next)
        if (!context->destroyed && context->card == card && result == CUDA_SUCCESS)
            result = wait_work(context);
    return result;
}
