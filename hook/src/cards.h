/* Which row of `limits` a device of the driver is. */
#ifndef CARDS_H
#define CARDS_H
#include "driver.h"

enum {
    CARD_NONE = -1,    /* no region: nothing is limited */
    CARD_FOREIGN = -2, /* the agent did not give this card to the container (or the region is broken): no memory on it */
};

/* By the device's uuid, remembered; a row >= 0 or one of the above. */
int card_of_device(CUdevice device);
/* Of the calling thread's current context; CARD_NONE without a context. */
int card_current(void);
/* The same for launches, which are gated also where memory cannot be counted. */
int card_to_gate(void);

#endif
