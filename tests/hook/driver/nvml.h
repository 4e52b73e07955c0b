/* Inside the simulated libnvidia-ml.so.1: which card a handle is, and when the library may be used. */
#ifndef EGPU_SIM_NVML_H
#define EGPU_SIM_NVML_H

#include "sim.h"

#include "driver_nvml.h"

#define NVML_EXPORT __attribute__((visibility("default")))

/* UNINITIALIZED before nvmlInit, INVALID_ARGUMENT for what is no handle; brings the card forward to now. */
nvmlReturn_t nvml_enter(nvmlDevice_t device, uint32_t *card);
nvmlReturn_t nvml_ready(void);
nvmlReturn_t nvml_text(char *target, unsigned int length, const char *text); /* INSUFFICIENT_SIZE when it does not fit */
void nvml_utilization_begin(void);

#endif
