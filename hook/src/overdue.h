/* Work that runs longer than it was charged for is charged as it runs: a kernel never seen before may take seconds, and
 * until it ends its container would look as if it had used nothing. */
#ifndef EGPU_OVERDUE_H
#define EGPU_OVERDUE_H

#include "surroundings.h"

/* A kernel that waits for a later one of another process of its container runs for ever; the charge does not. */
#define OVERDUE_NS_MAX (10000 * THROTTLE_MS)

/* All with the gate's lock held, but the second. */
void overdue_begin(struct gate *gate, const struct surroundings *around, uint64_t now_ns);
void overdue_charge(struct gate *gate, const struct surroundings *around, uint64_t now_ns);
/* Of the throttle's patience with work of our own; `behind`: the launch comes after all of it. */
uint64_t overdue_patience_ns(const struct gate *gate, bool behind);

#endif
