/* The charge follows what the driver has: max(counted, seen) for every process of the container that is seen. */
#ifndef TRUE_UP_H
#define TRUE_UP_H
#include <stdbool.h>

/* Every process of the container on a card: by libnvidia-ml where that knows this process, and by what the agent wrote. */
void true_up_all(int card);
/* The same at most once a period for the whole container, and this process alone once a period of its own. A process that
 * is making its first context knows itself only afterwards, and leaves the look to others. */
void true_up_sometimes(int card, bool is_context);
/* Before the charge is shown: what was seen of this process beyond what it counted may be gone without a call that says so,
 * as pools give back at a synchronisation. Of others it is a period old at most. */
void true_up_shown(int card);
/* Memory came to other processes without a call of theirs: the next allocation looks. */
void true_up_soon(int card);

#endif
