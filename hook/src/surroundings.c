#include "surroundings.h"

#include "believed.h"
#include "clock.h"
#include "counted.h"
#include "neighbours.h"

static struct throttle_bucket nobodys;

struct throttle_limits surroundings_limits(const struct egpu_card_limits *limits) {
    return (struct throttle_limits){limits->core_quota, limits->core_policy, limits->priority};
}

static void look_at_own(struct gate *gate, struct surroundings *around) {
    const struct egpu_card_limits *limits = region_limits(gate->card);
    struct egpu_card_usage *usage = region_card_usage(gate->card);
    /* While the process leaves there may be neither: its last launches pass uncharged. */
    around->bucket = usage ? (struct throttle_bucket *)usage->bucket : &nobodys;
    around->limits = limits ? surroundings_limits(limits) : (struct throttle_limits){0};
    around->index = limits ? limits->card_index : EGPU_INDEX_NONE;
    around->page = around->index != EGPU_INDEX_NONE ? region_page(gate->card) : NULL;
    around->count = 0;
    around->peers_busy = (struct neighbours_busy){0};
}

void surroundings_look_at(struct gate *gate, struct surroundings *around, uint64_t now_ns) {
    look_at_own(gate, around);
    if (around->page) around->count = neighbours_peers(gate->card, now_ns, around->peers, &around->peers_busy);
}

void surroundings_look(struct gate *gate, struct surroundings *around) {
    look_at_own(gate, around);
    if (around->page)
        around->count = neighbours_peers(gate->card, clock_now_ns(), around->peers, &around->peers_busy);
}

bool surroundings_active(struct gate *gate, const struct surroundings *around, uint64_t since_ns) {
    for (int each = 0; each < around->count; each++)
        if (around->peers[each].unseen_until_ns > since_ns) return true;
    uint64_t busy_until_ns = load(&around->bucket->busy_until_ns);
    return busy_until_ns > since_ns && busy_until_ns != load(&gate->busy_until_ns);
}

void surroundings_tell(struct gate *gate, const struct surroundings *around, uint64_t now_ns, uint64_t busy_until_ns) {
    uint64_t before_ns = load(&gate->busy_until_ns), stands_ns = load(&around->bucket->busy_until_ns);
    busy_until_ns = least(busy_until_ns, now_ns + BELIEVED_BUSY_NS_MAX);
    /* `usage` outlives a restart of the node, and a moment of the clock before would be raised by nobody. */
    if (believed_moment(stands_ns, now_ns, BELIEVED_BUSY_NS_MAX) == 0)
        __atomic_compare_exchange_n(&around->bucket->busy_until_ns, &stands_ns, 0, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    store(&gate->busy_until_ns, busy_until_ns);
    if (busy_until_ns >= before_ns) raise_to(&around->bucket->busy_until_ns, busy_until_ns);
    else /* Lowered only by who raised it: another process of the container may have more work. */
        __atomic_compare_exchange_n(&around->bucket->busy_until_ns, &before_ns, busy_until_ns, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    if (!around->page) return;
    if (busy_until_ns <= now_ns) store(&around->page->in_flight_since_ns, 0);
    else if (load(&around->page->in_flight_since_ns) == 0) store(&around->page->in_flight_since_ns, now_ns);
    store(&around->page->busy_until_ns, load(&around->bucket->busy_until_ns));
    store(&around->page->running_estimate_ns, 0);
    store(&around->page->busy_ns, load(&around->bucket->busy_ns) + load(&gate->running_ns));
    store(&around->page->running_since_ns, load(&gate->running_since_ns));
    if (busy_until_ns > now_ns) store(&around->page->running_estimate_ns, load(&gate->ahead_ns));
    __atomic_store_n(&around->page->tokens_ns, __atomic_load_n(&around->bucket->tokens_ns, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
    store(&around->page->tokens_at_ns, now_ns);
    store(&around->page->heartbeat_ns, now_ns);
}

void surroundings_waited(struct gate *gate, const struct surroundings *around, enum throttle_reason reason,
                         uint64_t from_ns, uint64_t to_ns) {
    uint64_t waited_ns = to_ns - from_ns;
    add(&around->bucket->waited_ns, waited_ns);
    if (reason == THROTTLE_WAIT_PRIORITY) throttle_high_honoured(around->bucket, from_ns, to_ns);
    counted_waited(gate, reason, waited_ns);
}
