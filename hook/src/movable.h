/* What this process has turned managed, in the order of addresses, and moving it between card and host. */
#ifndef MOVABLE_H
#define MOVABLE_H
#include "driver.h"

#include <stdbool.h>
#include <stdint.h>

struct movable {
    CUdeviceptr start;
    uint64_t bytes;
    uint64_t kept_bytes; /* from its start on: lives on the card; the rest stays on the host and is read over the link */
    int card;
    CUdevice device;
};

/* false: the host has no memory for the note. */
bool movable_add(const struct movable *movable);
bool movable_remove(CUdeviceptr start);
/* The one that the address lies in. One load in a process that has none. */
bool movable_find(CUdeviceptr address, struct movable *found);
uint64_t movable_sum_bytes(int card);

struct movement {
    uint64_t bytes; /* asked for; what lay there already is not moved by the driver */
    uint64_t ns;
};
/* With a context of that card current. The first `bytes` come to the card, the rest is left where it is and read from
 * there. Waits for the move, holds no lock meanwhile. */
struct movement movable_bring(int card, uint64_t bytes);
/* All but the first `kept_bytes` go to the host. */
struct movement movable_send(int card, uint64_t kept_bytes);
/* Nothing has to stay on the host any more: the driver moves what is used. */
void movable_release(int card);
/* In a child of fork: nothing of the parent's is there. */
void movable_after_fork(void);

#endif
