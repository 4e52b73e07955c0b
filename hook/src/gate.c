#include "gate.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batches.h"
#include "clock.h"
#include "counted.h"
#include "neighbours.h"
#include "overdue.h"
#include "oversubscription.h"
#include "probes.h"
#include "turns.h"
#include "unknowns.h"
#include "used.h"
#include "waiting.h"

#define GAP_NS 10000ull           /* from the call to the card on an empty stream: a real launch takes 3 to 8 us */
#define REAP_NS 50000ull
#define WAY_PARTS 8
#define UNKNOWN_NS_MAX THROTTLE_MS
#define ROW_NS_LOW 50000ull       /* of the millisecond that high may have to wait */

static struct gate *gates[EGPU_CARD_COUNT_MAX];
static pthread_once_t watching = PTHREAD_ONCE_INIT;

/* The process ends and does not wait for its work. What the card did of it is not looked for in the driver, which may be
 * gone already. */
static void tell_of_the_rest(void) {
    for (int card = 0; card < (int)EGPU_CARD_COUNT_MAX; card++) {
        struct gate *gate = __atomic_load_n(&gates[card], __ATOMIC_ACQUIRE);
        struct egpu_slot_card *slot = gate ? region_slot_card(card) : NULL;
        if (!slot || __atomic_load_n(&gate->launches, __ATOMIC_RELAXED) == 0 || load(&slot->unmeasured_since_ns)) continue;
        add(&slot->busy_ns, used_since(gate, clock_now_ns()));
    }
}

static void watch(void) {
    pthread_atfork(NULL, NULL, batches_after_fork);
    atexit(tell_of_the_rest);
}

static void begin_gate(struct gate *gate, int card) {
    gate->card = card;
    gate->process = (uint32_t)getpid();
    pthread_mutex_init(&gate->lock, NULL);
}

static struct gate *make_gate(int card) {
    pthread_once(&watching, watch);
    struct gate *gate = calloc(1, sizeof *gate), *nobody = NULL;
    if (!gate) return NULL;
    begin_gate(gate, card);
    if (__atomic_compare_exchange_n(&gates[card], &nobody, gate, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return gate;
    free(gate);
    return nobody;
}

struct gate *gate_of_card(int card) {
    if (card < 0 || card >= (int)EGPU_CARD_COUNT_MAX) return NULL;
    if (!region_limits(card)) return NULL;
    struct gate *gate = __atomic_load_n(&gates[card], __ATOMIC_ACQUIRE);
    return gate ? gate : make_gate(card);
}

struct neighbours_busy gate_others(struct gate *gate, uint64_t since_ns, bool *active) {
    struct surroundings around;
    surroundings_look(gate, &around);
    *active = surroundings_active(gate, &around, since_ns);
    uint64_t siblings_ns = load(&around.bucket->busy_ns) - load(&gate->busy_ns);
    return (struct neighbours_busy){siblings_ns + around.peers_busy.charged_ns, siblings_ns + around.peers_busy.worked_ns};
}

static struct throttle_ask ask_now(struct gate *gate, struct gate_pass *pass, uint64_t now_ns) {
    struct throttle_ask ask = {.now_ns = now_ns};
    ask.probing = pass->probe || probe_runs(gate);
    pthread_mutex_lock(&gate->lock);
    struct cost_entry *entry = costs_find(&gate->costs, pass->key);
    pass->learned_ns = entry->cost_ns;
    pass->clean_wanted = costs_stale(entry, now_ns);
    pass->unconfirmed = entry->samples == 0;
    ask.ahead_ns = costs_remembered(entry, waiting_work_left_ns(gate, now_ns));
    ask.busy_until_ns = load(&gate->busy_until_ns);
    ask.process = gate->process;
    ask.unknown = entry->cost_ns == 0;
    ask.served_ns = load(&gate->busy_ns) + gate->ahead_ns + gate->overdue_ns;
    ask.ahead_launches = gate->launches;
    ask.head_ns = gate->head_ns;
    ask.ahead_unknown = gate->unknown > 0;
    ask.overdue_ns = gate->overdue_ns;
    ask.patience_ns = overdue_patience_ns(gate, pass->behind);
    pthread_mutex_unlock(&gate->lock);
    return ask;
}

static void take(struct gate *gate, const struct surroundings *around, struct gate_pass *pass,
                 const struct throttle_decision *decision) {
    pthread_mutex_lock(&gate->lock);
    struct cost_entry *entry = costs_find(&gate->costs, pass->key);
    pass->learned_ns = entry->cost_ns;
    /* Alone each batch is measured; beside others a long time that is not seen again may only be hidden. */
    bool beside = surroundings_active(gate, around, pass->now_ns);
    pass->longest_ns = beside ? costs_remembered(entry, entry->cost_ns) : costs_longest(entry, entry->cost_ns);
    pass->clean_wanted = costs_due(entry, pass->now_ns) || pass->probe;
    if (gate->launches == 0) {
        store(&gate->head_ns, pass->learned_ns);
        overdue_begin(gate, around, pass->now_ns);
        store(&gate->running_since_ns, pass->now_ns);
    }
    gate->late += decision->late;
    gate->borrowed = pass->borrowed;
    __atomic_store_n(&gate->launches, gate->launches + 1, __ATOMIC_RELAXED); /* Looked at without the lock. */
    store(&gate->ahead_ns, gate->ahead_ns + pass->learned_ns);
    __atomic_store_n(&gate->unknown, gate->unknown + (pass->learned_ns == 0), __ATOMIC_RELAXED);
    if (gate->unknown == 1 && pass->learned_ns == 0) unknowns_changed(gate, around, pass->now_ns);
    if (pass->learned_ns == 0) store(&gate->unknown_since_ns, pass->now_ns);
    gate->work_end_ns = most(gate->work_end_ns, pass->now_ns) + pass->learned_ns;
    uint64_t left_ns = waiting_work_left_ns(gate, pass->now_ns);
    pthread_mutex_unlock(&gate->lock);
    throttle_charge(around->bucket, (int64_t)pass->learned_ns, pass->borrowed);
    add(&gate->granted_ns, pass->learned_ns);
    surroundings_tell(gate, around, pass->now_ns, most(load(&gate->busy_until_ns), pass->now_ns + left_ns + PAGE_MARGIN_NS));
    if (around->page) store(&around->page->wanting_until_ns, 0);
    if (decision->late) add(&around->bucket->passed_late, 1);
    counted_pass(gate, pass->now_ns, decision->late);
}

static void reap_when_due(struct gate *gate, uint64_t now_ns) {
    if (__atomic_load_n(&gate->launches, __ATOMIC_RELAXED) == 0 || now_ns < load(&gate->reap_at_ns)) return;
    store(&gate->reap_at_ns, now_ns + least(most(load(&gate->head_ns) / 4, REAP_NS), THROTTLE_MS));
    batches_reap(gate, false);
}

static bool is_free(const struct gate *gate) {
    const struct egpu_card_limits *all = region_limits(gate->card);
    if (!all || all->oversubscription) return false;
    struct throttle_limits limits = surroundings_limits(all);
    return limits.priority == THROTTLE_HIGH && !throttle_limited(&limits);
}

/* A launch now would spoil a measurement: of a kernel that was never seen before, behind which a thousand would be unknown
 * as well, or of one in another stream that is measured alone. Nothing else holds a free container up. */
static bool spoils(const struct gate *gate, uint32_t own, uint64_t now_ns) {
    bool unknown = __atomic_load_n(&gate->unknown, __ATOMIC_RELAXED) > 0;
    return (unknown && now_ns < load(&gate->unknown_since_ns) + UNKNOWN_NS_MAX) ||
           (probe_runs(gate) && __atomic_load_n(&gate->launches, __ATOMIC_RELAXED) > own);
}

static void let_measured_end(struct gate *gate, uint32_t own, uint64_t now_ns) {
    uint64_t until_ns = now_ns + UNKNOWN_NS_MAX;
    probe_expire(gate, now_ns);
    while (now_ns < until_ns && spoils(gate, own, now_ns)) {
        if (!batches_reap(gate, probe_runs(gate))) clock_sleep_until(now_ns + THROTTLE_POLL_NS_MIN);
        now_ns = clock_now_ns();
    }
}

void gate_enter(struct gate *gate, uint64_t key, uint32_t own, struct gate_pass *pass) {
    struct surroundings around;
    struct throttle_decision decision;
    uint64_t since_ns = clock_now_ns();
    *pass = (struct gate_pass){.key = key, .free = is_free(gate)};
    reap_when_due(gate, since_ns);
    if (pass->free) let_measured_end(gate, own, since_ns);
    pass->behind = own >= __atomic_load_n(&gate->launches, __ATOMIC_RELAXED);
    for (bool first = true;; first = false) {
        uint32_t begun = lookout_begin(&gate->lookout);
        pass->now_ns = clock_now_ns();
        struct throttle_ask ask = ask_now(gate, pass, pass->now_ns);
        surroundings_look_at(gate, &around, pass->now_ns);
        if (first) raise_to(&gate->behind_ns, turns_behind_ns(around.bucket, ask.served_ns));
        ask.served_ns += load(&gate->behind_ns);
        ask.since_ns = since_ns;
        ask.index = around.index;
        ask.floods = throttle_floods(around.peers, around.count, pass->now_ns);
        decision = throttle_decide(around.bucket, &around.limits, &ask, around.peers, around.count);
        if (decision.reason == THROTTLE_PASS) unknowns_hold(gate, &around, pass, &ask, &decision);
        if (decision.reason == THROTTLE_PASS && !pass->probe && probe_begins(gate, &around, pass, pass->now_ns)) {
            pass->probe = true;
            continue;
        }
        if (decision.reason == THROTTLE_PASS) {
            if (!unknowns_take_turn(gate, &around, pass, &ask, &decision)) continue;
            if (!throttle_reserve(around.bucket, &around.limits, &ask, pass->learned_ns, decision.late)) continue;
            pass->probe = ask.probing;
            break;
        }
        if (ask.probing && pass->now_ns > load(&gate->probe_started_ns) + THROTTLE_DRAIN_NS_MAX) {
            pass->probe = false;
            probe_end(gate, &around, false);
            continue;
        }
        waiting_wait(gate, &around, &decision, &ask, begun, first);
    }
    pass->borrowed = decision.borrowed;
    take(gate, &around, pass, &decision);
}

static void remove_ahead(struct gate *gate, uint64_t learned_ns, uint32_t launches, uint32_t unknown) {
    store(&gate->ahead_ns, gate->ahead_ns - least(gate->ahead_ns, learned_ns));
    __atomic_store_n(&gate->launches, launches < gate->launches ? gate->launches - launches : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&gate->unknown, unknown < gate->unknown ? gate->unknown - unknown : 0, __ATOMIC_RELAXED);
}

/* A row holds high priority up by as much as it is long; and it hides from others that more is submitted. */
uint64_t gate_row_ns(struct gate *gate, const struct gate_pass *pass) {
    const struct egpu_card_limits *limits = region_limits(gate->card);
    if (!limits || limits->oversubscription || probe_runs(gate)) return 0;
    if (pass->learned_ns == 0 || pass->clean_wanted) return 0;
    if (pass->longest_ns / COSTS_OUTDATED > pass->learned_ns) return 0;
    return limits->priority == THROTTLE_LOW ? ROW_NS_LOW : BATCH_NS;
}

void gate_grant(struct gate *gate, const struct gate_pass *pass, uint64_t cost_ns) {
    struct surroundings around;
    surroundings_look(gate, &around);
    pthread_mutex_lock(&gate->lock);
    store(&gate->ahead_ns, gate->ahead_ns + cost_ns);
    gate->work_end_ns += cost_ns;
    pthread_mutex_unlock(&gate->lock);
    throttle_charge(around.bucket, (int64_t)cost_ns, pass->borrowed);
    add(&gate->granted_ns, cost_ns);
    throttle_extend(around.bucket, &around.limits, cost_ns, pass->now_ns);
    surroundings_tell(gate, &around, pass->now_ns, load(&gate->busy_until_ns) + cost_ns);
}

void gate_return(struct gate *gate, uint64_t unused_ns, uint32_t launches, bool borrowed) {
    struct egpu_card_usage *usage = region_card_usage(gate->card);
    pthread_mutex_lock(&gate->lock);
    remove_ahead(gate, unused_ns, 0, 0);
    __atomic_store_n(&gate->launches, gate->launches + launches, __ATOMIC_RELAXED);
    gate->work_end_ns -= least(gate->work_end_ns, unused_ns);
    pthread_mutex_unlock(&gate->lock);
    if (usage) throttle_charge((struct throttle_bucket *)usage->bucket, -(int64_t)unused_ns, borrowed);
    if (usage) throttle_release((struct throttle_bucket *)usage->bucket, unused_ns, clock_now_ns());
    counted_launches(gate, launches);
}

void gate_undo(struct gate *gate, const struct gate_pass *pass) {
    struct surroundings around;
    surroundings_look(gate, &around);
    throttle_charge(around.bucket, -(int64_t)pass->learned_ns, pass->borrowed);
    throttle_release(around.bucket, pass->learned_ns, pass->now_ns);
    pthread_mutex_lock(&gate->lock);
    remove_ahead(gate, pass->learned_ns, 1, pass->learned_ns == 0);
    if (gate->unknown == 0) unknowns_changed(gate, &around, 0);
    pthread_mutex_unlock(&gate->lock);
    if (pass->probe) probe_end(gate, &around, false);
}

/* With the lock held: what a batch of others beside us is judged by. */
static void describe(struct gate *gate, const struct gate_batch *batch, const struct surroundings *around,
                     struct throttle_span *span, uint64_t now_ns) {
    span->learned_ns = batch->unknown ? 0 : batch->learned_ns;
    span->longest_ns = span->learned_ns;
    span->peers_parts = throttle_entitled_parts(&around->limits, around->peers, around->count,
                                                now_ns - least(span->elapsed_ns, now_ns));
    const struct cost_entry *entry = batch->key ? costs_find(&gate->costs, batch->key) : NULL;
    if (entry) span->longest_ns = costs_remembered(entry, span->learned_ns);
    /* Beside others the shortest is the least wrong, also of launches that passed before it was seen. */
    span->unconfirmed = batch->unknown || (entry && entry->samples == 0);
    if (entry && span->unconfirmed && entry->cost_ns > 0)
        span->learned_ns = least(span->learned_ns ? span->learned_ns : UINT64_MAX, batch->launches * entry->cost_ns);
    if (batch->chained) span->peers_meanwhile_ns += gate->surplus_ns;
    gate->surplus_ns = span->peers_meanwhile_ns - least(span->peers_meanwhile_ns, span->elapsed_ns);
}

static void learn(struct gate *gate, const struct gate_batch *batch, uint64_t cost_ns, uint64_t now_ns) {
    if (batch->key == 0 || batch->launches == 0) return;
    struct cost_entry *entry = costs_find(&gate->costs, batch->key);
    if (gate->ledger.surprised) costs_surprise(entry, cost_ns / batch->launches);
    if (gate->ledger.doubtful) costs_doubt(entry);
    bool clean = !batch->span.contended;
    if (batch->unclear && (clean || !batch->bounded)) return;
    uint64_t ours_ns = batch->span.elapsed_ns;
    uint64_t each_ns = ours_ns / batch->launches;
    /* The first launch on an empty stream pays the way to the card: that is little reason to think the kernel slower. */
    bool on_its_way = batch->idle_start && batch->span.elapsed_ns <= entry->cost_ns * batch->launches + GAP_NS;
    if (on_its_way && entry->clean_ns && each_ns > entry->cost_ns)
        each_ns = entry->cost_ns + (each_ns - entry->cost_ns) / WAY_PARTS;
    costs_learn(entry, each_ns, clean, now_ns);
}

uint64_t gate_finish(struct gate *gate, const struct gate_batch *batch, uint64_t next_learned_ns) {
    struct surroundings around;
    struct throttle_span span = batch->span;
    uint64_t now_ns = clock_now_ns();
    surroundings_look(gate, &around);
    pthread_mutex_lock(&gate->lock);
    describe(gate, batch, &around, &span, now_ns);
    uint64_t cost_ns = throttle_attribute(&gate->ledger, &span);
    learn(gate, batch, cost_ns, now_ns);
    if (batch->idle_start && span.learned_ns && cost_ns > span.learned_ns && cost_ns <= span.learned_ns + GAP_NS)
        cost_ns = span.learned_ns;
    uint64_t told_ns = used_ns(gate, &around, batch, &span, cost_ns, now_ns);
    remove_ahead(gate, batch->learned_ns, batch->launches, batch->unknown);
    if (batch->unknown) unknowns_changed(gate, &around, now_ns);
    overdue_begin(gate, &around, now_ns);
    /* Who waits in the gate looks often; what others run since then is not to be told as ours. */
    uint64_t ended_ns = throttle_limited(&around.limits) ? now_ns : batch->ended_ns;
    store(&gate->running_since_ns, most(gate->running_since_ns, ended_ns));
    used_pace(gate, told_ns, span.elapsed_ns);
    store(&gate->head_ns, least(next_learned_ns, gate->ahead_ns));
    uint64_t behind_ns = gate->ahead_ns - gate->head_ns, expected_ns = gate->work_end_ns;
    gate->work_end_ns = least(most(gate->work_end_ns, now_ns + behind_ns), now_ns + gate->ahead_ns);
    uint64_t early_ns = expected_ns - least(expected_ns, gate->work_end_ns) + batch->unknown * THROTTLE_UNKNOWN_NS;
    throttle_release(around.bucket, early_ns, now_ns);
    bool idle = gate->launches == 0, goes_on = !batch->probe || probe_goes_on(gate, batch, is_free(gate), now_ns);
    pthread_mutex_unlock(&gate->lock);
    add(&gate->busy_ns, told_ns);
    add(&around.bucket->busy_ns, told_ns);
    throttle_charge(around.bucket, (int64_t)cost_ns - (int64_t)batch->learned_ns, batch->borrowed);
    counted_busy(gate, told_ns, now_ns);
    oversubscription_measured(gate->card, span.elapsed_ns, span.learned_ns, span.peers_busy_ns);
    if (!goes_on) probe_end(gate, &around, !span.contended);
    if (idle && around.page && around.limits.priority == THROTTLE_HIGH)
        store(&around.page->hold_until_ns, now_ns + THROTTLE_HOLD_NS);
    waiting_tell(gate, &around, now_ns, WAITING_NOTHING);
    return told_ns;
}

/* The child has no CUDA any more; what its parent has outstanding is the parent's. */
void gate_after_fork(void) {
    for (int card = 0; card < (int)EGPU_CARD_COUNT_MAX; card++) {
        struct gate *gate = gates[card];
        if (!gate) continue;
        memset(gate, 0, sizeof *gate);
        begin_gate(gate, card);
    }
}
