/* Arithmetic of the throttle, on words that several processes change. */
#ifndef EGPU_THROTTLE_WORDS_H
#define EGPU_THROTTLE_WORDS_H

#include "throttle.h"

static inline int64_t load(const int64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

static inline uint64_t least(uint64_t one, uint64_t other) { return one < other ? one : other; }

static inline uint64_t most(uint64_t one, uint64_t other) { return one > other ? one : other; }

static inline int64_t within(int64_t value, int64_t low, int64_t high) {
    if (value < low) return low;
    return value < high ? value : high;
}

static inline uint64_t part_of(uint64_t ns, uint32_t parts) {
    return ns / THROTTLE_QUOTA_WHOLE * parts + ns % THROTTLE_QUOTA_WHOLE * parts / THROTTLE_QUOTA_WHOLE;
}

/* Adds within [low, high], but never pulls back what is already outside: a lowered ceiling takes effect by spending.
 * Returns what was added. */
static inline int64_t add_within(int64_t *word, int64_t amount, int64_t low, int64_t high) {
    int64_t before = load(word), after;
    do {
        after = before + amount;
        if (amount > 0 && after > high) after = before > high ? before : high;
        if (amount < 0 && after < low) after = before < low ? before : low;
    } while (!__atomic_compare_exchange_n(word, &before, after, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    return after - before;
}

#endif
