/* The only place of time and waiting. On the simulated driver's virtual clock both happen there. */
#ifndef EGPU_CLOCK_H
#define EGPU_CLOCK_H

#include <stdint.h>
#include <time.h>

/* A word somebody changes before clock_wake; the key names it on the virtual clock (its address within a process, the
 * same number in all processes that share the word). */
struct clock_point {
    uint32_t *word;
    uint64_t key;
};

uint64_t clock_now_ns(void);
/* One of the system's clocks. A program may be shown another time (libfaketime): the card's stays the real one, and a clock
 * that was stopped must not keep a wait from ending. */
void clock_read(clockid_t which, struct timespec *now);

/* For many looks within a millisecond or so: half the price of clock_now_ns, and a few percent of the time since the
 * beginning wrong at most. */
struct clock_glance {
    uint64_t ns, ticks;
};
struct clock_glance clock_glance_begin(void);
uint64_t clock_glance_ns(const struct clock_glance *from);
/* Returns when the word differs from `expected`, when woken, at the deadline, or without cause: 0 or an errno. */
int clock_wait(struct clock_point point, uint32_t expected, uint64_t deadline_ns);
void clock_wake(struct clock_point point);
/* Of those who wait there the one who came first, as far as the system keeps the order. */
void clock_wake_one(struct clock_point point);
void clock_sleep_until(uint64_t deadline_ns);

#endif
