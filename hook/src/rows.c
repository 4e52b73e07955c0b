#include "rows.h"

#include "clock.h"

static __thread struct {
    struct row_key what;
    struct stream *stream;
    uint32_t serial;
    uint64_t end_ns;            /* when what was launched should be done */
    uint32_t unlimited_left;    /* launches on this stream that need not ask whether there is a limit now */
    CUstream unlimited;
} current;

bool row_goes_on(const struct row_key *what) {
    struct stream *stream = current.stream;
    if (current.unlimited_left > 0 && what->stream == current.unlimited) {
        current.unlimited_left--;
        return true;
    }
    if (!stream || what->function != current.what.function || what->stream != current.what.stream ||
        what->grid != current.what.grid || what->block != current.what.block)
        return false;
    if (__atomic_load_n(&stream->row_serial, __ATOMIC_ACQUIRE) != current.serial) return false;
    /* The stream has run dry: a batch with a pause in it would be charged the pause. */
    if (clock_now_ns() >= current.end_ns) return false;
    current.end_ns += stream->row_cost_ns;
    return __atomic_fetch_sub(&stream->row_left, 1, __ATOMIC_RELAXED) > 0;
}

void row_unlimited(CUstream stream) {
    /* A default stream of another card has the same handle, and may be limited. */
    if (stream <= CU_STREAM_PER_THREAD && region_card_count() > 1) return;
    current.unlimited = stream;
    current.unlimited_left = BATCH_LAUNCHES;
}

void row_begin(const struct submission *submission, struct batch *batch) {
    struct stream *stream = submission->stream;
    const struct gate_pass *pass = &submission->pass;
    uint32_t launches = gate_row_launches(submission->gate, pass);
    if (batch->launches + launches > BATCH_LAUNCHES) launches = BATCH_LAUNCHES - batch->launches;
    if (stream_is_implicit(stream)) return; /* the end of its batch is recorded after each launch */
    if (launches == 0 || batch->key != pass->key) return;
    gate_grant(submission->gate, pass, launches);
    batch->launches += launches;
    batch->learned_ns += launches * pass->learned_ns;
    __atomic_store_n(&stream->launches, stream->launches + launches, __ATOMIC_RELAXED);
    current.end_ns = stream->work_end_ns;
    stream->work_end_ns += launches * pass->learned_ns;
    stream->row_cost_ns = pass->learned_ns;
    stream->row_gate = submission->gate;
    current.what = submission->what;
    current.stream = stream;
    current.serial = stream->row_serial;
    __atomic_store_n(&stream->row_left, (int32_t)launches, __ATOMIC_RELEASE);
}

void row_end(struct stream *stream) {
    if (!stream->row_gate) return;
    __atomic_store_n(&stream->row_serial, stream->row_serial + 1, __ATOMIC_RELEASE);
    int32_t left = __atomic_exchange_n(&stream->row_left, 0, __ATOMIC_ACQ_REL);
    struct gate *gate = stream->row_gate;
    struct batch *batch = &stream->batches[(stream->last - 1) % BATCHES_PER_STREAM];
    stream->row_gate = NULL;
    if (left <= 0) return;
    uint64_t cost_ns = (uint64_t)left * stream->row_cost_ns;
    batch->launches -= (uint32_t)left;
    batch->learned_ns -= cost_ns;
    __atomic_store_n(&stream->launches, stream->launches - (uint32_t)left, __ATOMIC_RELAXED);
    stream->work_end_ns -= cost_ns;
    gate_return(gate, cost_ns, (uint32_t)left, batch->borrowed);
}
