#include "costs.h"

/* The finaliser of splitmix64: neighbouring addresses and grids land far apart. */
static uint64_t mix(uint64_t value) {
    value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9ull;
    value = (value ^ (value >> 27)) * 0x94d049bb133111ebull;
    return value ^ (value >> 31);
}

uint64_t costs_key(const void *function, uint64_t grid, uint64_t block) {
    uint64_t key = mix((uint64_t)(uintptr_t)function ^ mix(grid ^ mix(block)));
    return key ? key : 1;
}

struct cost_entry *costs_find(struct costs *costs, uint64_t key) {
    struct cost_entry *oldest = 0;
    for (uint64_t step = 0; step < COSTS_PLACES; step++) {
        struct cost_entry *entry = &costs->entries[(key + step) % COSTS_ENTRIES];
        if (entry->key == key) return entry;
        if (!oldest || entry->key == 0 || (oldest->key != 0 && entry->clean_ns < oldest->clean_ns)) oldest = entry;
        if (entry->key == 0) break;
    }
    *oldest = (struct cost_entry){.key = key};
    return oldest;
}

/* Clean measurements are averaged, for kernels take different times with different data. A contended one is never too
 * short, so it can lower a cost that was never measured alone, or one that is plainly out of date. */
void costs_learn(struct cost_entry *entry, uint64_t elapsed_ns, bool clean, uint64_t now_ns) {
    if (elapsed_ns == 0) elapsed_ns = 1;
    if (!clean) {
        uint64_t bound_ns = entry->samples == 0 ? entry->cost_ns : entry->cost_ns / COSTS_OUTDATED;
        if (entry->cost_ns == 0 || elapsed_ns < bound_ns) {
            entry->cost_ns = elapsed_ns;
            entry->samples = 0;
        }
        return;
    }
    if (entry->samples < COSTS_SAMPLES_MAX) entry->samples++;
    int64_t change_ns = (int64_t)elapsed_ns - (int64_t)entry->cost_ns;
    entry->cost_ns = (uint64_t)((int64_t)entry->cost_ns + change_ns / (int64_t)entry->samples);
    entry->clean_ns = now_ns ? now_ns : 1;
}

bool costs_stale(const struct cost_entry *entry, uint64_t now_ns) {
    uint32_t enough = entry->cost_ns > COSTS_LONG_NS ? COSTS_SAMPLES_ENOUGH_LONG : COSTS_SAMPLES_ENOUGH;
    return entry->samples < enough || now_ns > entry->clean_ns + COSTS_STALE_NS;
}

bool costs_due(struct cost_entry *entry, uint64_t now_ns) {
    if (entry->cost_ns == 0) return true;
    if (!costs_stale(entry, now_ns) || now_ns < entry->asked_ns + COSTS_ASKED_NS) return false;
    entry->asked_ns = now_ns;
    return true;
}
