// What the loader's functions (lookup.c) need of the routing table.
#ifndef EGPU_ROUTE_NAMES_H
#define EGPU_ROUTE_NAMES_H

#include <stdbool.h>

// cu[A-Z]* or nvml*: cuBLAS, cuDNN and curl begin with "cu" as well.
bool route_name_is_driver(const char *name);
// What the application gets for a name the real lookup found at `address` (NULL: found nothing).
void *route_substitute_name(const char *name, void *address);
void route_count_namespace(void);

#endif
