/* Learned costs: how long one launch of a (function, grid, block) takes when it has the card to itself.
 * Pure: private to a process, the caller serialises. */
#ifndef EGPU_COSTS_H
#define EGPU_COSTS_H

#include <stdbool.h>
#include <stdint.h>

#define COSTS_ENTRIES 4096u       /* power of two; later keys replace older ones of the same place */
#define COSTS_PLACES 8u           /* how far a key may lie from its place */
#define COSTS_SAMPLES_MAX 1024u       /* then older ones fade */
#define COSTS_SAMPLES_FEW 4u          /* as many count when the next is far from what they said */
#define COSTS_ERROR_PARTS 100u        /* of the mean: measured until it is known better than that */
#define COSTS_SPREAD_FADES 8u
#define COSTS_SAMPLES_ENOUGH 8u       /* with fewer it is worth disturbing others for one more */
#define COSTS_LONG_NS 4000000ull      /* of kernels this long fewer must do: each takes the card from all others */
#define COSTS_SAMPLES_ENOUGH_LONG 2u
#define COSTS_OUTDATED 4u             /* so many times the mean, or less: another kernel, or other data for good */
#define COSTS_LONGEST_FADES 8u        /* of a longer time seen once, this part goes with a shorter one */
#define COSTS_FADED_NS 300000000ull   /* ... no more often than so: a thousand short ones in a row say nothing of the next */
#define COSTS_ASKED_NS 100000000ull   /* between two launches that are measured one by one */
#define COSTS_STALE_NS 5000000000ull /* measured longer ago than this: worth a probe when always contended */

struct cost_entry {
    uint64_t key;        /* 0: free */
    uint64_t cost_ns;    /* 0: never measured */
    uint64_t clean_ns;   /* when it was last measured alone, 0: never */
    uint32_t samples;    /* clean ones that the cost is the mean of, up to COSTS_SAMPLES_MAX */
    uint64_t asked_ns;   /* when it was last wanted to be */
    uint64_t spread_ns;  /* mean distance of a measurement from the mean */
    uint64_t remembered_ns, faded_ns; /* as longest_ns, but fading by time; when it became that */
    uint64_t longest_ns; /* that it took alone, fading: what a launch may cost when it does not cost the mean */
    bool doubted;        /* beside others, since it was last measured alone */
};

struct costs {
    struct cost_entry entries[COSTS_ENTRIES];
};

uint64_t costs_key(const void *function, uint64_t grid, uint64_t block);
struct cost_entry *costs_find(struct costs *costs, uint64_t key);
void costs_learn(struct cost_entry *entry, uint64_t elapsed_ns, bool clean, uint64_t now_ns);
/* The same launches, if each took as long as one did lately. */
uint64_t costs_longest(const struct cost_entry *entry, uint64_t learned_ns);
uint64_t costs_remembered(const struct cost_entry *entry, uint64_t learned_ns);
/* Beside others it seems to take another time: worth a clean measurement now. */
void costs_doubt(struct cost_entry *entry);
/* Beside others it takes many times longer: counts until a clean measurement says otherwise. */
void costs_surprise(struct cost_entry *entry, uint64_t elapsed_ns);
/* The last clean measurement is long ago: worth a probe where others disturb. */
bool costs_stale(const struct cost_entry *entry, uint64_t now_ns);
/* This launch shall be a batch of its own. */
bool costs_due(struct cost_entry *entry, uint64_t now_ns);

#endif
