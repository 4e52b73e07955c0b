#include "gate.h"

#include <stdlib.h>
#include <string.h>

#include "batches.h"
#include "clock.h"
#include "counted.h"
#include "neighbours.h"
#include "overdue.h"
#include "oversubscription.h"
#include "surroundings.h"
#include "unknowns.h"
#include "waiting.h"

#define GAP_NS 10000ull           /* from the call to the card on an empty stream: a real launch takes 3 to 8 us */
#define PROBE_ALONE_NS 500000ull
#define PROBE_LENGTH_NS 5000000ull /* of one that wants more measurements */
#define PROBE_LATE_NS (20 * THROTTLE_MS) /* of granted work: nobody shall foresee which launches are measured */
#define REAP_NS 50000ull
#define WAY_PARTS 8
#define UNKNOWN_NS_MAX THROTTLE_MS
#define ROW_NS_LOW 50000ull       /* of the millisecond that high may have to wait */

static struct gate *gates[EGPU_CARD_COUNT_MAX];
static pthread_once_t watching_forks = PTHREAD_ONCE_INIT;
static void watch_forks(void) { pthread_atfork(NULL, NULL, batches_after_fork); }

static struct gate *make_gate(int card) {
    pthread_once(&watching_forks, watch_forks);
    struct gate *gate = calloc(1, sizeof *gate), *nobody = NULL;
    if (!gate) return NULL;
    gate->card = card;
    pthread_mutex_init(&gate->lock, NULL);
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

uint64_t gate_others_busy_ns(struct gate *gate) {
    struct surroundings around;
    surroundings_look(gate, &around);
    return load(&around.bucket->busy_ns) - load(&gate->busy_ns) + around.peers_busy_ns;
}

bool gate_others_active(struct gate *gate, uint64_t since_ns) {
    struct surroundings around;
    surroundings_look(gate, &around);
    return surroundings_active(gate, &around, since_ns);
}

static struct throttle_ask ask_now(struct gate *gate, struct gate_pass *pass, uint64_t now_ns) {
    struct throttle_ask ask = {.now_ns = now_ns};
    ask.probing = pass->probe || __atomic_load_n(&gate->probing, __ATOMIC_ACQUIRE);
    pthread_mutex_lock(&gate->lock);
    struct cost_entry *entry = costs_find(&gate->costs, pass->key);
    pass->learned_ns = entry->cost_ns;
    pass->clean_wanted = costs_stale(entry, now_ns);
    ask.ahead_ns = costs_longest(entry, waiting_work_left_ns(gate, now_ns));
    ask.ahead_launches = gate->launches;
    ask.head_ns = gate->head_ns;
    ask.ahead_unknown = gate->unknown > 0;
    ask.overdue_ns = gate->overdue_ns;
    ask.patience_ns = overdue_patience_ns(gate, pass->behind);
    pthread_mutex_unlock(&gate->lock);
    return ask;
}

/* Others would spoil the measurement of a kernel that was never, or long ago, measured alone. */
static bool probe_begins(struct gate *gate, const struct surroundings *around, const struct gate_pass *pass,
                         uint64_t now_ns) {
    uint32_t nobody = 0;
    if (!pass->clean_wanted || !around->page || !surroundings_active(gate, around, now_ns)) return false;
    if (gate->probe_started_ns && now_ns < gate->probe_started_ns + gate->probe_period_ns) return false;
    if (load(&gate->granted_ns) < gate->probe_granted_ns) return false;
    if (!__atomic_compare_exchange_n(&gate->probing, &nobody, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return false;
    gate->probe_started_ns = now_ns;
    store(&gate->probe_measured_ns, 0);
    store(&around->page->probe_until_ns, now_ns + THROTTLE_PROBE_NS_MAX - 1);
    return true;
}

static uint64_t chance(uint64_t now_ns) { return now_ns * 0x9e3779b97f4a7c15ull >> 20; }

static void end_probe(struct gate *gate, const struct surroundings *around, bool clean) {
    if (!__atomic_load_n(&gate->probing, __ATOMIC_ACQUIRE)) return;
    gate->probe_period_ns = throttle_probe_period(gate->probe_period_ns, clean);
    gate->probe_granted_ns = load(&gate->granted_ns) + chance(clock_now_ns()) % PROBE_LATE_NS;
    if (clean) gate->ledger.missing = false;
    if (around->page) store(&around->page->probe_until_ns, 0);
    __atomic_store_n(&gate->probing, 0, __ATOMIC_RELEASE);
}

static void take(struct gate *gate, const struct surroundings *around, struct gate_pass *pass,
                 const struct throttle_decision *decision) {
    pthread_mutex_lock(&gate->lock);
    struct cost_entry *entry = costs_find(&gate->costs, pass->key);
    pass->learned_ns = entry->cost_ns;
    pass->longest_ns = costs_longest(entry, entry->cost_ns);
    pass->clean_wanted = costs_due(entry, pass->now_ns) || pass->probe;
    if (gate->launches == 0) {
        store(&gate->head_ns, pass->learned_ns);
        overdue_begin(gate, around, pass->now_ns);
    }
    gate->late += decision->late;
    gate->borrowed = pass->borrowed;
    __atomic_store_n(&gate->launches, gate->launches + 1, __ATOMIC_RELAXED); /* Looked at without the lock. */
    gate->ahead_ns += pass->learned_ns;
    __atomic_store_n(&gate->unknown, gate->unknown + (pass->learned_ns == 0), __ATOMIC_RELAXED);
    if (gate->unknown == 1 && pass->learned_ns == 0) unknowns_changed(gate, around, pass->now_ns);
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

/* A kernel is seen for the first time, and other streams work beside it: a launch now would spoil the only measurement of
 * it that is sure to come. Nothing else holds a free container up, and this does once for a kernel. */
static void let_unknown_end(struct gate *gate, uint32_t own, uint64_t now_ns) {
    uint64_t until_ns = now_ns + UNKNOWN_NS_MAX;
    while (now_ns < until_ns && __atomic_load_n(&gate->unknown, __ATOMIC_RELAXED) > 0 &&
           __atomic_load_n(&gate->launches, __ATOMIC_RELAXED) > own) {
        if (!batches_reap(gate, true)) clock_sleep_until(now_ns + THROTTLE_POLL_NS_MIN);
        now_ns = clock_now_ns();
    }
}

void gate_enter(struct gate *gate, uint64_t key, uint32_t own, struct gate_pass *pass) {
    struct surroundings around;
    struct throttle_decision decision;
    uint64_t since_ns = clock_now_ns();
    *pass = (struct gate_pass){.key = key, .free = is_free(gate)};
    reap_when_due(gate, since_ns);
    if (pass->free) let_unknown_end(gate, own, since_ns);
    pass->behind = own >= __atomic_load_n(&gate->launches, __ATOMIC_RELAXED);
    for (bool first = true;; first = false) {
        uint32_t begun = lookout_begin(&gate->lookout);
        pass->now_ns = clock_now_ns();
        struct throttle_ask ask = ask_now(gate, pass, pass->now_ns);
        surroundings_look_at(gate, &around, pass->now_ns);
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
        if (ask.probing && pass->now_ns > gate->probe_started_ns + THROTTLE_DRAIN_NS_MAX) {
            pass->probe = false;
            end_probe(gate, &around, false);
            continue;
        }
        waiting_wait(gate, &around, &decision, &ask, begun, first);
    }
    pass->borrowed = decision.borrowed;
    take(gate, &around, pass, &decision);
}

static void remove_ahead(struct gate *gate, uint64_t learned_ns, uint32_t launches, uint32_t unknown) {
    gate->ahead_ns -= least(gate->ahead_ns, learned_ns);
    __atomic_store_n(&gate->launches, launches < gate->launches ? gate->launches - launches : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&gate->unknown, unknown < gate->unknown ? gate->unknown - unknown : 0, __ATOMIC_RELAXED);
}

/* A row holds high priority up by as much as it is long; and it hides from others that more is submitted. */
uint64_t gate_row_ns(struct gate *gate, const struct gate_pass *pass) {
    const struct egpu_card_limits *limits = region_limits(gate->card);
    if (!limits || limits->oversubscription || __atomic_load_n(&gate->probing, __ATOMIC_ACQUIRE)) return 0;
    if (pass->learned_ns == 0 || pass->clean_wanted) return 0;
    if (pass->longest_ns / COSTS_OUTDATED > pass->learned_ns) return 0;
    return limits->priority == THROTTLE_LOW ? ROW_NS_LOW : BATCH_NS;
}

void gate_grant(struct gate *gate, const struct gate_pass *pass, uint64_t cost_ns) {
    struct surroundings around;
    surroundings_look(gate, &around);
    pthread_mutex_lock(&gate->lock);
    gate->ahead_ns += cost_ns;
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
    if (pass->probe) end_probe(gate, &around, false);
}

/* With the lock held: what a batch of others beside us is judged by. */
static void describe(struct gate *gate, const struct gate_batch *batch, const struct surroundings *around,
                     struct throttle_span *span, uint64_t now_ns) {
    span->learned_ns = batch->unknown ? 0 : batch->learned_ns;
    span->longest_ns = span->learned_ns;
    span->peers_parts = throttle_entitled_parts(&around->limits, around->peers, around->count,
                                                now_ns - least(span->elapsed_ns, now_ns));
    const struct cost_entry *entry = batch->key ? costs_find(&gate->costs, batch->key) : NULL;
    if (entry) span->longest_ns = costs_longest(entry, span->learned_ns);
}

static void learn(struct gate *gate, const struct gate_batch *batch, uint64_t cost_ns, uint64_t now_ns) {
    if (batch->key == 0 || batch->launches == 0) return;
    struct cost_entry *entry = costs_find(&gate->costs, batch->key);
    if (gate->ledger.surprised) costs_surprise(entry, cost_ns / batch->launches);
    if (gate->ledger.doubtful) costs_doubt(entry);
    if (batch->unclear) return;
    bool clean = !batch->span.contended;
    uint64_t ours_ns = batch->span.elapsed_ns;
    uint64_t each_ns = ours_ns / batch->launches;
    /* The first launch on an empty stream pays the way to the card: that is little reason to think the kernel slower. */
    bool on_its_way = batch->idle_start && batch->span.elapsed_ns <= entry->cost_ns * batch->launches + GAP_NS;
    if (on_its_way && entry->clean_ns && each_ns > entry->cost_ns)
        each_ns = entry->cost_ns + (each_ns - entry->cost_ns) / WAY_PARTS;
    costs_learn(entry, each_ns, clean, now_ns);
}

/* Short kernels are measured in the row behind the first one, which alone pays the way to the card; those whose time
 * depends on data are measured often. */
static bool probe_goes_on(struct gate *gate, const struct gate_batch *batch, uint64_t now_ns) {
    if (!batch->probe || batch->key == 0) return false;
    if (gate->probe_measured_ns == 0) gate->probe_measured_ns = now_ns;
    if (now_ns > load(&gate->probe_measured_ns) + PROBE_LENGTH_NS) return false;
    if (batch->idle_start && batch->span.elapsed_ns < PROBE_ALONE_NS) return true;
    return gate->ledger.missing || costs_stale(costs_find(&gate->costs, batch->key), now_ns);
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
    remove_ahead(gate, batch->learned_ns, batch->launches, batch->unknown);
    if (batch->unknown) unknowns_changed(gate, &around, now_ns);
    overdue_begin(gate, &around, now_ns);
    store(&gate->head_ns, least(next_learned_ns, gate->ahead_ns));
    uint64_t behind_ns = gate->ahead_ns - gate->head_ns, expected_ns = gate->work_end_ns;
    gate->work_end_ns = least(most(gate->work_end_ns, now_ns + behind_ns), now_ns + gate->ahead_ns);
    uint64_t early_ns = expected_ns - least(expected_ns, gate->work_end_ns) + batch->unknown * THROTTLE_UNKNOWN_NS;
    throttle_release(around.bucket, early_ns, now_ns);
    bool idle = gate->launches == 0, goes_on = probe_goes_on(gate, batch, now_ns);
    pthread_mutex_unlock(&gate->lock);
    add(&gate->busy_ns, cost_ns);
    add(&around.bucket->busy_ns, cost_ns);
    throttle_charge(around.bucket, (int64_t)cost_ns - (int64_t)batch->learned_ns, batch->borrowed);
    counted_busy(gate, cost_ns, now_ns);
    oversubscription_measured(gate->card, span.elapsed_ns, span.learned_ns, span.peers_busy_ns);
    if (batch->probe && (idle || span.contended || !goes_on)) end_probe(gate, &around, !span.contended);
    if (idle && around.page && around.limits.priority == THROTTLE_HIGH)
        store(&around.page->hold_until_ns, now_ns + THROTTLE_HOLD_NS);
    waiting_tell(gate, &around, now_ns, WAITING_NOTHING);
    return cost_ns;
}

/* The child has no CUDA any more; what its parent has outstanding is the parent's. */
void gate_after_fork(void) {
    for (int card = 0; card < (int)EGPU_CARD_COUNT_MAX; card++) {
        struct gate *gate = gates[card];
        if (!gate) continue;
        memset(gate, 0, sizeof *gate);
        gate->card = card;
        pthread_mutex_init(&gate->lock, NULL);
    }
}
