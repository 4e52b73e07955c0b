/* What is told to have been used of the card by kernels that were never measured alone.
 *
 * It is told and not paid: it believes what peers say they were charged, and who says too much would make it cheap.
 */
#ifndef EGPU_USED_H
#define EGPU_USED_H

#include "surroundings.h"

/* By a batch that ended and is not in running_since_ns yet, the gate's lock held. */
uint64_t used_ns(struct gate *gate, const struct surroundings *around, const struct gate_batch *batch,
                 const struct throttle_span *span, uint64_t paid_ns, uint64_t now_ns);

/* A batch ended: so fast our work goes on beside the others'. The gate's lock held. */
void used_pace(struct gate *gate, uint64_t used_ns, uint64_t elapsed_ns);
/* Of work that is in no batch which ended; at that pace. */
uint64_t used_since(const struct gate *gate, uint64_t now_ns);

#endif
