#include "turns.h"

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }

static void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

static void clear(uint64_t *word, uint64_t value) {
    __atomic_compare_exchange_n(word, &value, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

uint64_t turns_behind_ns(const struct throttle_bucket *bucket, uint64_t served_ns) {
    uint64_t last_ns = load(&bucket->served_ns);
    return served_ns < last_ns ? last_ns - served_ns : 0;
}

/* The moment, and in its last digits whose it is: all that wait for the same tokens look again at the same moment. */
static uint64_t moment_of(uint64_t until_ns, const struct throttle_ask *ask) {
    return (until_ns | TURNS_PROCESS_MASK) ^ (ask->process & TURNS_PROCESS_MASK);
}

static bool is_ours(uint64_t until_ns, const struct throttle_ask *ask) { return moment_of(until_ns, ask) == until_ns; }

static bool is_others(const struct throttle_bucket *bucket, const struct throttle_ask *ask) {
    uint64_t until_ns = load(&bucket->turn_until_ns);
    return until_ns > ask->now_ns && until_ns - ask->now_ns < TURNS_NS_MAX && !is_ours(until_ns, ask) &&
           load(&bucket->turn_served_ns) < ask->served_ns;
}

bool turns_others_first(const struct throttle_bucket *bucket, const struct throttle_ask *ask) {
    return !ask->unknown && !ask->probing && is_others(bucket, ask);
}

void turns_claim(struct throttle_bucket *bucket, const struct throttle_ask *ask, uint64_t until_ns) {
    if (is_others(bucket, ask)) return;
    store(&bucket->turn_served_ns, ask->served_ns);
    store(&bucket->turn_until_ns, moment_of(until_ns + THROTTLE_POLL_NS, ask));
}

void turns_end(struct throttle_bucket *bucket, const struct throttle_ask *ask) {
    uint64_t until_ns = load(&bucket->turn_until_ns);
    if (load(&bucket->served_ns) < ask->served_ns) store(&bucket->served_ns, ask->served_ns);
    if (until_ns <= ask->now_ns || !is_ours(until_ns, ask)) return;
    /* It comes again for the rest of what it waited for: short kernels are many. */
    store(&bucket->turn_served_ns, ask->served_ns);
    store(&bucket->turn_until_ns, moment_of(ask->now_ns + THROTTLE_POLL_NS, ask));
}

static bool is_probed(const struct throttle_bucket *bucket, uint64_t now_ns) {
    uint64_t until_ns = load(&bucket->probe_until_ns);
    return until_ns > now_ns && until_ns - now_ns < THROTTLE_PROBE_NS_MAX;
}

bool turns_probe_begin(struct throttle_bucket *bucket, uint64_t until_ns, uint64_t now_ns) {
    uint64_t before_ns = load(&bucket->probe_until_ns);
    return !is_probed(bucket, now_ns) && __atomic_compare_exchange_n(&bucket->probe_until_ns, &before_ns, until_ns, false,
                                                                     __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void turns_probe_end(struct throttle_bucket *bucket, uint64_t until_ns) { clear(&bucket->probe_until_ns, until_ns); }

bool turns_probe_in_the_way(const struct throttle_bucket *bucket, const struct throttle_limits *limits,
                            const struct throttle_ask *ask) {
    if (limits->priority == THROTTLE_HIGH && !throttle_limited(limits)) return false;
    uint64_t busy_until_ns = load(&bucket->busy_until_ns);
    if (!ask->probing) return is_probed(bucket, ask->now_ns);
    return busy_until_ns > ask->now_ns && busy_until_ns != ask->busy_until_ns;
}
