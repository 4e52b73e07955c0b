/* Launches in a row ask once: the gate grants as much time as fills the batch, and charges it in advance. A launch takes
 * from it what its kernel is known to cost. What is not used is given back when the row ends: a kernel not known, the
 * stream running dry, a wait, the batch closing, another thread.
 *
 * So a launch in a row costs two compares, a look at the clock and one addition.
 */
#ifndef EGPU_ROWS_H
#define EGPU_ROWS_H

#include "streams.h"

/* The calling thread's row has room for one more of these. */
bool row_goes_on(const struct row_key *what);
/* After a launch that passed, its stream owned. */
void row_begin(const struct submission *submission, struct batch *batch);
/* The stream owned. */
void row_end(struct stream *stream);

#endif
