/* Memory in stream order, and what pools keep of it. */
#ifndef POOLS_H
#define POOLS_H
#include "driver.h"

#include <stdbool.h>

/* The application freed bytes of a pool: how many of them the pool keeps, so that they stay charged. */
uint64_t pool_keep(uint64_t pool, uint64_t bytes);
/* What the driver has of a pool unused that is not charged as kept; `taken_bytes` have just been taken out of that. */
uint64_t pool_unused_unkept(uint64_t pool, uint64_t taken_bytes);
/* Lets the pools of a card give up what they keep unused, if it may come to as much: what is charged as kept, and what the
 * driver was seen to have beyond that. false: nobody was asked. */
bool pools_give_up(int card, uint64_t wanted_bytes);

#endif
