/* What a gate sees of the others on its card, and what it tells them: the words of the container's page. */
#ifndef EGPU_SURROUNDINGS_H
#define EGPU_SURROUNDINGS_H

#include "gate.h"
#include "neighbours.h"

struct surroundings {
    struct throttle_limits limits;
    struct throttle_bucket *bucket;
    struct egpu_page *page;
    uint32_t index;
    int count;
    struct neighbours_busy peers_busy;
    struct throttle_peer peers[EGPU_MEMBER_COUNT_MAX];
};

/* Words that others read or write at the same time; none of them orders another. */
static inline uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static inline void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
static inline void add(uint64_t *word, uint64_t value) { __atomic_fetch_add(word, value, __ATOMIC_RELAXED); }
static inline uint64_t most(uint64_t one, uint64_t other) { return one > other ? one : other; }
static inline uint64_t least(uint64_t one, uint64_t other) { return one < other ? one : other; }

static inline void raise_to(uint64_t *word, uint64_t value) {
    uint64_t before = load(word);
    while (before < value &&
           !__atomic_compare_exchange_n(word, &before, value, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

struct throttle_limits surroundings_limits(const struct egpu_card_limits *limits);
void surroundings_look(struct gate *gate, struct surroundings *around);
/* The same for who has just looked at the clock. */
void surroundings_look_at(struct gate *gate, struct surroundings *around, uint64_t now_ns);
/* Somebody but this process had work on the card after that moment. */
bool surroundings_active(struct gate *gate, const struct surroundings *around, uint64_t since_ns);
void surroundings_tell(struct gate *gate, const struct surroundings *around, uint64_t now_ns, uint64_t busy_until_ns);
/* Counted for the container and for the process. */
void surroundings_waited(struct gate *gate, const struct surroundings *around, enum throttle_reason reason,
                         uint64_t from_ns, uint64_t to_ns);

#endif
