/* Measurement: launches of a stream in rows between two events, so that a launch costs no event of its own.
 *
 * A batch closes at BATCH_NS of expected work or BATCH_LAUNCHES; one that follows while the stream is busy begins at the
 * end event of the one before. A stream is used by who owns it at the moment, for as long as a call of the driver takes:
 * whoever launches waits for that, but not long, for the call may wait for something itself, and then goes on without.
 */
#ifndef EGPU_BATCHES_H
#define EGPU_BATCHES_H

#include <stdbool.h>

#include "driver.h"
#include "gate.h"

#define BATCH_NS 200000ull
#define BATCH_LAUNCHES 128u
#define BATCHES_PER_STREAM 64u   /* more outstanding ones are charged what they cost before */
#define STREAMS_MAX 4096u        /* power of two; further streams likewise */

struct stream;

/* Launches that are alike. */
struct row_key {
    CUstream stream;
    const void *function;
    uint64_t grid, block;
};

struct submission {
    struct gate *gate;     /* NULL: passes untouched */
    struct stream *stream; /* NULL: charged by learned cost alone */
    struct gate_pass pass;
    struct row_key what;
};

/* Of an explicit stream, or of a default one of the calling thread's context; made on first sight, NULL when full. */
struct stream *streams_find(CUstream stream);
int streams_card(const struct stream *stream);
/* Outstanding, as far as known. */
uint32_t streams_launches(const struct stream *stream);

/* Around the real launch, after gate_enter. */
void batches_before(struct submission *submission);
void batches_after(struct submission *submission, CUresult result);

/* Charges what has finished. `close`: also ends batches that wait for more launches. true: something had finished. */
bool batches_reap(struct gate *gate, bool close);
void batches_reap_all(bool close);
/* Looks at all cards and brings the pages up to date. */
void batches_settle_all(void);
/* Work may be on a card that nobody knows to be finished. */
bool batches_outstanding(void);
/* The application is about to wait for its work: peers shall not take silence for idleness. */
void batches_block_all(void);
/* Something that is no submission comes into the stream and may take any time, or wait: a batch shall not span it. */
void batches_interrupt(CUstream stream);
/* Before a capture begins: nothing of ours may be recorded into it. */
void batches_close_stream(CUstream stream);
/* Before it is destroyed: it may still have work. */
void batches_end_stream(CUstream stream);
/* Around a call that ends a context, or may: in between nobody else touches its streams and their events. */
void batches_hold_context(CUcontext context);
void batches_release_context(CUcontext context, bool gone);
/* The child of a fork: everything measured is the parent's. */
void batches_after_fork(void);

#endif
