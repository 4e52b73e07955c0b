// What the loader's functions (lookup.c) need of the routing table.
#ifndef EGPU_ROUTE_NAMES_H
#define EGPU_ROUTE_NAMES_H

#include <stdbool.h>
#include <stddef.h>

// cu[A-Z]* or nvml*: cuBLAS, cuDNN and curl begin with "cu" as well. Asked for every name a program looks up.
static inline bool route_name_is_driver(const char *name) {
    if (name == NULL) return false;
    if (name[0] == 'n') return name[1] == 'v' && name[2] == 'm' && name[3] == 'l';
    return name[0] == 'c' && name[1] == 'u' && name[2] >= 'A' && name[2] <= 'Z';
}
// What the application gets for a name the real lookup found at `address` (NULL: found nothing).
void *route_substitute_name(const char *name, void *address);

#endif
