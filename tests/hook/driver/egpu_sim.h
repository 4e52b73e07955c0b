/* What the simulated driver exports besides the driver's functions: its clock, for the hook's clock.c and for clients. */
#ifndef EGPU_SIM_CLOCK_H
#define EGPU_SIM_CLOCK_H

#include <stdint.h>

#pragma GCC visibility push(default)
uint64_t egpuSimNow(void); /* ns; 0 = the clock is the wall */
/* Until *word != expected, woken by key, or the deadline; may return without cause. 0, EINTR or ETIMEDOUT. */
int egpuSimWait(uint64_t key, const uint32_t *word, uint32_t expected, uint64_t deadline_ns);
void egpuSimWake(uint64_t key);
void egpuSimWakeOne(uint64_t key); /* of those who wait for it the one with the earliest deadline */
void egpuSimSleep(uint64_t ns);
void egpuSimDetach(void); /* before waiting for anything but the driver: pthread_join, read ... */
void egpuSimExpect(uint32_t count); /* the clock stands until `count` more threads take part (before pthread_create) */
#pragma GCC visibility pop

#endif
