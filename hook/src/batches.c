#include "rows.h"

#include <sched.h>

#include "capture.h"
#include "clock.h"
#include "neighbours.h"
#include "real.h"

/* While the application waits for its work, its page says so for this long at most: it may die there. */
#define BLOCKED_NS (100 * THROTTLE_MS)
#define CHAIN_NS 10000ull        /* a launch takes so long from the call to the card at most */
#define CALL_NS_MAX 10000ull     /* a launch takes 3 to 8 us on a real card */
#define SAMPLES_IN_A_ROW 4       /* on the average, before some launches are not measured */
#define OWNED_NS_MAX (10 * THROTTLE_MS) /* waited for a stream that another thread owns */
#define OWNED_YIELDS 8           /* before it is slept: a launch takes microseconds */
#define UNMEASURED_NS THROTTLE_MS       /* charged for what was neither learned nor measured: not nothing */
#define BATCHES_AHEAD 16u          /* of the places of a stream, with much outstanding */
#define OPEN_NS_MAX THROTTLE_MS /* a batch that gets no more launches is ended by whoever looks */

static struct batch *batch_at(struct stream *stream, unsigned index) {
    return &stream->batches[index % BATCHES_PER_STREAM];
}

/* Within stream_enter. */
static bool record(CUevent *event, const struct stream *stream) {
    if (*event == NULL && real.cuEventCreate(event, CU_EVENT_DEFAULT) != CUDA_SUCCESS) return false;
    if (real.cuEventRecord(*event, stream->handle) == CUDA_SUCCESS) return true;
    /* It may be of a context that was current and is not the stream's. */
    real.cuEventDestroy_v2(*event);
    *event = NULL;
    return false;
}

/* Without an end event a batch cannot be measured: charged as learned. */
static void end_batch(struct stream *stream) {
    struct batch *batch = batch_at(stream, stream->last - 1);
    batch->alone = true;
    if (stream->ended || capture_holds(stream->handle)) return;
    struct stream_guard guard = stream_enter(stream);
    batch->alone = !record(&batch->end, stream);
    stream_leave(guard);
}

/* Its work may have ended before now: an event recorded now would hold the pause as well. */
static bool ran_dry(struct stream *stream, uint64_t now_ns) {
    if (now_ns < stream->work_end_ns || stream->ended || capture_holds(stream->handle)) return false;
    struct capture_guard guard = capture_guard_begin();
    bool dry = real.cuStreamQuery(stream->handle) == CUDA_SUCCESS;
    capture_guard_end(guard);
    return dry;
}

/* The newest batch takes no more launches. `here`: the caller is about to launch on this stream. */
static void close_batch(struct stream *stream, bool here) {
    row_end(stream);
    if (!stream->open) return;
    struct batch *batch = batch_at(stream, stream->last - 1);
    stream->open = 0;
    if (batch->ended) return;
    uint64_t now_ns = clock_now_ns();
    struct gate *gate = gate_of_card(stream->card);
    if (batch->unmeasured) {
        if (gate && now_ns > stream->sampled_ns) gate_guessed(gate, now_ns, now_ns - stream->sampled_ns);
        return;
    }
    batch->alone = (stream_is_implicit(stream) && !here) || ran_dry(stream, now_ns);
    if (!batch->alone) {
        end_batch(stream);
        return;
    }
    stream->dry = 1;
    if (gate && now_ns > stream->work_end_ns) gate_guessed(gate, now_ns, now_ns - stream->work_end_ns);
}

void stream_close_batch(struct stream *stream) { close_batch(stream, false); }

/* Held for no longer than a call of the driver by who owns it. */
bool stream_own_within(struct stream *stream, uint64_t patience_ns) {
    if (stream_own(stream)) return true;
    uint64_t now_ns = clock_now_ns(), until_ns = now_ns + patience_ns;
    for (int tries = 0; now_ns < until_ns; tries++) {
        if (tries < OWNED_YIELDS) sched_yield();
        else clock_sleep_until(now_ns + THROTTLE_POLL_NS_MIN);
        if (stream_own(stream)) return true;
        now_ns = clock_now_ns();
    }
    return false;
}

/* What everybody but this stream was charged: other containers, other processes of ours, other streams of this one. */
static struct neighbours_busy others_busy(struct gate *gate, const struct stream *stream, uint64_t since_ns, bool *active) {
    struct neighbours_busy busy = gate_others(gate, since_ns, active);
    uint64_t streams_ns = __atomic_load_n(&gate->busy_ns, __ATOMIC_RELAXED) - stream->busy_ns;
    return (struct neighbours_busy){busy.charged_ns + streams_ns, busy.worked_ns + streams_ns};
}

/* Other streams of this process. */
static uint64_t mates_busy_ns(const struct gate *gate, const struct stream *stream) {
    return __atomic_load_n(&gate->busy_ns, __ATOMIC_RELAXED) - stream->busy_ns;
}

/* `own`: launches of this stream that the gate counts as outstanding. */
static bool has_mates(const struct gate *gate, uint32_t own) {
    return __atomic_load_n(&gate->launches, __ATOMIC_RELAXED) > own;
}

static bool finished(CUevent event) { return real.cuEventQuery(event) == CUDA_SUCCESS; }

/* Launches onto an empty stream are each worth two events, or charged as learned: some are enough. Which ones nobody can
 * know beforehand, or only short ones would be among them. */
static bool unmeasured_now(struct stream *stream, const struct submission *submission, bool busy) {
    const struct gate_pass *pass = &submission->pass;
    if (busy) stream->dry = 0;
    if (!stream->dry || pass->learned_ns == 0 || pass->clean_wanted || pass->probe) return false;
    if (!pass->free && gate_measures_exactly(submission->gate, pass->now_ns)) return false;
    if (pass->now_ns < stream->sampled_ns) return true;
    uint64_t mixed = pass->now_ns * 0x9e3779b97f4a7c15ull >> 20;
    bool again = !pass->free && mixed % SAMPLES_IN_A_ROW != 0;
    stream->sampled_ns = again ? 0 : pass->now_ns + BATCH_NS / 2 + mixed % BATCH_NS;
    return false;
}

static bool has_place(const struct stream *stream) { return stream->last - stream->first < BATCHES_PER_STREAM - 1; }

/* A new batch; false: all places are taken or the driver refuses the event. */
static bool open_batch(struct stream *stream, const struct submission *submission) {
    const struct gate_pass *pass = &submission->pass;
    if (!has_place(stream)) return false;
    struct batch *batch = batch_at(stream, stream->last), *before = batch_at(stream, stream->last - 1);
    /* Work that ends before this launch arrives leaves a gap that nobody can see: neither chained nor worth learning. */
    bool busy = stream->last != stream->first && !before->alone && !finished(before->end);
    bool behind = busy && stream->work_end_ns > pass->now_ns + CHAIN_NS, chained = behind && !stream->interrupted;
    bool unmeasured = unmeasured_now(stream, submission, busy);
    /* Behind a batch without events only the driver knows. */
    bool hidden = !busy && !unmeasured && before->alone && real.cuStreamQuery(stream->handle) != CUDA_SUCCESS;
    if (hidden) {
        stream->dry = 0;
        busy = true;
        behind = stream->work_end_ns > pass->now_ns + CHAIN_NS;
    }
    if (!chained && !unmeasured && !record(&batch->begin, stream)) return false;
    CUevent begin = batch->begin, end = batch->end;
    *batch = (struct batch){.begin = begin, .end = end, .from = chained ? before->end : begin, .key = pass->key};
    batch->submitted_ns = pass->now_ns;
    batch->idle_start = !behind;
    batch->unmeasured = batch->alone = unmeasured;
    batch->ambiguous = busy && !behind;
    stream->interrupted = 0;
    batch->borrowed = pass->borrowed;
    batch->probe = pass->probe;
    bool active;
    struct neighbours_busy others = others_busy(submission->gate, stream, pass->now_ns, &active);
    if (pass->unconfirmed && active) {
        neighbours_renew(submission->gate->card);
        others = others_busy(submission->gate, stream, pass->now_ns, &active);
    }
    batch->others_busy_ns = others.worked_ns;
    batch->others_charged_ns = others.charged_ns;
    batch->mates_busy_ns = mates_busy_ns(submission->gate, stream);
    batch->mates = has_mates(submission->gate, stream->launches + 1);
    batch->contended = batch->mates || active;
    batch->ended = !pass->free && !unmeasured &&
                   (stream_is_implicit(stream) || gate_measures_exactly(submission->gate, pass->now_ns));
    if (stream->others_busy_ns == 0) stream->others_busy_ns = batch->others_busy_ns;
    __atomic_store_n(&stream->last, stream->last + 1, __ATOMIC_RELAXED);
    stream_mark(stream);
    stream->open = 1;
    return true;
}

static bool fits(const struct stream *stream, const struct gate_pass *pass) {
    const struct batch *batch = &stream->batches[(stream->last - 1) % BATCHES_PER_STREAM];
    uint64_t until_ns = batch->unmeasured ? stream->sampled_ns : stream->work_end_ns;
    return batch->launches < BATCH_LAUNCHES && batch->borrowed == pass->borrowed && !pass->probe &&
           !pass->clean_wanted && pass->learned_ns != 0 && pass->now_ns < until_ns;
}

void batches_before(struct submission *submission) {
    struct stream *stream = submission->stream;
    submission->stream = NULL;
    /* A launch beside the batches is charged as learned, is not seen to be outstanding, and spoils what is measured. */
    bool patient = submission->pass.learned_ns == 0 || !submission->pass.free;
    if (!stream_own_within(stream, patient ? OWNED_NS_MAX : 0)) return;
    row_end(stream);
    bool open = streams_is(stream, submission->what.stream);
    /* With so much outstanding the stream is busy, and the newest batch may as well be a long one. */
    bool joins = stream->open && (!has_place(stream) || fits(stream, &submission->pass));
    if (open && !joins) {
        struct stream_guard guard = stream_enter(stream);
        close_batch(stream, true);
        open = open_batch(stream, submission);
        stream_leave(guard);
    }
    if (!open) {
        stream_release(stream);
        return;
    }
    stream_count(stream, 1);
    submission->stream = stream;
    struct batch *batch = batch_at(stream, stream->last - 1);
    if (batch->idle_start && batch->launches == 0) batch->call_ns = clock_now_ns();
}

/* Launched without a batch: the learned cost stands, and it is not outstanding for long. */
static void finish_unmeasured(struct submission *submission) {
    struct gate_batch batch = {.launches = 1, .learned_ns = submission->pass.learned_ns,
                               .unknown = submission->pass.learned_ns == 0, .borrowed = submission->pass.borrowed,
                               .probe = submission->pass.probe};
    batch.span.elapsed_ns = batch.unknown ? UNMEASURED_NS : batch.learned_ns;
    gate_finish(submission->gate, &batch, 0);
}

/* Long enough that those outstanding have places: one that took all the rest would be charged when it is long past. */
static uint64_t length_ns(const struct stream *stream, uint64_t now_ns) {
    uint64_t ahead_ns = stream->work_end_ns > now_ns ? stream->work_end_ns - now_ns : 0;
    return ahead_ns / BATCHES_AHEAD > BATCH_NS ? ahead_ns / BATCHES_AHEAD : BATCH_NS;
}

static bool is_full(const struct stream *stream, const struct batch *batch, const struct gate_pass *pass) {
    bool sampled = stream->dry && !batch->unmeasured;
    return batch->launches >= BATCH_LAUNCHES || batch->learned_ns >= length_ns(stream, pass->now_ns) || batch->unknown ||
           pass->probe || pass->clean_wanted || sampled;
}

void batches_after(struct submission *submission, CUresult result) {
    struct stream *stream = submission->stream;
    const struct gate_pass *pass = &submission->pass;
    if (result != CUDA_SUCCESS) gate_undo(submission->gate, pass);
    if (!stream) {
        if (result == CUDA_SUCCESS) finish_unmeasured(submission);
        return;
    }
    struct batch *batch = batch_at(stream, stream->last - 1);
    if (batch->idle_start && batch->launches == 0)
        batch->call_ns = batch->ambiguous ? 0 : clock_now_ns() - batch->call_ns;
    if (result != CUDA_SUCCESS) {
        stream_count(stream, -1);
    } else {
        batch->key = batch->launches == 0 || batch->key == pass->key ? pass->key : 0;
        batch->launches++;
        batch->unknown += pass->learned_ns == 0;
        batch->learned_ns += pass->learned_ns;
        uint64_t from_ns = stream->work_end_ns > pass->now_ns ? stream->work_end_ns : pass->now_ns;
        stream->work_end_ns = from_ns + pass->learned_ns;
    }
    bool full = is_full(stream, batch, pass), closes = full && has_place(stream);
    if (full && !closes && stream_is_implicit(stream)) batch->ended = true; /* nobody can record it later */
    if (batch->ended || (closes && !batch->unmeasured)) end_batch(stream);
    else if (result == CUDA_SUCCESS && !closes) row_begin(submission, batch);
    if (closes) stream->open = 0;
    stream_release(stream);
}

/* The way to the card, of a launch on an empty stream. A call that took longer than any launch was held up by something
 * else, and how much of it the card waited for is not known. */
static uint64_t way_ns(const struct batch *batch, uint64_t elapsed_ns) {
    uint64_t most_ns = batch->call_ns <= CALL_NS_MAX ? elapsed_ns / 8 * 7 : elapsed_ns / 2;
    return batch->call_ns < most_ns ? batch->call_ns : most_ns;
}

/* One call, for a thread that waits for each of its launches has the card idle meanwhile. What cannot be measured may run
 * all the same. */
static CUresult measure(const struct batch *batch, float *elapsed_ms) {
    CUresult result = real.cuEventElapsedTime(elapsed_ms, batch->from, batch->end);
    if (result == CUDA_SUCCESS || result == CUDA_ERROR_NOT_READY) return result;
    return real.cuEventQuery(batch->end) == CUDA_ERROR_NOT_READY ? CUDA_ERROR_NOT_READY : result;
}

/* 1: finished and charged, 0: still runs, -1: its events tell nothing (a dead context, a lost device). */
static int reap_first(struct stream *stream, struct gate *gate) {
    struct batch *batch = batch_at(stream, stream->first);
    float elapsed_ms = 0;
    CUresult status = batch->alone ? CUDA_SUCCESS : measure(batch, &elapsed_ms);
    if (status == CUDA_ERROR_NOT_READY) return 0;
    bool measured = !batch->alone && status == CUDA_SUCCESS;
    struct gate_batch done = {.key = batch->key, .learned_ns = batch->learned_ns, .launches = batch->launches,
                              .unknown = batch->unknown, .borrowed = batch->borrowed, .idle_start = batch->idle_start,
                              .probe = batch->probe};
    neighbours_renew(gate->card); /* somebody who came a moment ago has spoilt the measurement */
    bool active;
    struct neighbours_busy others = others_busy(gate, stream, batch->submitted_ns, &active);
    uint64_t busy_ns = others.worked_ns;
    uint64_t guess_ns = batch->learned_ns + batch->unknown * UNMEASURED_NS;
    done.span.elapsed_ns = measured ? (uint64_t)((double)elapsed_ms * 1e6 + 0.5)
                                     : guess_ns > batch->elapsed_ns ? guess_ns : batch->elapsed_ns;
    done.unclear = !measured || batch->ambiguous;
    done.bounded = measured && batch->launches == 1;
    if (measured) done.span.elapsed_ns -= way_ns(batch, done.span.elapsed_ns);
    done.span.contended = batch->contended || busy_ns != batch->others_busy_ns || active ||
                          has_mates(gate, stream->launches);
    /* Peers are charged when their batches end, which may be between two of ours: so what they were charged counts from
     * the end of the batch before. A kernel never measured has no use for that, its peers are those of its own time; and
     * while it ran theirs may have waited behind it, so only what they were charged is held to be theirs. */
    done.span.peers_busy_ns = batch->unknown ? others.charged_ns - batch->others_charged_ns : busy_ns - stream->others_busy_ns;
    done.chained = stream->ended_ns > batch->submitted_ns;
    done.span.peers_meanwhile_ns = busy_ns - (done.chained ? stream->others_busy_ns : batch->others_busy_ns);
    uint64_t now_ns = clock_now_ns(), began_ns = done.chained ? stream->ended_ns : batch->submitted_ns;
    stream->ended_ns = began_ns + done.span.elapsed_ns < now_ns ? began_ns + done.span.elapsed_ns : now_ns;
    done.ended_ns = stream->ended_ns;
    done.mates = batch->mates || mates_busy_ns(gate, stream) != batch->mates_busy_ns || has_mates(gate, stream->launches);
    stream->others_busy_ns = busy_ns;
    __atomic_store_n(&stream->first, stream->first + 1, __ATOMIC_RELAXED);
    stream_count(stream, -(int64_t)batch->launches);
    bool more = stream->first != stream->last;
    if (done.launches > 0)
        stream->busy_ns += gate_finish(gate, &done, more ? batch_at(stream, stream->first)->learned_ns : 0);
    return measured ? 1 : -1;
}

bool stream_reap(struct stream *stream, struct gate *gate) {
    bool any = false;
    while (stream->last - stream->first > stream->open && reap_first(stream, gate) != 0) any = true;
    stream_mark(stream);
    if (stream->ended && stream->first == stream->last) stream_clear(stream, true);
    return any;
}

static bool reap_stream(struct stream *stream, struct gate *gate, bool close) {
    /* A look without owning the stream: what is missed now is found at the next look. */
    if (__atomic_load_n(&stream->first, __ATOMIC_RELAXED) == __atomic_load_n(&stream->last, __ATOMIC_RELAXED) ||
        !stream_own(stream))
        return false;
    struct stream_guard guard = stream_enter(stream);
    uint64_t now_ns = clock_now_ns();
    bool late = now_ns > stream->work_end_ns + OPEN_NS_MAX && stream->last - stream->first == 1;
    if (stream->open && (close || late)) close_batch(stream, false);
    bool any = stream_reap(stream, gate);
    stream_leave(guard);
    stream_release(stream);
    return any;
}

bool batches_reap(struct gate *gate, bool close) {
    bool any = false;
    for (struct stream *stream = streams_busy_from(0); stream; stream = streams_busy_from(stream->number + 1))
        if (stream->card == gate->card && !__atomic_load_n(&stream->gone, __ATOMIC_ACQUIRE))
            any |= reap_stream(stream, gate, close);
    return any;
}

void batches_reap_all(bool close) {
    for (int card = 0; card < region_card_count(); card++) {
        struct gate *gate = gate_of_card(card);
        if (gate) batches_reap(gate, close);
    }
}

void batches_settle_all(void) {
    for (int card = 0; card < region_card_count(); card++) {
        struct gate *gate = gate_of_card(card);
        if (!gate) continue;
        batches_reap(gate, false);
        gate_publish(gate, clock_now_ns());
    }
}

bool batches_outstanding(void) { return streams_busy_from(0) != NULL; }

void batches_block_all(void) {
    for (int card = 0; card < region_card_count(); card++) {
        struct gate *gate = gate_of_card(card);
        if (!gate) continue;
        batches_reap(gate, true);
        gate_block(gate, clock_now_ns() + BLOCKED_NS);
    }
}

void batches_interrupt(CUstream handle) {
    struct stream *stream = region_card_count() > 0 ? streams_known(handle) : NULL;
    if (!stream || __atomic_load_n(&stream->first, __ATOMIC_RELAXED) == __atomic_load_n(&stream->last, __ATOMIC_RELAXED) ||
        !stream_own_within(stream, OWNED_NS_MAX))
        return;
    if (streams_is(stream, handle)) {
        close_batch(stream, true);
        stream->interrupted = 1;
    }
    stream_release(stream);
}

void batches_close_stream(CUstream handle) {
    struct stream *stream = region_card_count() > 0 ? streams_find(handle) : NULL;
    if (!stream || !stream_own_within(stream, OWNED_NS_MAX)) return;
    close_batch(stream, true);
    stream_release(stream);
}

void batches_after_fork(void) {
    streams_after_fork();
    gate_after_fork();
}
