#include "surroundings.h"

static struct throttle_bucket nobodys;

struct throttle_limits surroundings_limits(const struct egpu_card_limits *limits) {
    return (struct throttle_limits){limits->core_quota, limits->core_policy, limits->priority};
}

/* Of two that want to measure alone the one with the lower index goes first, so all must count alike. */
static void number_peers(struct gate *gate, struct surroundings *around) {
    const struct egpu_card *card = region_card(gate->card);
    int each = 0;
    if (!card) return;
    uint32_t count = __atomic_load_n(&card->member_count, __ATOMIC_RELAXED);
    for (uint32_t index = 0; index < count && index < EGPU_MEMBER_COUNT_MAX && each < around->count; index++)
        if (index != around->index && __atomic_load_n(&card->members[index].present, __ATOMIC_RELAXED))
            around->peers[each++].index = index;
}

void surroundings_look(struct gate *gate, struct surroundings *around) {
    const struct egpu_card_limits *limits = region_limits(gate->card);
    const struct egpu_page *pages[EGPU_MEMBER_COUNT_MAX];
    struct egpu_member members[EGPU_MEMBER_COUNT_MAX];
    struct egpu_card_usage *usage = region_card_usage(gate->card);
    /* While the process leaves there may be neither: its last launches pass uncharged. */
    around->bucket = usage ? (struct throttle_bucket *)usage->bucket : &nobodys;
    around->page = region_page(gate->card);
    around->limits = limits ? surroundings_limits(limits) : (struct throttle_limits){0};
    around->index = limits ? limits->card_index : EGPU_INDEX_NONE;
    bool probed = __atomic_load_n(&gate->probing, __ATOMIC_RELAXED);
    around->count = around->page ? region_peers(gate->card, pages, members, EGPU_MEMBER_COUNT_MAX) : 0;
    for (int each = 0; each < around->count; each++) {
        const struct egpu_page *page = pages[each];
        around->peers[each] = (struct throttle_peer){
            .limits = {members[each].core_quota, members[each].core_policy, members[each].priority},
            .wanting_until_ns = load(&page->wanting_until_ns),
            .busy_until_ns = load(&page->busy_until_ns),
            .hold_until_ns = load(&page->hold_until_ns),
            .probe_until_ns = load(&page->probe_until_ns),
            .busy_ns = load(&page->busy_ns),
            .tokens_ns = __atomic_load_n(&page->tokens_ns, __ATOMIC_RELAXED),
            .tokens_at_ns = load(&page->tokens_at_ns),
        };
        probed |= around->peers[each].probe_until_ns != 0;
    }
    if (probed) number_peers(gate, around);
}

bool surroundings_active(struct gate *gate, const struct surroundings *around, uint64_t since_ns) {
    for (int each = 0; each < around->count; each++)
        if (around->peers[each].busy_until_ns > since_ns) return true;
    uint64_t busy_until_ns = load(&around->bucket->busy_until_ns);
    return busy_until_ns > since_ns && busy_until_ns != load(&gate->busy_until_ns);
}

void surroundings_tell(struct gate *gate, const struct surroundings *around, uint64_t now_ns, uint64_t busy_until_ns) {
    uint64_t before_ns = load(&gate->busy_until_ns);
    store(&gate->busy_until_ns, busy_until_ns);
    if (busy_until_ns >= before_ns) raise_to(&around->bucket->busy_until_ns, busy_until_ns);
    else /* Lowered only by who raised it: another process of the container may have more work. */
        __atomic_compare_exchange_n(&around->bucket->busy_until_ns, &before_ns, busy_until_ns, false, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED);
    if (!around->page) return;
    if (busy_until_ns <= now_ns) store(&around->page->in_flight_since_ns, 0);
    else if (load(&around->page->in_flight_since_ns) == 0) store(&around->page->in_flight_since_ns, now_ns);
    store(&around->page->busy_until_ns, load(&around->bucket->busy_until_ns));
    store(&around->page->busy_ns, load(&around->bucket->busy_ns));
    __atomic_store_n(&around->page->tokens_ns, __atomic_load_n(&around->bucket->tokens_ns, __ATOMIC_RELAXED),
                     __ATOMIC_RELAXED);
    store(&around->page->tokens_at_ns, now_ns);
    store(&around->page->heartbeat_ns, now_ns);
}
