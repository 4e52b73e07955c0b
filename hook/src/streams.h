/* Inside of batches.c and streams.c: what is known of a stream. */
#ifndef EGPU_STREAMS_H
#define EGPU_STREAMS_H

#include "batches.h"
#include "capture.h"

struct batch {
    CUevent begin, end;         /* kept for the next batch of the same place */
    CUevent from;               /* its own begin, or the end of the batch before */
    uint64_t learned_ns;
    uint64_t key;
    uint64_t submitted_ns;
    uint64_t call_ns;           /* the driver's call of its first launch took so long: on an empty stream the card waits for it */
    uint64_t others_busy_ns;    /* of peers when it began */
    uint64_t others_charged_ns; /* without what they will be charged for the time until then */
    uint64_t mates_busy_ns;     /* of other streams of the process */
    uint32_t launches, unknown;
    bool borrowed, contended, idle_start, ambiguous, probe, mates;
    bool alone;                 /* no end event: charged as learned, or more if `elapsed_ns` says so */
    uint64_t elapsed_ns;
    bool ended;                 /* its end is recorded after each launch: nothing to do when it closes */
    bool unmeasured;            /* meant to have no events at all */
};

#define KNOWN_COSTS 128u        /* power of two */

/* What a kernel costs as the gate knew a moment ago. Written by the stream's owner, read by who has its row. */
struct known_cost {
    const void *function;
    uint64_t grid, block;
    uint64_t cost_ns, until_ns;
};

struct stream {
    CUstream handle;
    CUcontext context;
    CUcontext events_context;   /* current when its events are made; of a green context the primary one of its device */
    uint64_t thread;            /* of the per-thread default stream, else 0 */
    int card;
    uint32_t owned;
    uint32_t gone;
    uint32_t ended;             /* destroyed; it is no stream's any more once its work is done */
    uint64_t holder;            /* thread that owns it while its context ends */
    uint32_t open;              /* the newest batch takes more launches */
    uint32_t interrupted;       /* something else came behind the newest batch: the next one has a begin of its own */
    unsigned first, last;       /* batches [first, last) are outstanding */
    uint64_t work_end_ns;
    uint64_t others_busy_ns;    /* at the end of the batch finished last */
    uint64_t ended_ns;          /* it ended then */
    uint64_t busy_ns;           /* charged to this stream */
    uint32_t launches;          /* outstanding */
    unsigned number;            /* in the order they were made; they are reused, never freed */
    uint32_t dry;               /* its work was found finished before its end was recorded */
    uint64_t sampled_ns;        /* a launch is measured by itself because of that, not before then */
    /* Launches granted in advance: see rows.h. */
    uint32_t row_serial;        /* changes when a row ends */
    uint32_t row_mixed;         /* not all of its launches are of one kernel */
    uint64_t row_granted_ns;
    uint64_t row_thread;        /* that launches them */
    uint64_t row_used;          /* launches and time together, see rows.c */
    struct gate *row_gate;
    struct known_cost known[KNOWN_COSTS];
    struct batch batches[BATCHES_PER_STREAM];
};

/* Of all ever made; NULL: there is none of this number. */
struct stream *streams_at(unsigned number);
/* Those with batches outstanding, which may be few of thousands: the first from `number` on. */
struct stream *streams_busy_from(unsigned number);
/* After a change of what is outstanding, the stream owned. */
void stream_mark(const struct stream *stream);
/* Owned by the caller: its handle may be given to another stream now. */
void streams_forget(struct stream *stream);
void streams_after_fork(void);
bool stream_own(struct stream *stream);
void stream_release(struct stream *stream);
/* Owned: it is still the one that was found by this handle. */
bool streams_is(const struct stream *stream, CUstream handle);
/* If it was ever found. */
struct stream *streams_known(CUstream handle);
uint64_t streams_this_thread(void);

/* Around calls on a stream's events, by whichever thread: an event is made in the current context and can only be recorded
 * in a stream of the same one. */
struct stream_guard {
    struct capture_guard capture;
    bool pushed;
};
struct stream_guard stream_enter(const struct stream *stream);
void stream_leave(struct stream_guard guard);

/* Makes the context of an explicit stream current for a question; true: it has to be taken off again. */
bool streams_push_context(CUstream handle);
void streams_pop_context(bool pushed);

/* Of batches.c, for endings.c; the stream owned. */
bool stream_own_within(struct stream *stream, uint64_t patience_ns);
void stream_close_batch(struct stream *stream);
/* Charges its finished batches. true: there were some. */
bool stream_reap(struct stream *stream, struct gate *gate);
/* Its work is done or charged: nothing stays. */
void stream_clear(struct stream *stream, bool destroy_events);

/* Its launches outstanding: changed by its owner alone, looked at by others. */
static inline void stream_count(struct stream *stream, int64_t more) {
    __atomic_store_n(&stream->launches, (uint32_t)(stream->launches + more), __ATOMIC_RELAXED);
}

/* A default stream is another one in every thread or context, and an event in the legacy one holds up all others: so the
 * thread that launches records the end of a batch, after each launch, and nobody does later. */
static inline bool stream_is_implicit(const struct stream *stream) {
    return stream->handle == CU_STREAM_LEGACY || stream->handle == CU_STREAM_PER_THREAD;
}

#endif
