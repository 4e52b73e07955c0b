/* libnvidia-ml as the container sees it. */
#ifndef VIEW_NVML_H
#define VIEW_NVML_H
#include "../include/egpu_region.h"
#include "driver_nvml.h"

/* The row of a card, or -1 for those that pass as they are. */
int view_card_of(nvmlDevice_t device);
/* The process of a slot as this one may name it; 0: nobody. */
unsigned int view_pid_of(const struct egpu_slot *slot);
unsigned int view_percent(uint64_t part, uint64_t whole);

/* A child of fork starts libnvidia-ml anew. */
void view_nvml_after_fork(void);
void view_utilisation_after_fork(void);

#endif
