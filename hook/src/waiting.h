/* Inside of gate.c: how a launch waits, and what the page says of own work until the next look. */
#ifndef EGPU_WAITING_H
#define EGPU_WAITING_H

#include "surroundings.h"

#define PAGE_MARGIN_NS 100000ull  /* a look a little late must not read as "idle" */
#define WAITING_NOTHING (UINT64_MAX - PAGE_MARGIN_NS)

/* With the lock held: what is left if nobody else has work, but never less than what is behind the running batch. */
uint64_t waiting_work_left_ns(const struct gate *gate, uint64_t now_ns);
/* Tells the page. Returns when to look again although nothing else happens: as soon as the running work should be done. */
uint64_t waiting_tell(struct gate *gate, const struct surroundings *around, uint64_t now_ns, uint64_t wake_ns);
/* Until something may have changed. `begun`: of lookout_begin, before the decision was made. `first`: the launch has not
 * waited before; later, batches that others are just filling are left alone until the end of the wait. */
void waiting_wait(struct gate *gate, const struct surroundings *around, const struct throttle_decision *decision,
                  const struct throttle_ask *ask, uint32_t begun, bool first);

#endif
