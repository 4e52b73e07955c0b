/* Work that was never measured may take microseconds or seconds, and nothing can be charged for it before it ends. A process
 * has one such launch on the card (throttle_decide), and of the processes of a container one at a time has it: their
 * `turn` is a word of the bucket. */
#ifndef EGPU_UNKNOWNS_H
#define EGPU_UNKNOWNS_H

#include "surroundings.h"

/* The throttle lets it pass. true: not yet, for another process has the turn. */
bool unknowns_hold(struct gate *gate, const struct surroundings *around, struct gate_pass *pass,
                   const struct throttle_ask *ask, struct throttle_decision *decision);
/* false: another process was quicker. */
bool unknowns_take_turn(struct gate *gate, const struct surroundings *around, const struct gate_pass *pass,
                        const struct throttle_ask *ask, struct throttle_decision *decision);
/* With the gate's lock held: how much of it is outstanding has changed. `since_ns`: what is left of it began then. */
void unknowns_changed(struct gate *gate, const struct surroundings *around, uint64_t since_ns);

#endif
