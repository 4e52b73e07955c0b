/* libnvidia-ml as the container sees it. */
#ifndef VIEW_NVML_H
#define VIEW_NVML_H
#include <stdbool.h>
#include <stdint.h>

/* Bytes the driver has for this process on a card; false when libnvidia-ml is not there or does not name this process
 * (in a PID namespace of its own it has another number there). */
bool view_nvml_seen(int card, uint64_t *bytes);
/* A child of fork starts libnvidia-ml anew. */
void view_nvml_after_fork(void);

#endif
