#include "unknowns.h"

/* Who holds the turn may be gone, or may not look for the end of its work: others wait as for overdue work of their own. */
static uint64_t patience_ns(const struct throttle_bucket *bucket) {
    return least(THROTTLE_WAIT_NS_MAX << least(2 * load(&bucket->unknown_late), 8), THROTTLE_OWN_NS_MAX);
}

/* A free container is held to nothing. Who goes on beside unknown work of its own has waited for that. */
static bool is_held(const struct surroundings *around, const struct throttle_ask *ask) {
    return !ask->ahead_unknown && throttle_limited(&around->limits);
}

static bool needs_turn(const struct surroundings *around, const struct gate_pass *pass, const struct throttle_ask *ask) {
    return pass->learned_ns == 0 && is_held(around, ask);
}

/* A moment that is not yet was written before the node's clock began anew. */
static bool has_begun(uint64_t since_ns, uint64_t now_ns) { return since_ns != 0 && since_ns <= now_ns; }

static bool is_taken(const struct gate *gate, uint64_t since_ns, uint64_t now_ns, uint64_t patience_ns) {
    return has_begun(since_ns, now_ns) && since_ns != load(&gate->turn_ns) && now_ns - since_ns < patience_ns;
}

/* Who waits longer than the shortest patience goes on waiting, but may as well have been killed. */
static bool waits(uint64_t since_ns, uint64_t now_ns) {
    return has_begun(since_ns, now_ns) && now_ns - since_ns < THROTTLE_WAIT_NS_MAX;
}

static void wait_for_turn(struct throttle_bucket *bucket, const struct throttle_ask *ask) {
    uint64_t before_ns = load(&bucket->unknown_waiting_ns);
    bool others_first = waits(before_ns, ask->now_ns) && before_ns <= ask->since_ns;
    if (others_first || !waits(ask->since_ns, ask->now_ns)) return;
    __atomic_compare_exchange_n(&bucket->unknown_waiting_ns, &before_ns, ask->since_ns, false, __ATOMIC_RELAXED,
                                __ATOMIC_RELAXED);
}

/* What it leaves unpaid is charged now, or who comes would find tokens. */
static bool reap_holder(const struct throttle_bucket *bucket) {
    uint64_t slot = load(&bucket->unknown_slot);
    return slot > 0 && region_reap_slot(slot - 1);
}

bool unknowns_hold(struct gate *gate, const struct surroundings *around, struct gate_pass *pass,
                   const struct throttle_ask *ask, struct throttle_decision *decision) {
    if (!is_held(around, ask)) return false;
    uint64_t since_ns = load(&around->bucket->unknown_since_ns), waiting_ns = load(&around->bucket->unknown_waiting_ns);
    bool known = pass->learned_ns > 0;
    bool others_first = !known && waits(waiting_ns, ask->now_ns) && waiting_ns < ask->since_ns;
    /* It would find tokens because nothing was charged yet. It waits no longer than it takes itself. */
    uint64_t known_ns = least(pass->learned_ns, THROTTLE_OWN_NS_MAX);
    bool taken = is_taken(gate, since_ns, ask->now_ns, known ? known_ns : patience_ns(around->bucket));
    if (!taken && !others_first) return false;
    if (taken && !pass->held) reap_holder(around->bucket);
    pass->held = true;
    if (!known) wait_for_turn(around->bucket, ask);
    *decision = (struct throttle_decision){.reason = THROTTLE_WAIT_AHEAD,
                                           .until_ns = ask->now_ns + throttle_unknown_poll_ns(ask)};
    return true;
}

bool unknowns_take_turn(struct gate *gate, const struct surroundings *around, const struct gate_pass *pass,
                        const struct throttle_ask *ask, struct throttle_decision *decision) {
    if (!needs_turn(around, pass, ask)) return true;
    uint64_t since_ns = load(&around->bucket->unknown_since_ns), ours_ns = ask->since_ns;
    if (is_taken(gate, since_ns, ask->now_ns, patience_ns(around->bucket))) return false;
    bool late = has_begun(since_ns, ask->now_ns) && since_ns != load(&gate->turn_ns);
    if (late && reap_holder(around->bucket)) return false;
    if (!__atomic_compare_exchange_n(&around->bucket->unknown_since_ns, &since_ns, ask->now_ns, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED))
        return false;
    store(&gate->turn_ns, ask->now_ns);
    const struct egpu_slot *slots = region_slots(), *slot = region_slot();
    store(&around->bucket->unknown_slot, slots && slot ? (uint64_t)(slot - slots) + 1 : 0);
    __atomic_compare_exchange_n(&around->bucket->unknown_waiting_ns, &ours_ns, 0, false, __ATOMIC_RELAXED,
                                __ATOMIC_RELAXED);
    if (late) add(&around->bucket->unknown_late, 1);
    decision->late |= late;
    return true;
}

static void note_in_slot(const struct gate *gate, const struct surroundings *around, uint64_t since_ns) {
    struct egpu_slot_card *slot = region_slot_card(gate->card);
    if (!slot) return;
    uint64_t measured_ns = load(&around->bucket->busy_ns) - load(&around->bucket->departed_busy_ns);
    store(&slot->unmeasured_others_ns, measured_ns - load(&slot->busy_ns));
    store(&slot->unmeasured_since_ns, since_ns);
}

void unknowns_changed(struct gate *gate, const struct surroundings *around, uint64_t since_ns) {
    note_in_slot(gate, around, gate->unknown > 0 ? since_ns : 0);
    uint64_t turn_ns = load(&gate->turn_ns);
    if (gate->unknown > 0 || turn_ns == 0) return;
    store(&gate->turn_ns, 0);
    if (!__atomic_compare_exchange_n(&around->bucket->unknown_since_ns, &turn_ns, 0, false, __ATOMIC_RELAXED,
                                     __ATOMIC_RELAXED))
        return;
    /* After a long one the next one may be as long, and those of the other processes go on being patient. */
    if (since_ns < turn_ns + THROTTLE_WAIT_NS_MAX) store(&around->bucket->unknown_late, 0);
}
