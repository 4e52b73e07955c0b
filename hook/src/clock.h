/* The only place of time and waiting. On the simulated driver's virtual clock both happen there. */
#ifndef EGPU_CLOCK_H
#define EGPU_CLOCK_H

#include <stdint.h>

/* A word somebody changes before clock_wake; the key names it on the virtual clock (its address within a process, the
 * same number in all processes that share the word). */
struct clock_point {
    uint32_t *word;
    uint64_t key;
};

uint64_t clock_now_ns(void);
/* Returns when the word differs from `expected`, when woken, at the deadline, or without cause: 0 or an errno. */
int clock_wait(struct clock_point point, uint32_t expected, uint64_t deadline_ns);
void clock_wake(struct clock_point point);
void clock_sleep_until(uint64_t deadline_ns);

#endif
