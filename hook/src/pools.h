/* Memory in stream order, and what pools keep of it. */
#ifndef POOLS_H
#define POOLS_H
#include "driver.h"

#include <stdbool.h>

/* The application freed bytes of a pool: how many of them the pool keeps, so that they stay charged. */
uint64_t pool_keep(uint64_t pool, uint64_t bytes);
/* Lets the pools of a card give up what they keep unused, if it comes to as much; true: there is less charged now. */
bool pools_give_up(int card, uint64_t wanted_bytes);

#endif
