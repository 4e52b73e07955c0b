/* What the processes of a container did on a card, counted for all to see: in their slots, or as of those that are gone
 * when a process found no slot. */
#ifndef EGPU_COUNTED_H
#define EGPU_COUNTED_H

#include "gate.h"

/* A submission that passed now. */
void counted_pass(struct gate *gate, uint64_t now_ns, bool late);
/* Launches that went with one. */
void counted_launches(struct gate *gate, uint32_t launches);
/* A batch that ended now. */
void counted_busy(struct gate *gate, uint64_t cost_ns, uint64_t now_ns);
void counted_waited(struct gate *gate, enum throttle_reason reason, uint64_t waited_ns);

#endif
