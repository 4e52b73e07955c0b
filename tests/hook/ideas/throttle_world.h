/* What the simulation of the compute limits is about: containers of one or more processes on one card, as their hooks see
 * it and as it is. */
#ifndef THROTTLE_WORLD_H
#define THROTTLE_WORLD_H

#include "believed.h"
#include "costs.h"
#include "throttle.h"
#include "throttle_card.h"

#define CONTAINERS_MAX 6
#define PROCESSES_MAX CARD_QUEUES_MAX
#define KINDS_MAX 3
#define NEVER UINT64_MAX
#define SETTLED_NS (1000 * THROTTLE_MS) /* the goals hold after the first second, and after each change */
#define TICK_NS THROTTLE_MS
#define POINT 100u /* of THROTTLE_QUOTA_WHOLE */

/* What a page says that is written by somebody else than the hook. */
enum lie { LIE_NOTHING, LIE_WANTING, LIE_BUSY, LIE_HOLD, LIE_PROBE, LIE_FROZEN, LIE_GROWS, LIE_TOKENS, LIE_ALL, LIE_ANYTHING, LIE_COUNT };

struct kind {
    uint64_t kernel_ns;
    struct cost_entry cost;
};

struct batch {
    uint64_t learned_ns, kernel_ns, others_busy_ns;
    int kind;
    unsigned epoch;
    bool borrowed, contended, probe;
};

/* One process and its hook: what it knows of its own work, as the gate of one card does. */
struct process {
    bool lives, dead_unreaped;
    int container;
    uint64_t born_ns, dies_ns, reaped_ns;
    /* the program */
    struct kind kinds[KINDS_MAX];
    int kind_count, next_kind;
    uint64_t gap_ns;            /* waits for its kernel, then thinks so long; 0: floods */
    uint64_t phase_ns, rest_ns; /* works so long, then rests; 0: never rests */
    uint64_t changes_ns;        /* then its kernels take another time */
    unsigned epoch, times;      /* that many times as long, or never seen before when 0 */
    /* the hook */
    uint64_t wake_ns, asked_ns, stream_end_ns, others_busy_ns, busy_ns, busy_until_ns;
    uint64_t ahead_ns, work_end_ns, unknown_since_ns, unknown_others_ns, behind_ns;
    uint64_t overdue_ns, overdue_since_ns, overdue_others_ns;
    uint64_t probe_started_ns, probe_period_ns, probe_until_ns;
    uint32_t unknown, late;
    bool probing, overdue_borrowed, borrowed, blocked;
    struct batch batches[CARD_QUEUE_MAX];
    unsigned first, last;
    struct throttle_ledger ledger;
    struct believed believed[CONTAINERS_MAX];
    struct throttle_peer peers[CONTAINERS_MAX];
    int peer_count;
    uint64_t looked_ns, peers_busy_ns;
    /* the rules */
    enum throttle_reason reason; /* of the wait since `waited_from_ns` */
    uint64_t launches, used_ns, waited_from_ns, waited_others_ns, earned_ns, turn_ns, patience_ns, ticked_used_ns, lag_ns, lag_max_ns;
    uint64_t debt_ns, paid_ns; /* when it began to wait: below zero, and what its container had been charged */
};

struct container {
    struct throttle_limits limits;
    struct throttle_bucket bucket;
    struct egpu_page page; /* as its hooks write it */
    enum lie lie;
    bool fickle, lies; /* now and then; now */
    uint64_t said_ns;
    uint64_t used_ns, ticked_used_ns, paid_ns;
    uint64_t excess_ns, excess_max_ns, lag_ns, lag_max_ns; /* above and below its quota, over any time */
    uint64_t judged_from_ns, ahead_max_ns;
    bool wanted;
};

struct world {
    struct card card;
    struct process processes[PROCESSES_MAX];
    struct container containers[CONTAINERS_MAX];
    int count;
    uint64_t random, seed, broken, end_ns, ticked_busy_ns, idle_ns, idle_max_ns, change_ns;
    unsigned varying; /* parts of 100 that a kernel's time varies by */
    bool verbose, changes, wanted;
    uint64_t deaths, births, liars, changed;
};

/* worlds */
uint64_t draw(struct world *world, uint64_t limit);
void world_begin(struct world *world, uint64_t seed);
/* The page as the others see it: BELIEVED_WORD_COUNT words. */
void world_page(struct world *world, int container, uint64_t *words);
/* Births, deaths, changes of limits and of kernels that are due. */
void world_change(struct world *world);
uint64_t kernel_of(const struct process *one, int kind);

/* one process's hook */
void shell_step(struct world *world, int process);
/* The slot of a dead one is found. */
void shell_reap_dead(struct world *world, int process);

/* rules */
void broken(struct world *world, const char *rule, int container, uint64_t value);
void rules_pass(struct world *world, int process, const struct throttle_decision *decision);
void rules_wait(struct world *world, int process, const struct throttle_decision *decision, const struct throttle_ask *ask);
void rules_step(struct world *world, int process);
void rules_tick(struct world *world);
void rules_end(struct world *world);
void rules_born(struct world *world, int process);
/* Its kernels are others from now on. */
void rules_changes(struct world *world, int process);
/* Again from the beginning: limits, kernels or neighbours are others now. */
void rules_begin(struct world *world, int container);

#endif
