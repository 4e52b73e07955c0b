/* What is believed of the pages of the others, which they may write as they like.
 *
 * A page that claims too much is bounded by the plan: by the quota the agent gave, and by what a move can cost. Here it is
 * about one that says now this and now that: each change would give the card to another one of the honest ones, who would
 * only move pages. What an honest hook never does, or does seldom, is counted; who does it often is believed the most it
 * said, and keeps its place in the order: it then costs the others the turns that it is entitled to, and no more. */
#ifndef RESIDENCY_BELIEFS_H
#define RESIDENCY_BELIEFS_H
#include "residency.h"

enum {
    RESIDENCY_CHANGES_MAX = 4, /* within RESIDENCY_RESTLESS_NS */
    RESIDENCY_DROP_PARTS = 8,  /* less memory by an eighth of the quota is a change */
};
#define RESIDENCY_RESTLESS_NS RESIDENCY_TURN_NS_MAX /* and so long it counts as restless after the last one */
#define RESIDENCY_THRASH_AHEAD_NS (4 * RESIDENCY_TURN_NS_MAX) /* turns wanted for longer are believed anew each time */

struct residency_belief {
    bool active;
    uint64_t inactive_seen_ns; /* the last time it was seen so */
    uint64_t movable_bytes, pinned_bytes, round_trip_ns;                /* as last seen */
    uint64_t movable_bytes_most, pinned_bytes_most, round_trip_ns_most; /* since the first change that counts */
    uint32_t change_count;
    uint64_t first_change_ns;
    uint64_t restless_until_ns;
    uint64_t thrash_until_ns;
};

/* Changes what another one's page said into what is believed. The belief begins as zeros, and again when the agent changes
 * who is who. */
void residency_believe(struct residency_belief *belief, struct residency_member *member, uint64_t now_ns);

#endif
