/* Between card.c (the queues) and engines.c (their service). Everything here under the lock. */
#ifndef EGPU_SIM_CARD_H
#define EGPU_SIM_CARD_H

#include "internal.h"

/* A full queue takes the next operation when this many have ended: a real channel frees its ring in pieces, too. */
#define SIM_LANE_ROOM_STEP 64

struct sim_entry *sim_entry(struct sim_point point); /* NULL = long past */
void sim_activate(struct sim_engine *engine, uint32_t lane);
void sim_deactivate(struct sim_engine *engine, uint32_t lane);
void sim_complete(struct sim_engine *engine, struct sim_lane *lane, struct sim_entry *entry, uint64_t time_ns);
/* Whose turn it is or will be (a place in `active`), and until when. */
void sim_next_turn(const struct sim_engine *engine, uint32_t *place, uint64_t *slice_end_ns);
uint64_t sim_next_event(void); /* when the next operation or turn ends; SIM_NEVER when nothing runs */

#endif
