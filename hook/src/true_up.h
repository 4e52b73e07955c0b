/* The charge follows what the driver has: max(counted, seen) for every process of the container that is seen. */
#ifndef TRUE_UP_H
#define TRUE_UP_H
#include <stdbool.h>

/* Every process of the container on a card: by libnvidia-ml where that knows this process, and by what the agent wrote.
 * true: the container's charge is less than before. */
bool true_up_all(int card);
/* This process alone, at most once a period. */
void true_up_sometimes(int card);

#endif
