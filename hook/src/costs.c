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

static bool outdated(const struct cost_entry *entry, uint64_t elapsed_ns) {
    return elapsed_ns / COSTS_OUTDATED > entry->cost_ns || elapsed_ns < entry->cost_ns / COSTS_OUTDATED;
}

static uint64_t faded(uint64_t longest_ns, uint64_t elapsed_ns) {
    return elapsed_ns >= longest_ns ? elapsed_ns : longest_ns - (longest_ns - elapsed_ns) / COSTS_LONGEST_FADES;
}

static void settle(struct cost_entry *entry, uint64_t elapsed_ns, uint64_t now_ns) {
    entry->doubted = false;
    entry->longest_ns = faded(entry->longest_ns, elapsed_ns);
    if (elapsed_ns >= entry->remembered_ns || now_ns > entry->faded_ns + COSTS_FADED_NS) {
        entry->remembered_ns = faded(entry->remembered_ns, elapsed_ns);
        entry->faded_ns = now_ns;
    }
    entry->clean_ns = now_ns ? now_ns : 1;
}

/* Clean measurements are averaged, for kernels take different times with different data; one far from the mean counts
 * at once, for its launches are charged what was learned long before they are measured. A contended measurement is
 * never too short, so it can lower a cost that was never measured alone, or one that is plainly out of date. */
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
    settle(entry, elapsed_ns, now_ns);
    int64_t change_ns = (int64_t)elapsed_ns - (int64_t)entry->cost_ns;
    uint64_t distance_ns = entry->samples == 0 ? 0 : (uint64_t)(change_ns < 0 ? -change_ns : change_ns);
    if (outdated(entry, elapsed_ns)) entry->samples = 0;
    else if (distance_ns > 4 * entry->spread_ns + entry->cost_ns / 8 && entry->samples > COSTS_SAMPLES_FEW)
        entry->samples = COSTS_SAMPLES_FEW;
    if (entry->samples < COSTS_SAMPLES_MAX) entry->samples++;
    uint64_t fades = entry->samples < COSTS_SPREAD_FADES ? entry->samples : COSTS_SPREAD_FADES;
    entry->spread_ns = entry->spread_ns - entry->spread_ns / fades + distance_ns / fades;
    entry->cost_ns = (uint64_t)((int64_t)entry->cost_ns + change_ns / (int64_t)entry->samples);
}

static uint64_t scaled(uint64_t learned_ns, uint64_t longest_ns, uint64_t cost_ns) {
    if (cost_ns == 0 || longest_ns <= cost_ns) return learned_ns;
    return (uint64_t)((double)learned_ns * ((double)longest_ns / (double)cost_ns));
}

uint64_t costs_longest(const struct cost_entry *entry, uint64_t learned_ns) {
    return scaled(learned_ns, entry->longest_ns, entry->cost_ns);
}

uint64_t costs_remembered(const struct cost_entry *entry, uint64_t learned_ns) {
    return scaled(learned_ns, entry->remembered_ns, entry->cost_ns);
}

void costs_doubt(struct cost_entry *entry) { entry->doubted = true; }

void costs_surprise(struct cost_entry *entry, uint64_t elapsed_ns) {
    entry->doubted = true;
    if (elapsed_ns <= entry->cost_ns) return;
    entry->cost_ns = elapsed_ns;
    entry->samples = 0;
}

/* The error of a mean of n is the spread by the root of n. */
static uint64_t samples_enough(const struct cost_entry *entry) {
    uint64_t enough = entry->cost_ns > COSTS_LONG_NS ? COSTS_SAMPLES_ENOUGH_LONG : COSTS_SAMPLES_ENOUGH;
    uint64_t parts = entry->cost_ns == 0 ? 0 : entry->spread_ns * COSTS_ERROR_PARTS / entry->cost_ns;
    if (parts * parts <= enough) return enough;
    return parts * parts < COSTS_SAMPLES_MAX ? parts * parts : COSTS_SAMPLES_MAX;
}

bool costs_stale(const struct cost_entry *entry, uint64_t now_ns) {
    uint64_t enough = samples_enough(entry);
    return entry->doubted || entry->samples < enough || now_ns > entry->clean_ns + COSTS_STALE_NS;
}

bool costs_due(struct cost_entry *entry, uint64_t now_ns) {
    if (entry->cost_ns == 0) return true;
    if (!costs_stale(entry, now_ns) || now_ns < entry->asked_ns + COSTS_ASKED_NS) return false;
    entry->asked_ns = now_ns;
    return true;
}
