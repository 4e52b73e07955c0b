/* Streams and contexts that end while their work does not: it is charged all the same, and no event of theirs is touched
 * after it died. */
#include "clock.h"
#include "real.h"
#include "rows.h"

#define HOLD_NS_MAX (10 * THROTTLE_MS) /* for streams that others own; what cannot be had is looked at again at the end */

void stream_clear(struct stream *stream, bool destroy_events) {
    for (unsigned place = 0; place < BATCHES_PER_STREAM; place++) {
        struct batch *batch = &stream->batches[place];
        if (destroy_events && batch->begin) real.cuEventDestroy_v2(batch->begin);
        if (destroy_events && batch->end) real.cuEventDestroy_v2(batch->end);
        *batch = (struct batch){0};
    }
    streams_forget(stream);
}

static void reap(struct stream *stream) {
    struct gate *gate = gate_of_card(stream->card);
    if (!gate) return;
    struct stream_guard guard = stream_enter(stream);
    stream_reap(stream, gate);
    stream_leave(guard);
}

/* The work of a destroyed stream goes on, and so does its last event: whoever looks next finds it done. Its handle may be
 * another stream's from now on. */
void batches_end_stream(CUstream handle) {
    struct stream *stream = streams_known(handle);
    if (!stream) return;
    bool owned = stream_own_within(stream, HOLD_NS_MAX);
    if (owned) stream_close_batch(stream);
    __atomic_store_n(&stream->ended, 1, __ATOMIC_RELAXED);
    if (!owned) return;
    reap(stream);
    if (stream->first == stream->last && !stream->gone) stream_clear(stream, true);
    stream_release(stream);
}

static bool belongs(const struct stream *stream, CUcontext context) {
    return (__atomic_load_n(&stream->context, __ATOMIC_RELAXED) == context ||
            __atomic_load_n(&stream->events_context, __ATOMIC_RELAXED) == context) &&
           !__atomic_load_n(&stream->gone, __ATOMIC_ACQUIRE);
}

static bool is_held(const struct stream *stream) {
    return __atomic_load_n(&stream->holder, __ATOMIC_RELAXED) == streams_this_thread();
}

static bool hold(struct stream *stream, uint64_t until_ns) {
    uint64_t now_ns = clock_now_ns();
    if (!stream_own_within(stream, now_ns < until_ns ? until_ns - now_ns : 0)) return false;
    __atomic_store_n(&stream->holder, streams_this_thread(), __ATOMIC_RELAXED);
    return true;
}

static void let_go(struct stream *stream) {
    __atomic_store_n(&stream->holder, 0, __ATOMIC_RELAXED);
    stream_release(stream);
}

void batches_hold_context(CUcontext context) {
    uint64_t until_ns = clock_now_ns() + HOLD_NS_MAX;
    for (struct stream *stream = streams_at(0); stream; stream = streams_at(stream->number + 1)) {
        if (!belongs(stream, context) || !hold(stream, until_ns)) continue;
        stream_close_batch(stream);
        reap(stream);
        if (!belongs(stream, context)) let_go(stream);
    }
}

static struct batch *batch_at(struct stream *stream, unsigned index) {
    return &stream->batches[index % BATCHES_PER_STREAM];
}

/* How long the card may have worked for what is outstanding beyond what that is known to cost: the end of a context waits
 * for its work. */
static uint64_t unknown_ns(CUcontext context) {
    uint64_t since_ns = clock_now_ns(), passed_ns = since_ns, learned_ns = 0;
    for (struct stream *stream = streams_at(0); stream; stream = streams_at(stream->number + 1)) {
        if (!is_held(stream) || !belongs(stream, context)) continue;
        for (unsigned index = stream->first; index != stream->last; index++) {
            const struct batch *batch = batch_at(stream, index);
            since_ns = batch->submitted_ns < since_ns ? batch->submitted_ns : since_ns;
            learned_ns += batch->learned_ns;
        }
    }
    passed_ns -= since_ns;
    return passed_ns > learned_ns ? passed_ns - learned_ns : 0;
}

/* What is outstanding cannot be measured any more. Events that are not the dead context's own are given back. */
static void bury(struct stream *stream, uint64_t *rest_ns) {
    __atomic_store_n(&stream->ended, 1, __ATOMIC_RELAXED);
    stream_close_batch(stream);
    for (unsigned index = stream->first; index != stream->last; index++) {
        struct batch *batch = batch_at(stream, index);
        batch->alone = true;
        batch->elapsed_ns = batch->learned_ns + *rest_ns;
        *rest_ns = 0;
    }
    struct gate *gate = gate_of_card(stream->card);
    bool foreign = stream->events_context != stream->context;
    __atomic_store_n(&stream->ended, 0, __ATOMIC_RELAXED);
    if (gate) stream_reap(stream, gate);
    stream_clear(stream, foreign);
}

void batches_release_context(CUcontext context, bool gone) {
    uint64_t until_ns = clock_now_ns() + HOLD_NS_MAX, rest_ns = gone ? unknown_ns(context) : 0;
    for (struct stream *stream = streams_at(0); stream; stream = streams_at(stream->number + 1)) {
        if (!belongs(stream, context) || (!is_held(stream) && !(gone && hold(stream, until_ns)))) continue;
        if (gone) bury(stream, &rest_ns);
        let_go(stream);
    }
}
