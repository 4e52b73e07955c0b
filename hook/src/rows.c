#include "rows.h"

#include "clock.h"
#include "real.h"

#define ROWS 8u                 /* streams that a thread launches to in turn; power of two */
#define USED_LAUNCH (1ull << 40) /* row_used: one launch; below it the nanoseconds, of which a row has far fewer */
#define KNOWN_NS (10 * THROTTLE_MS) /* for so long a learned cost is used without asking for a newer one */

/* Looked at in each launch: without the call that finds a thread's own memory of a library loaded late, which this is not. */
static __thread struct row {
    CUstream handle;
    struct stream *stream;
    uint32_t serial;
    uint32_t left;
    uint64_t left_ns;
    uint64_t end_ns;            /* what was launched is done then, or the row is too old */
    bool measured;
    struct known_cost *first;
    struct clock_glance from;
} rows[ROWS] __attribute__((tls_model("initial-exec")));

static struct row *row_of(CUstream handle) {
    uint64_t number = (uint64_t)(uintptr_t)handle;
    return &rows[(number >> 10 ^ number >> 5 ^ number) % ROWS];
}

static struct known_cost *known_of(struct stream *stream, const struct row_key *what) {
    uint64_t mixed = ((uint64_t)(uintptr_t)what->function ^ what->grid * 31 ^ what->block << 7) * 0x9e3779b97f4a7c15ull;
    return &stream->known[mixed >> 40 & (KNOWN_COSTS - 1)];
}

static bool is_known(const struct known_cost *known, const struct row_key *what) {
    return __atomic_load_n(&known->function, __ATOMIC_RELAXED) == what->function &&
           __atomic_load_n(&known->grid, __ATOMIC_RELAXED) == what->grid &&
           __atomic_load_n(&known->block, __ATOMIC_RELAXED) == what->block;
}

static void know(struct stream *stream, const struct submission *submission) {
    struct known_cost *known = known_of(stream, &submission->what);
    __atomic_store_n(&known->function, submission->what.function, __ATOMIC_RELAXED);
    __atomic_store_n(&known->grid, submission->what.grid, __ATOMIC_RELAXED);
    __atomic_store_n(&known->block, submission->what.block, __ATOMIC_RELAXED);
    __atomic_store_n(&known->cost_ns, submission->pass.learned_ns, __ATOMIC_RELAXED);
    __atomic_store_n(&known->until_ns, submission->pass.now_ns + KNOWN_NS, __ATOMIC_RELAXED);
}

static bool is_current(const struct stream *stream) {
    CUcontext context;
    return real.cuCtxGetCurrent(&context) == CUDA_SUCCESS && context == stream->context;
}

bool row_goes_on(const struct row_key *what) {
    struct row *row = row_of(what->stream);
    struct stream *stream = row->stream;
    if (row->left == 0 || row->handle != what->stream) return false;
    if (__atomic_load_n(&stream->row_serial, __ATOMIC_ACQUIRE) != row->serial) return false;
    const struct known_cost *known = known_of(stream, what);
    uint64_t cost_ns = __atomic_load_n(&known->cost_ns, __ATOMIC_RELAXED);
    if (!is_known(known, what) || cost_ns > row->left_ns) return false;
    uint64_t now_ns = clock_glance_ns(&row->from);
    /* The stream has run dry: a batch with a pause in it would be charged the pause. */
    if (now_ns >= row->end_ns || now_ns >= __atomic_load_n(&known->until_ns, __ATOMIC_RELAXED)) return false;
    if (stream_is_implicit(stream) && !is_current(stream)) return false;
    if (known != row->first) __atomic_store_n(&stream->row_mixed, 1, __ATOMIC_RELAXED);
    if (row->measured) row->end_ns += cost_ns;
    row->left--;
    row->left_ns -= cost_ns;
    __atomic_fetch_add(&stream->row_used, USED_LAUNCH | cost_ns, __ATOMIC_RELAXED);
    return true;
}

void row_begin(const struct submission *submission, struct batch *batch) {
    struct stream *stream = submission->stream;
    const struct gate_pass *pass = &submission->pass;
    uint64_t left_ns = gate_row_ns(submission->gate, pass);
    uint32_t left = BATCH_LAUNCHES - 1; /* the launch that fills the batch records its end */
    /* A batch that is overfull already has no place to make room for another one. */
    if (batch->learned_ns < BATCH_NS && batch->launches < BATCH_LAUNCHES) {
        left -= batch->launches;
        if (batch->learned_ns + left_ns > BATCH_NS) left_ns = BATCH_NS - batch->learned_ns;
    }
    if (pass->learned_ns == 0 || left_ns < pass->learned_ns || left == 0) return;
    know(stream, submission);
    gate_grant(submission->gate, pass, left_ns);
    struct row *row = row_of(submission->what.stream);
    *row = (struct row){.handle = submission->what.stream, .stream = stream, .serial = stream->row_serial, .left = left,
                        .left_ns = left_ns, .measured = !batch->unmeasured,
                        .first = known_of(stream, &submission->what)};
    row->from = clock_glance_begin();
    row->end_ns = batch->unmeasured ? stream->sampled_ns : stream->work_end_ns;
    stream->work_end_ns += left_ns;
    stream->row_granted_ns = left_ns;
    stream->row_thread = streams_this_thread();
    __atomic_store_n(&stream->row_gate, submission->gate, __ATOMIC_RELEASE);
}

/* A launch that passed just before stays in row_used, and counts in the next row. */
void row_end(struct stream *stream) {
    struct gate *gate = stream->row_gate;
    if (!gate) return;
    __atomic_store_n(&stream->row_serial, stream->row_serial + 1, __ATOMIC_RELEASE);
    uint64_t used = __atomic_exchange_n(&stream->row_used, 0, __ATOMIC_ACQ_REL);
    uint64_t used_ns = used % USED_LAUNCH, granted_ns = stream->row_granted_ns;
    uint32_t launches = (uint32_t)(used / USED_LAUNCH);
    struct batch *batch = &stream->batches[(stream->last - 1) % BATCHES_PER_STREAM];
    if (used_ns > granted_ns) used_ns = granted_ns;
    stream->row_gate = NULL;
    /* What they took together says nothing of one of them. */
    if (__atomic_exchange_n(&stream->row_mixed, 0, __ATOMIC_RELAXED)) batch->key = 0;
    /* The last one may be counted and not launched yet: behind the batch's end, if another thread ends it now. */
    if (launches > 0 && stream->row_thread != streams_this_thread()) batch->ambiguous = true;
    batch->launches += launches;
    batch->learned_ns += used_ns;
    stream_count(stream, launches);
    stream->work_end_ns -= granted_ns - used_ns;
    gate_return(gate, granted_ns - used_ns, launches, batch->borrowed);
}
