/* What every wrapper of a submission does before and after the driver's call. */
#ifndef EGPU_SUBMISSIONS_H
#define EGPU_SUBMISSIONS_H

#include "batches.h"

/* Threads that run a host callback are never held: the callback may be what the work behind the gate waits for. */
extern __thread int submissions_in_callback;

/* The stream as the driver understands it without the difference between the two forms of a call. */
static inline CUstream submission_stream(CUstream stream, bool per_thread) {
    if (stream) return stream;
    return per_thread ? CU_STREAM_PER_THREAD : CU_STREAM_LEGACY;
}

/* Waits for the right to submit. `grid` and `block` tell apart what takes different times. */
void submission_begin(struct submission *submission, CUstream stream, const void *function, uint64_t grid,
                      uint64_t block);
CUresult submission_end(struct submission *submission, CUresult result);
/* Before anything else that takes or waits for its turn in a stream. */
void submission_interrupt(CUstream stream);
/* Copies between host and card: they take no turn of the compute engine, they only stand back for higher priority. */
void submission_yield(CUstream stream, uint64_t bytes);

#endif
