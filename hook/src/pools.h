/* Memory in stream order, and what pools keep of it. */
#ifndef POOLS_H
#define POOLS_H
#include "driver.h"

/* The application freed bytes of a pool: how many of them the pool keeps, so that they stay charged. */
uint64_t pool_keep(uint64_t pool, uint64_t bytes);

#endif
