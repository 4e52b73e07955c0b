#include "residency_beliefs.h"

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* An honest container that was away says since when it is back, keeps most of its memory, and its moves do not become twice
 * as cheap at once. */
static bool changed(const struct residency_belief *belief, const struct residency_member *member, bool active) {
    uint64_t drop_bytes = member->memory_quota_bytes / RESIDENCY_DROP_PARTS;
    bool lie = active && !belief->active && member->active_since_ns < belief->inactive_seen_ns;
    bool smaller = belief->movable_bytes > member->movable_bytes && belief->movable_bytes - member->movable_bytes > drop_bytes;
    bool looser = belief->pinned_bytes > member->pinned_bytes && belief->pinned_bytes - member->pinned_bytes > drop_bytes;
    return lie || smaller || looser || member->round_trip_ns < belief->round_trip_ns / 2;
}

static void count_change(struct residency_belief *belief, uint64_t now_ns) {
    bool past = belief->change_count == 0 || now_ns - belief->first_change_ns > RESIDENCY_RESTLESS_NS;
    if (past && now_ns >= belief->restless_until_ns) {
        belief->change_count = 0;
        belief->first_change_ns = now_ns;
        belief->movable_bytes_most = belief->movable_bytes;
        belief->pinned_bytes_most = belief->pinned_bytes;
        belief->round_trip_ns_most = belief->round_trip_ns;
    }
    belief->change_count += belief->change_count <= RESIDENCY_CHANGES_MAX;
    if (belief->change_count > RESIDENCY_CHANGES_MAX) {
        belief->restless_until_ns = now_ns + RESIDENCY_RESTLESS_NS;
    }
}

void residency_believe(struct residency_belief *belief, struct residency_member *member, uint64_t now_ns) {
    bool active = residency_active(member, now_ns);
    if (changed(belief, member, active)) {
        count_change(belief, now_ns);
    }
    belief->active = active;
    belief->inactive_seen_ns = active ? belief->inactive_seen_ns : now_ns;
    belief->movable_bytes = member->movable_bytes;
    belief->pinned_bytes = member->pinned_bytes;
    belief->round_trip_ns = member->round_trip_ns;
    belief->movable_bytes_most = most(belief->movable_bytes_most, member->movable_bytes);
    belief->pinned_bytes_most = most(belief->pinned_bytes_most, member->pinned_bytes);
    belief->round_trip_ns_most = most(belief->round_trip_ns_most, member->round_trip_ns);
    /* Turns that were asked for are not taken back. */
    belief->thrash_until_ns = most(belief->thrash_until_ns, least(member->thrash_until_ns, now_ns + RESIDENCY_THRASH_AHEAD_NS));
    member->thrash_until_ns = belief->thrash_until_ns;
    member->steady = now_ns < belief->restless_until_ns;
    if (member->steady) {
        member->movable_bytes = belief->movable_bytes_most;
        member->pinned_bytes = belief->pinned_bytes_most;
        member->round_trip_ns = belief->round_trip_ns_most;
    }
}
