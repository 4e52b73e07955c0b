/* The hook of one process as the simulation has it: the gate, what it tells the others, and its batches, a launch each. */
#include "throttle_world.h"
#include "turns.h"

#include <string.h>

#define LAUNCH_NS 2000u
#define WOKEN_NS 5000u            /* from the end of a kernel to the thread that waits for it */
#define PAGE_MARGIN_NS 100000u
#define LOOK_AGE_NS 40000u
#define LOOK_AGE_NS_EACH 10000u
#define BLOCKED_NS (100 * THROTTLE_MS)
#define DRIVER_LAUNCHES 200u      /* more in flight and the driver itself waits */
#define OVERDUE_NS_MAX (10000 * THROTTLE_MS)

static uint64_t least(uint64_t one, uint64_t other) { return one < other ? one : other; }
static uint64_t most(uint64_t one, uint64_t other) { return one > other ? one : other; }

static struct container *home_of(struct world *world, const struct process *one) {
    return &world->containers[one->container];
}

static void look(struct world *world, struct process *one, bool fresh) {
    uint64_t now_ns = world->card.now_ns;
    uint64_t age_ns = LOOK_AGE_NS + LOOK_AGE_NS_EACH * (uint64_t)world->count;
    if (!fresh && one->looked_ns && now_ns - one->looked_ns <= age_ns) return;
    one->looked_ns = now_ns;
    one->peer_count = 0;
    for (int each = 0; each < world->count; each++) {
        const struct container *other = &world->containers[each];
        if (each == one->container) continue;
        struct egpu_member member = {1, other->limits.core_quota, other->limits.policy, other->limits.priority, 0, 0, 0, 0, {0}};
        struct throttle_peer *peer = &one->peers[one->peer_count++];
        uint64_t words[BELIEVED_WORD_COUNT];
        world_page(world, each, words);
        one->believed[each].charged.grown_ns = 0;
        *peer = believed_peer(&one->believed[each], words, &member, now_ns);
        peer->index = (uint32_t)each;
        one->peers_busy_ns += one->believed[each].charged.grown_ns;
    }
}

static uint64_t others_busy_ns(struct world *world, const struct process *one) {
    return home_of(world, one)->bucket.busy_ns - one->busy_ns + one->peers_busy_ns;
}

static bool others_active(struct world *world, const struct process *one, uint64_t since_ns) {
    for (int each = 0; each < one->peer_count; each++)
        if (one->peers[each].unseen_until_ns > since_ns) return true;
    uint64_t busy_until_ns = home_of(world, one)->bucket.busy_until_ns;
    return busy_until_ns > since_ns && busy_until_ns != one->busy_until_ns;
}

static void charge(struct world *world, struct process *one, int64_t cost_ns, bool borrowed) {
    struct container *home = home_of(world, one);
    throttle_charge(&home->bucket, cost_ns, borrowed);
    if (cost_ns > 0 && !borrowed) home->paid_ns += (uint64_t)cost_ns;
}

static uint64_t work_left_ns(const struct process *one, uint64_t now_ns) {
    if (one->first == one->last) return 0;
    uint64_t head_ns = one->batches[one->first % CARD_QUEUE_MAX].learned_ns;
    uint64_t behind_ns = one->ahead_ns - head_ns;
    return least(most(one->work_end_ns > now_ns ? one->work_end_ns - now_ns : 0, behind_ns), one->ahead_ns);
}

static void tell(struct world *world, struct process *one, uint64_t busy_until_ns) {
    struct container *home = home_of(world, one);
    uint64_t now_ns = world->card.now_ns, before_ns = one->busy_until_ns;
    busy_until_ns = least(busy_until_ns, now_ns + BELIEVED_BUSY_NS_MAX);
    if (believed_moment(home->bucket.busy_until_ns, now_ns, BELIEVED_BUSY_NS_MAX) == 0) home->bucket.busy_until_ns = 0;
    one->busy_until_ns = busy_until_ns;
    if (busy_until_ns >= before_ns) home->bucket.busy_until_ns = most(home->bucket.busy_until_ns, busy_until_ns);
    else if (home->bucket.busy_until_ns == before_ns) home->bucket.busy_until_ns = busy_until_ns;
    if (busy_until_ns <= now_ns) home->page.in_flight_since_ns = 0;
    else if (home->page.in_flight_since_ns == 0) home->page.in_flight_since_ns = now_ns;
    home->page.busy_until_ns = home->bucket.busy_until_ns;
    home->page.busy_ns = home->bucket.busy_ns;
    home->page.tokens_ns = home->bucket.tokens_ns;
    home->page.tokens_at_ns = now_ns;
}

/* When to look again although nothing else happens: as soon as the running work should be done. */
static uint64_t publish(struct world *world, struct process *one, uint64_t wake_ns) {
    uint64_t now_ns = world->card.now_ns;
    if (one->first == one->last) {
        tell(world, one, least(one->busy_until_ns, least(one->work_end_ns, now_ns)));
        return wake_ns;
    }
    uint64_t head_ns = one->batches[one->first % CARD_QUEUE_MAX].learned_ns;
    wake_ns = least(wake_ns, now_ns + most(most(work_left_ns(one, now_ns), head_ns / 16), THROTTLE_POLL_NS));
    tell(world, one, wake_ns + PAGE_MARGIN_NS);
    return wake_ns;
}

static void end_probe(struct world *world, struct process *one, bool clean) {
    if (!one->probing) return;
    one->probing = false;
    turns_probe_end(&home_of(world, one)->bucket, one->probe_until_ns);
    home_of(world, one)->page.probe_until_ns = 0;
    one->probe_period_ns = throttle_probe_period(one->probe_period_ns, clean);
}

static void begin_overdue(struct world *world, struct process *one) {
    if (one->overdue_ns > 0) charge(world, one, -(int64_t)one->overdue_ns, one->overdue_borrowed);
    one->overdue_ns = 0;
    one->overdue_since_ns = world->card.now_ns;
    one->overdue_others_ns = others_busy_ns(world, one);
    one->late = 0;
}

static void charge_overdue(struct world *world, struct process *one) {
    uint64_t age_ns = world->card.now_ns - one->overdue_since_ns;
    uint64_t others_ns = others_busy_ns(world, one) - one->overdue_others_ns;
    uint64_t ours_ns = one->unknown > 0 && age_ns > others_ns ? age_ns - others_ns : 0;
    uint64_t charged_ns = one->ahead_ns + one->overdue_ns;
    uint64_t more_ns = ours_ns > charged_ns ? ours_ns - charged_ns : 0;
    more_ns = least(more_ns, OVERDUE_NS_MAX - one->overdue_ns);
    if (one->overdue_ns == 0) one->overdue_borrowed = one->borrowed;
    if (more_ns == 0) return;
    more_ns = throttle_guess(&home_of(world, one)->bucket, more_ns, one->overdue_borrowed);
    one->overdue_ns += more_ns;
    if (!one->overdue_borrowed) home_of(world, one)->paid_ns += more_ns;
}

static void learn(struct world *world, struct process *one, const struct batch *batch, const struct throttle_span *span,
                  uint64_t cost_ns) {
    struct cost_entry *entry = &one->kinds[batch->kind].cost;
    if (batch->epoch != one->epoch) return; /* a kernel of that name is not launched any more */
    if (one->ledger.surprised) costs_surprise(entry, cost_ns);
    if (one->ledger.doubtful) costs_doubt(entry);
    costs_learn(entry, span->elapsed_ns, !span->contended, world->card.now_ns);
}

static void finish(struct world *world, struct process *one, const struct card_operation *operation) {
    struct container *home = home_of(world, one);
    struct batch *batch = &one->batches[one->first % CARD_QUEUE_MAX];
    const struct cost_entry *entry = &one->kinds[batch->kind].cost;
    uint64_t now_ns = world->card.now_ns, begin_ns = most(operation->submitted_ns, one->stream_end_ns);
    look(world, one, true);
    uint64_t busy_ns = others_busy_ns(world, one), unknown = batch->learned_ns == 0;
    struct throttle_span span = {.elapsed_ns = operation->ended_ns - begin_ns, .learned_ns = batch->learned_ns};
    span.longest_ns = costs_remembered(entry, span.learned_ns);
    span.contended = batch->contended || busy_ns != batch->others_busy_ns || others_active(world, one, operation->submitted_ns);
    span.peers_busy_ns = busy_ns - (unknown ? batch->others_busy_ns : one->others_busy_ns);
    span.peers_parts = throttle_entitled_parts(&home->limits, one->peers, one->peer_count, now_ns - least(span.elapsed_ns, now_ns));
    one->others_busy_ns = busy_ns;
    uint64_t cost_ns = throttle_attribute(&one->ledger, &span);
    learn(world, one, batch, &span, cost_ns);
    one->stream_end_ns = operation->ended_ns;
    one->ahead_ns -= batch->learned_ns;
    one->unknown -= (uint32_t)unknown;
    one->first++;
    begin_overdue(world, one);
    if (unknown) one->unknown_since_ns = 0;
    uint64_t head_ns = one->first == one->last ? 0 : one->batches[one->first % CARD_QUEUE_MAX].learned_ns;
    uint64_t expected_ns = one->work_end_ns;
    one->work_end_ns = least(most(expected_ns, now_ns + one->ahead_ns - head_ns), now_ns + one->ahead_ns);
    uint64_t early_ns = expected_ns - least(expected_ns, one->work_end_ns) + unknown * THROTTLE_UNKNOWN_NS;
    throttle_release(&home->bucket, early_ns, now_ns);
    one->busy_ns += cost_ns;
    home->bucket.busy_ns += cost_ns;
    charge(world, one, (int64_t)cost_ns - (int64_t)batch->learned_ns, batch->borrowed);
    if (batch->probe) end_probe(world, one, !span.contended);
    if (one->first == one->last && home->limits.priority == THROTTLE_HIGH) home->page.hold_until_ns = now_ns + THROTTLE_HOLD_NS;
    publish(world, one, NEVER - PAGE_MARGIN_NS);
}

static bool reap(struct world *world, struct process *one, int self) {
    const struct card_operation *operation;
    bool any = false;
    for (; (operation = card_finished(&world->card, self)); any = true) {
        finish(world, one, operation);
        card_reap(&world->card, self);
    }
    return any;
}

static uint64_t served_ns(const struct process *one) { return one->busy_ns + one->ahead_ns + one->overdue_ns; }

static struct throttle_ask ask_now(struct world *world, const struct process *one) {
    uint64_t now_ns = world->card.now_ns;
    const struct cost_entry *entry = &one->kinds[one->next_kind].cost;
    struct throttle_ask ask = {.now_ns = now_ns, .since_ns = one->asked_ns, .index = (uint32_t)one->container};
    ask.ahead_ns = costs_remembered(entry, work_left_ns(one, now_ns));
    ask.ahead_launches = one->last - one->first;
    ask.head_ns = one->first == one->last ? 0 : one->batches[one->first % CARD_QUEUE_MAX].learned_ns;
    ask.ahead_unknown = one->unknown > 0;
    ask.overdue_ns = one->overdue_ns;
    ask.patience_ns = one->unknown == 0 ? THROTTLE_WAIT_NS_MAX
                                        : least(THROTTLE_WAIT_NS_MAX << least(2 * one->late, 8), THROTTLE_OWN_NS_MAX);
    ask.probing = one->probing;
    ask.busy_until_ns = one->busy_until_ns;
    ask.process = (uint32_t)(one - world->processes) + 1;
    ask.unknown = entry->cost_ns == 0;
    ask.served_ns = one->behind_ns + served_ns(one);
    ask.floods = throttle_floods(one->peers, one->peer_count, now_ns);
    return ask;
}

static void submit(struct world *world, int self, const struct throttle_decision *decision) {
    struct process *one = &world->processes[self];
    struct container *home = home_of(world, one);
    uint64_t now_ns = world->card.now_ns, learned_ns = one->kinds[one->next_kind].cost.cost_ns;
    uint64_t kernel_ns = kernel_of(one, one->next_kind);
    if (world->varying) kernel_ns += kernel_ns * draw(world, world->varying) / 100;
    if (one->first == one->last) begin_overdue(world, one);
    one->late += decision->late;
    one->borrowed = decision->borrowed;
    one->batches[one->last++ % CARD_QUEUE_MAX] =
        (struct batch){learned_ns, kernel_ns, others_busy_ns(world, one), one->next_kind, one->epoch, decision->borrowed,
                       others_active(world, one, now_ns), one->probing};
    if (learned_ns == 0) {
        one->unknown_since_ns = now_ns;
        one->unknown_others_ns = home->bucket.busy_ns - home->bucket.departed_busy_ns;
    }
    one->unknown += learned_ns == 0;
    one->ahead_ns += learned_ns;
    one->work_end_ns = most(one->work_end_ns, now_ns) + learned_ns;
    charge(world, one, (int64_t)learned_ns, decision->borrowed);
    tell(world, one, most(one->busy_until_ns, now_ns + work_left_ns(one, now_ns) + PAGE_MARGIN_NS));
    home->page.wanting_until_ns = 0;
    card_submit(&world->card, self, kernel_ns);
    one->next_kind = (int)draw(world, (uint64_t)one->kind_count);
    one->asked_ns = 0;
    one->wake_ns = now_ns + LAUNCH_NS;
}

/* A kernel never or long ago measured alone is worth a probe only where somebody else disturbs. */
static bool probe_begins(struct world *world, struct process *one) {
    uint64_t now_ns = world->card.now_ns;
    if (one->probing || !costs_stale(&one->kinds[one->next_kind].cost, now_ns)) return false;
    if (!others_active(world, one, now_ns)) return false;
    if (one->probe_started_ns && now_ns < one->probe_started_ns + one->probe_period_ns) return false;
    uint64_t until_ns = now_ns + THROTTLE_PROBE_NS_MAX - 1;
    if (!turns_probe_begin(&home_of(world, one)->bucket, until_ns, now_ns)) return false;
    one->probing = true;
    one->probe_started_ns = now_ns;
    one->probe_until_ns = until_ns;
    home_of(world, one)->page.probe_until_ns = until_ns;
    return true;
}

static void wait_in_gate(struct world *world, int self, const struct throttle_decision *decision, const struct throttle_ask *ask) {
    struct process *one = &world->processes[self];
    struct container *home = home_of(world, one);
    rules_wait(world, self, decision, ask);
    home->page.wanting_until_ns = decision->until_ns + PAGE_MARGIN_NS;
    charge_overdue(world, one);
    one->wake_ns = publish(world, one, decision->until_ns);
    if (decision->reason == THROTTLE_WAIT_PROBE && !ask->probing)
        throttle_probe_honoured(&home->bucket, one->wake_ns - ask->now_ns);
    if (decision->reason == THROTTLE_WAIT_PRIORITY) throttle_high_honoured(&home->bucket, ask->now_ns, one->wake_ns);
}

static void ask_gate(struct world *world, int self) {
    struct process *one = &world->processes[self];
    struct container *home = home_of(world, one);
    look(world, one, false);
    struct throttle_ask ask = ask_now(world, one);
    struct throttle_decision decision = throttle_decide(&home->bucket, &home->limits, &ask, one->peers, one->peer_count);
    if (decision.reason == THROTTLE_PASS && probe_begins(world, one)) {
        ask.probing = true;
        decision = throttle_decide(&home->bucket, &home->limits, &ask, one->peers, one->peer_count);
    }
    if (decision.reason != THROTTLE_PASS && one->probing && ask.now_ns > one->probe_started_ns + THROTTLE_DRAIN_NS_MAX) {
        end_probe(world, one, false);
        ask.probing = false;
        decision = throttle_decide(&home->bucket, &home->limits, &ask, one->peers, one->peer_count);
    }
    if (decision.reason != THROTTLE_PASS) {
        wait_in_gate(world, self, &decision, &ask);
    } else if (!throttle_reserve(&home->bucket, &home->limits, &ask, one->kinds[one->next_kind].cost.cost_ns, decision.late)) {
        broken(world, "what may pass cannot be reserved", one->container, 0);
        one->wake_ns = ask.now_ns + LAUNCH_NS;
    } else {
        rules_pass(world, self, &decision);
        submit(world, self, &decision);
    }
}

/* The moment until which the program has nothing to submit; 0: it has something now. */
static uint64_t pauses_until_ns(struct world *world, const struct process *one) {
    uint64_t now_ns = world->card.now_ns, round_ns = one->phase_ns + one->rest_ns;
    if (one->rest_ns && (now_ns - one->born_ns) % round_ns >= one->phase_ns)
        return now_ns - (now_ns - one->born_ns) % round_ns + round_ns;
    if (one->gap_ns && one->launches > 0 && now_ns < one->stream_end_ns + one->gap_ns) return one->stream_end_ns + one->gap_ns;
    return 0;
}

void shell_step(struct world *world, int self) {
    struct process *one = &world->processes[self];
    reap(world, one, self);
    one->blocked = (one->gap_ns && one->first != one->last) || one->last - one->first >= DRIVER_LAUNCHES;
    if (one->blocked) { /* the thread waits for its kernel and says so beforehand */
        tell(world, one, world->card.now_ns + BLOCKED_NS);
        one->wake_ns = NEVER;
        return;
    }
    uint64_t until_ns = one->asked_ns ? 0 : pauses_until_ns(world, one);
    if (until_ns) {
        one->wake_ns = publish(world, one, until_ns);
        return;
    }
    if (!one->asked_ns) {
        one->asked_ns = world->card.now_ns;
        one->behind_ns = most(one->behind_ns, turns_behind_ns(&home_of(world, one)->bucket, served_ns(one)));
    }
    ask_gate(world, self);
}

void shell_reap_dead(struct world *world, int self) {
    struct process *one = &world->processes[self];
    struct container *home = home_of(world, one);
    uint64_t others_ns = home->bucket.busy_ns - home->bucket.departed_busy_ns - one->unknown_others_ns;
    if (one->unknown_since_ns)
        home->paid_ns += throttle_depart(&home->bucket, one->unknown_since_ns, others_ns, world->card.now_ns);
    memset(one, 0, sizeof *one);
    one->wake_ns = NEVER;
}
