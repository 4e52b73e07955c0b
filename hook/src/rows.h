/* Launches of the same kernel in a row ask once: the gate grants as many as fill the batch, and charges them in advance.
 * What is not used is given back when the row ends: another kernel, a wait, the batch closing, another thread.
 *
 * So a launch in a row costs one compare of what is launched and one subtraction.
 */
#ifndef EGPU_ROWS_H
#define EGPU_ROWS_H

#include "streams.h"

/* The calling thread's row has room for one more of these. */
bool row_goes_on(const struct row_key *what);
/* Nothing holds this stream's launches back and nobody wants to know of them: some more may go without asking. */
void row_unlimited(CUstream stream);
/* After a launch that passed, its stream owned. */
void row_begin(const struct submission *submission, struct batch *batch);
/* The stream owned. */
void row_end(struct stream *stream);

#endif
