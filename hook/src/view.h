/* What the application is told about memory, whichever library it asks. */
#ifndef VIEW_H
#define VIEW_H
#include <stdint.h>

struct view_memory {
    uint64_t total_bytes, used_bytes, free_bytes;
};

/* The container's part of a card, given what the driver says of all of it; that itself without a row in the limits. */
struct view_memory view_memory_of(int card, uint64_t driver_total_bytes, uint64_t driver_free_bytes);

#endif
