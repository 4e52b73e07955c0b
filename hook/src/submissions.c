#include "submissions.h"

#include "capture.h"
#include "cards.h"
#include "oversubscription.h"
#include "rows.h"

#define COPY_BYTES_MIN (1u << 20) /* smaller ones are done before a wait would have begun */

__thread int submissions_in_callback;

void submission_begin(struct submission *submission, CUstream stream, const void *function, uint64_t grid,
                      uint64_t block) {
    submission->gate = NULL;
    struct row_key what = {stream, function, grid, block};
    /* Before the row: a stream that records has nothing to do with the time of the card. */
    if (capture_holds(stream) || row_goes_on(&what)) return;
    bool gated = region_gates_launches();
    if (!gated || submissions_in_callback) {
        if (!gated && region_state() == REGION_BROKEN) region_note_passed();
        return;
    }
    submission->stream = streams_find(stream);
    int card = submission->stream ? streams_card(submission->stream) : card_to_gate();
    oversubscription_gate(card);
    struct gate *gate = gate_of_card(card);
    if (!gate) return;
    uint32_t own = submission->stream ? streams_launches(submission->stream) : 0;
    gate_enter(gate, costs_key(function, grid, block), own, &submission->pass);
    submission->gate = gate;
    submission->what = what;
    if (submission->stream) batches_before(submission);
}

CUresult submission_end(struct submission *submission, CUresult result) {
    if (submission->gate) {
        batches_after(submission, result);
        lookout_pass(&submission->gate->lookout); /* not before: what is counted and not launched yet is not measured */
    }
    return result;
}

void submission_interrupt(CUstream stream) {
    if (region_gates_launches() && !submissions_in_callback) batches_interrupt(stream);
}

/* `stream`: NULL when the application waits for the copy. */
void submission_yield(CUstream stream, uint64_t bytes) {
    if (bytes < COPY_BYTES_MIN || !region_gates_launches() || submissions_in_callback) return;
    if (stream && capture_holds(stream)) return;
    struct stream *known = stream ? streams_known(stream) : NULL;
    int card = known ? streams_card(known) : card_to_gate();
    oversubscription_gate(card);
    struct gate *gate = gate_of_card(card);
    if (gate) gate_yield(gate);
}
