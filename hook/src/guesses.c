/* Launches that were charged as learned because nobody measured them. */
#include "surroundings.h"

#define GUESSED_PARTS 50
#define GUESSED_AT_ONCE_NS (20 * THROTTLE_MS) /* a launching thread that has to wait for a processor is no cheat */
#define GUESSED_NS_MAX (200 * THROTTLE_MS)

/* A kernel may have been longer than learned meanwhile, and nobody saw it: for GUESSED_PARTS times as long that cannot
 * happen again, so what a tenant gains by it is a fiftieth of the time. */
void gate_guessed(struct gate *gate, uint64_t now_ns, uint64_t unknown_ns) {
    uint64_t before_ns = load(&gate->exact_until_ns), after_ns;
    uint64_t earliest_ns = now_ns - least(now_ns, GUESSED_AT_ONCE_NS * GUESSED_PARTS);
    do after_ns = most(before_ns, earliest_ns) + least(unknown_ns, GUESSED_NS_MAX) * GUESSED_PARTS;
    while (!__atomic_compare_exchange_n(&gate->exact_until_ns, &before_ns, after_ns, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
}

bool gate_measures_exactly(struct gate *gate, uint64_t now_ns) { return now_ns < load(&gate->exact_until_ns); }
