#include "throttle.h"

#include "throttle_words.h"
#include "turns.h"

bool throttle_limited(const struct throttle_limits *limits) {
    return limits->core_quota != 0 && limits->core_quota < THROTTLE_QUOTA_WHOLE;
}

static uint32_t quota_of(const struct throttle_limits *limits) {
    return throttle_limited(limits) ? limits->core_quota : THROTTLE_QUOTA_WHOLE;
}

void throttle_refill(struct throttle_bucket *bucket, const struct throttle_limits *limits, uint64_t now_ns) {
    uint64_t before = __atomic_load_n(&bucket->refilled_ns, __ATOMIC_RELAXED);
    uint64_t wanted_ns = most(__atomic_load_n(&bucket->wanted_ns, __ATOMIC_RELAXED),
                              __atomic_load_n(&bucket->busy_until_ns, __ATOMIC_RELAXED));
    /* Farther ahead than the clocks of one node can be: the node was started anew since. */
    if (before >= now_ns && before - now_ns < THROTTLE_WAIT_NS_MAX) return;
    /* Only the one that moves the stamp adds, so two processes never add the same time twice. */
    if (!__atomic_compare_exchange_n(&bucket->refilled_ns, &before, now_ns, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    uint64_t passed_ns = before == 0 || before > now_ns ? 0 : now_ns - before;
    passed_ns = least(passed_ns, THROTTLE_PASSED_NS_MAX);
    uint64_t owed_ns = wanted_ns > before ? least(wanted_ns - before, passed_ns) : 0;
    add_within(&bucket->tokens_ns, (int64_t)part_of(owed_ns, quota_of(limits)), 0, (int64_t)THROTTLE_OWED_NS_MAX);
    add_within(&bucket->tokens_ns, (int64_t)part_of(passed_ns - owed_ns, quota_of(limits)), 0,
               (int64_t)THROTTLE_IDLE_NS_MAX);
    if (before == 0) passed_ns = THROTTLE_PROBE_CREDIT_NS_MAX * THROTTLE_QUOTA_WHOLE / THROTTLE_PROBE_PARTS;
    add_within(&bucket->probe_credit_ns, (int64_t)part_of(passed_ns, THROTTLE_PROBE_PARTS), 0,
               (int64_t)THROTTLE_PROBE_CREDIT_NS_MAX);
}

void throttle_charge(struct throttle_bucket *bucket, int64_t cost_ns, bool borrowed) {
    if (borrowed) {
        __atomic_fetch_add(&bucket->borrowed_ns, (uint64_t)cost_ns, __ATOMIC_RELAXED);
        return;
    }
    __atomic_fetch_add(&bucket->charged_ns, (uint64_t)cost_ns, __ATOMIC_RELAXED);
    add_within(&bucket->tokens_ns, -cost_ns, -(int64_t)THROTTLE_DEBT_NS_MAX, (int64_t)THROTTLE_OWED_NS_MAX);
}

uint64_t throttle_guess(struct throttle_bucket *bucket, uint64_t cost_ns, bool borrowed) {
    if (borrowed) {
        throttle_charge(bucket, (int64_t)cost_ns, true);
        return cost_ns;
    }
    int64_t low_ns = -(int64_t)THROTTLE_GUESSED_NS_MAX;
    uint64_t taken_ns =
        (uint64_t)-add_within(&bucket->tokens_ns, -(int64_t)cost_ns, low_ns, (int64_t)THROTTLE_OWED_NS_MAX);
    __atomic_fetch_add(&bucket->charged_ns, taken_ns, __ATOMIC_RELAXED);
    return taken_ns;
}

/* Of many that are gone at once, each pays for a time of its own. */
uint64_t throttle_depart(struct throttle_bucket *bucket, uint64_t since_ns, uint64_t others_ns, uint64_t now_ns) {
    uint64_t paid_ns = __atomic_load_n(&bucket->departed_ns, __ATOMIC_RELAXED);
    uint64_t from_ns = paid_ns <= now_ns ? most(since_ns, paid_ns) : since_ns;
    uint64_t passed_ns = from_ns < now_ns ? now_ns - from_ns : 0;
    uint64_t cost_ns = least(passed_ns - least(others_ns, passed_ns), THROTTLE_GUESSED_NS_MAX);
    __atomic_store_n(&bucket->departed_ns, now_ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&bucket->departed_busy_ns, cost_ns, __ATOMIC_RELAXED);
    __atomic_fetch_add(&bucket->busy_ns, cost_ns, __ATOMIC_RELAXED);
    throttle_guess(bucket, cost_ns, false);
    return cost_ns;
}

void throttle_probe_honoured(struct throttle_bucket *bucket, uint64_t waited_ns) {
    add_within(&bucket->probe_credit_ns, -(int64_t)waited_ns, -(int64_t)THROTTLE_PROBE_CREDIT_NS_MAX, 0);
}

uint64_t throttle_probe_period(uint64_t period_ns, bool clean) {
    if (clean || period_ns == 0) return THROTTLE_PROBE_PERIOD_NS;
    return least(2 * period_ns, THROTTLE_PROBE_PERIOD_NS_MAX);
}

bool throttle_active(const struct throttle_peer *peer, uint64_t now_ns) {
    return peer->busy_until_ns > now_ns || peer->wanting_until_ns > now_ns;
}

/* The page holds the tokens of a moment ago; what was earned since is added as the peer itself will add it. */
static bool has_tokens(const struct throttle_peer *peer, uint64_t now_ns) {
    uint64_t passed_ns = now_ns > peer->tokens_at_ns ? now_ns - peer->tokens_at_ns : 0;
    int64_t earned_ns = (int64_t)part_of(least(passed_ns, THROTTLE_SLICE_NS_MAX), quota_of(&peer->limits));
    /* With less than a row it may still be gathering. */
    return peer->tokens_ns + earned_ns >= (int64_t)THROTTLE_ROW_NS;
}

static struct throttle_decision wait_until(enum throttle_reason reason, uint64_t until_ns, uint64_t now_ns) {
    uint64_t earliest_ns = now_ns + THROTTLE_POLL_NS_MIN, latest_ns = now_ns + THROTTLE_SLICE_NS_MAX;
    return (struct throttle_decision){.reason = reason, .until_ns = least(most(until_ns, earliest_ns), latest_ns)};
}

/* A look costs a sweep over all streams: who has waited for long looks less often, and is late by a small part of that. */
static uint64_t look_again_ns(const struct throttle_ask *ask, uint64_t soonest_ns) {
    return least(most((ask->now_ns - least(ask->since_ns, ask->now_ns)) / THROTTLE_LATE_PARTS, soonest_ns), THROTTLE_MS);
}

/* Who may use half of the card may keep others waiting half of the time, and half of the rest, for short work holds them
 * up for longer than it takes: a page that claims more is not believed. */
static void refill_high_credit(struct throttle_bucket *bucket, const struct throttle_peer *peers, int count,
                               uint64_t now_ns) {
    uint64_t before = __atomic_load_n(&bucket->high_refilled_ns, __ATOMIC_RELAXED), parts = 0;
    for (int each = 0; each < count; each++)
        if (peers[each].limits.priority == THROTTLE_HIGH && throttle_limited(&peers[each].limits))
            parts += peers[each].limits.core_quota;
    if (parts == 0 || (before >= now_ns && before - now_ns < THROTTLE_WAIT_NS_MAX)) return;
    if (!__atomic_compare_exchange_n(&bucket->high_refilled_ns, &before, now_ns, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    uint64_t passed_ns = before == 0 || before > now_ns ? 0 : least(now_ns - before, 60000 * THROTTLE_MS);
    parts = (least(parts, THROTTLE_QUOTA_WHOLE) + THROTTLE_QUOTA_WHOLE) / 2;
    uint64_t earned_ns = before == 0 ? THROTTLE_HIGH_CREDIT_NS_MAX : part_of(passed_ns, (uint32_t)parts);
    add_within(&bucket->high_credit_ns, (int64_t)earned_ns, 0, (int64_t)THROTTLE_HIGH_CREDIT_NS_MAX);
}

/* Threads and processes wait side by side: what one has paid for the others need not. */
void throttle_high_honoured(struct throttle_bucket *bucket, uint64_t from_ns, uint64_t to_ns) {
    uint64_t paid_ns = __atomic_load_n(&bucket->high_honoured_ns, __ATOMIC_RELAXED);
    if (paid_ns >= to_ns && paid_ns - to_ns < THROTTLE_WAIT_NS_MAX) return;
    if (!__atomic_compare_exchange_n(&bucket->high_honoured_ns, &paid_ns, to_ns, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return;
    uint64_t start_ns = paid_ns > to_ns ? from_ns : most(paid_ns, from_ns);
    add_within(&bucket->high_credit_ns, -(int64_t)(to_ns - start_ns), -(int64_t)THROTTLE_HIGH_CREDIT_NS_MAX, 0);
}

/* A high-priority container without tokens may not run either: what it leaves is for the low ones. */
bool throttle_high_has_work(struct throttle_bucket *bucket, const struct throttle_peer *peers, int count,
                            uint64_t now_ns) {
    refill_high_credit(bucket, peers, count, now_ns);
    for (int each = 0; each < count; each++) {
        const struct throttle_peer *peer = &peers[each];
        bool limited = throttle_limited(&peer->limits);
        if (peer->limits.priority != THROTTLE_HIGH || (limited && load(&bucket->high_credit_ns) <= 0)) continue;
        if (peer->busy_until_ns > now_ns) return true;
        bool claims = throttle_active(peer, now_ns) || peer->hold_until_ns > now_ns;
        if (claims && (!limited || has_tokens(peer, now_ns))) return true;
    }
    return false;
}

static bool entitled_peer(const struct throttle_limits *limits, const struct throttle_ask *ask,
                          const struct throttle_peer *peers, int count) {
    for (int each = 0; each < count; each++)
        if (peers[each].limits.priority <= limits->priority && throttle_active(&peers[each], ask->now_ns) &&
            has_tokens(&peers[each], ask->now_ns))
            return true;
    return false;
}

/* Somebody else measures: we hold our launch; or we do: nothing of the others may be in flight. */
static bool probe_in_the_way(const struct throttle_bucket *bucket, const struct throttle_limits *limits,
                             const struct throttle_ask *ask, const struct throttle_peer *peers, int count) {
    if (limits->priority == THROTTLE_HIGH && !throttle_limited(limits)) return false;
    for (int each = 0; each < count; each++) {
        bool theirs = peers[each].probe_until_ns > ask->now_ns;
        if (theirs && peers[each].probe_until_ns < ask->now_ns + THROTTLE_PROBE_NS_MAX &&
            (!ask->probing || peers[each].index < ask->index) && load(&bucket->probe_credit_ns) > 0)
            return true;
        if (ask->probing && peers[each].busy_until_ns > ask->now_ns) return true;
    }
    return false;
}

/* Of all processes. When none of them says that it has work nothing is outstanding, whatever was expected. */
static uint64_t outstanding_ns(const struct throttle_bucket *bucket, uint64_t now_ns) {
    uint64_t end_ns = __atomic_load_n(&bucket->work_end_ns, __ATOMIC_RELAXED);
    if (end_ns <= now_ns || end_ns - now_ns > THROTTLE_GUESSED_NS_MAX) return 0;
    return __atomic_load_n(&bucket->busy_until_ns, __ATOMIC_RELAXED) > now_ns ? end_ns - now_ns : 0;
}

static uint64_t ahead_bound_ns(const struct throttle_limits *limits, const struct throttle_ask *ask) {
    return limits->priority == THROTTLE_LOW ? THROTTLE_AHEAD_NS_LOW / (1 + ask->floods) : THROTTLE_AHEAD_NS_HIGH;
}

uint32_t throttle_floods(const struct throttle_peer *peers, int count, uint64_t now_ns) {
    uint32_t floods = 0;
    for (int each = 0; each < count; each++)
        floods += peers[each].limits.priority == THROTTLE_LOW && throttle_active(&peers[each], now_ns);
    return floods;
}

static bool extend(struct throttle_bucket *bucket, uint64_t cost_ns, uint64_t now_ns, uint64_t bound_ns) {
    uint64_t before_ns = __atomic_load_n(&bucket->work_end_ns, __ATOMIC_RELAXED), left_ns = outstanding_ns(bucket, now_ns);
    return left_ns <= bound_ns &&
           __atomic_compare_exchange_n(&bucket->work_end_ns, &before_ns, now_ns + left_ns + cost_ns, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

bool throttle_reserve(struct throttle_bucket *bucket, const struct throttle_limits *limits,
                      const struct throttle_ask *ask, uint64_t cost_ns, bool late) {
    uint64_t bound_ns = late ? UINT64_MAX : ahead_bound_ns(limits, ask);
    bool low = limits->priority == THROTTLE_LOW;
    if (low && !extend(bucket, cost_ns ? cost_ns : THROTTLE_UNKNOWN_NS, ask->now_ns, bound_ns)) return false;
    turns_end(bucket, ask);
    return true;
}

void throttle_extend(struct throttle_bucket *bucket, const struct throttle_limits *limits, uint64_t cost_ns,
                     uint64_t now_ns) {
    while (limits->priority == THROTTLE_LOW && !extend(bucket, cost_ns, now_ns, UINT64_MAX)) {}
}

void throttle_release(struct throttle_bucket *bucket, uint64_t unused_ns, uint64_t now_ns) {
    uint64_t before_ns = __atomic_load_n(&bucket->work_end_ns, __ATOMIC_RELAXED);
    while (unused_ns > 0 && before_ns > now_ns &&
           !__atomic_compare_exchange_n(&bucket->work_end_ns, &before_ns, before_ns - least(unused_ns, before_ns - now_ns),
                                        true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {}
}

/* Until there are tokens for a row, or others had what they lack. */
static struct throttle_decision wait_for_tokens(struct throttle_bucket *bucket, const struct throttle_limits *limits,
                                                const struct throttle_ask *ask, int64_t tokens_ns,
                                                enum throttle_reason reason) {
    uint64_t missing_ns = tokens_ns < (int64_t)THROTTLE_ROW_NS ? (uint64_t)((int64_t)THROTTLE_ROW_NS - tokens_ns) : 0;
    uint64_t until_ns = ask->now_ns + (missing_ns * THROTTLE_QUOTA_WHOLE + limits->core_quota - 1) / limits->core_quota;
    if (reason == THROTTLE_WAIT_ENTITLED) until_ns = least(until_ns, ask->now_ns + THROTTLE_POLL_NS);
    struct throttle_decision decision = wait_until(reason, until_ns, ask->now_ns);
    turns_claim(bucket, ask, decision.until_ns);
    return decision;
}

static uint64_t others_ahead_ns(const struct throttle_bucket *bucket, const struct throttle_limits *limits,
                                const struct throttle_ask *ask) {
    return limits->priority == THROTTLE_LOW ? outstanding_ns(bucket, ask->now_ns) : 0;
}

static bool too_far_ahead(const struct throttle_bucket *bucket, const struct throttle_limits *limits,
                          const struct throttle_ask *ask) {
    if (limits->priority == THROTTLE_HIGH && !throttle_limited(limits)) return false;
    bool behind = limits->priority == THROTTLE_LOW && turns_others_first(bucket, ask);
    return behind || ask->ahead_unknown || ask->ahead_launches > THROTTLE_AHEAD_LAUNCHES ||
           most(ask->ahead_ns, others_ahead_ns(bucket, limits, ask)) > ahead_bound_ns(limits, ask);
}

uint64_t throttle_unknown_poll_ns(const struct throttle_ask *ask) {
    return ask->now_ns - ask->since_ns < THROTTLE_UNKNOWN_LONG_NS ? 2 * THROTTLE_POLL_NS_MIN : THROTTLE_MS;
}

static struct throttle_decision wait_for_own_work(struct throttle_bucket *bucket, const struct throttle_limits *limits,
                                                  const struct throttle_ask *ask) {
    uint64_t bound_ns = ahead_bound_ns(limits, ask), others_ns = others_ahead_ns(bucket, limits, ask);
    uint64_t later_ns = ask->ahead_ns > bound_ns ? ask->ahead_ns - bound_ns : 0;
    /* The first batch is late when others run between: a sixteenth of it is soon enough to look again. */
    later_ns = most(least(later_ns, ask->head_ns), ask->head_ns / 16);
    later_ns = look_again_ns(ask, later_ns);
    if (ask->ahead_unknown) later_ns = throttle_unknown_poll_ns(ask);
    bool first = ask->ahead_launches == 0 && limits->priority == THROTTLE_LOW;
    if (first) later_ns = most(others_ns > bound_ns ? others_ns - bound_ns : 0, THROTTLE_POLL_NS);
    later_ns = least(later_ns, THROTTLE_MS);
    struct throttle_decision decision = wait_until(THROTTLE_WAIT_AHEAD, ask->now_ns + later_ns, ask->now_ns);
    if (first) turns_claim(bucket, ask, decision.until_ns);
    return decision;
}

struct throttle_decision throttle_decide(struct throttle_bucket *bucket, const struct throttle_limits *limits,
                                         const struct throttle_ask *ask, const struct throttle_peer *peers, int count) {
    uint64_t now_ns = ask->now_ns;
    struct throttle_decision pass = {.reason = THROTTLE_PASS, .until_ns = now_ns};
    bool patient = now_ns < ask->since_ns + THROTTLE_WAIT_NS_MAX;
    bool own_patient = now_ns < ask->since_ns + most(ask->patience_ns, THROTTLE_WAIT_NS_MAX);
    throttle_refill(bucket, limits, now_ns);
    /* Until it asks again, however late its thread comes; unless it passes. */
    __atomic_store_n(&bucket->wanted_ns, UINT64_MAX, __ATOMIC_RELAXED);
    if (limits->priority == THROTTLE_LOW && throttle_high_has_work(bucket, peers, count, now_ns)) {
        if (patient) return wait_until(THROTTLE_WAIT_PRIORITY, now_ns + look_again_ns(ask, THROTTLE_POLL_NS), now_ns);
        pass.late = true;
    }
    if (throttle_limited(limits)) {
        int64_t tokens_ns = load(&bucket->tokens_ns);
        /* This wait needs no patience: it is as long as the debt and ends without anybody's help, unless the debt is of
         * work that runs and may wait for this launch. */
        if (tokens_ns <= 0 && tokens_ns + (int64_t)ask->overdue_ns > 0 && !own_patient) pass.late = true;
        else if (tokens_ns <= 0 && limits->policy == THROTTLE_HARD)
            return wait_for_tokens(bucket, limits, ask, tokens_ns, THROTTLE_WAIT_QUOTA);
        else if (tokens_ns <= 0 && entitled_peer(limits, ask, peers, count))
            return wait_for_tokens(bucket, limits, ask, tokens_ns, THROTTLE_WAIT_ENTITLED);
        else if (tokens_ns > 0 && turns_others_first(bucket, ask))
            return wait_until(THROTTLE_WAIT_TURN, now_ns + THROTTLE_POLL_NS, now_ns);
        pass.borrowed = tokens_ns <= 0 && limits->policy == THROTTLE_SOFT;
    }
    if (patient && probe_in_the_way(bucket, limits, ask, peers, count))
        return wait_until(THROTTLE_WAIT_PROBE, now_ns + THROTTLE_POLL_NS / 2, now_ns);
    if (patient && turns_probe_in_the_way(bucket, limits, ask))
        return wait_until(THROTTLE_WAIT_AHEAD, now_ns + THROTTLE_POLL_NS / 2, now_ns);
    if (too_far_ahead(bucket, limits, ask)) {
        if (own_patient) return wait_for_own_work(bucket, limits, ask);
        pass.late = true;
    }
    __atomic_store_n(&bucket->wanted_ns, now_ns, __ATOMIC_RELAXED);
    return pass;
}

uint32_t throttle_entitled_parts(const struct throttle_limits *limits, const struct throttle_peer *peers, int count,
                                 uint64_t since_ns) {
    uint32_t parts = 0;
    for (int each = 0; each < count; each++) {
        const struct throttle_limits *theirs = &peers[each].limits;
        if (theirs->priority > limits->priority || !throttle_active(&peers[each], since_ns)) continue;
        parts += throttle_limited(theirs) ? theirs->core_quota : THROTTLE_QUOTA_WHOLE - quota_of(limits);
    }
    return parts < THROTTLE_QUOTA_WHOLE ? parts : THROTTLE_QUOTA_WHOLE;
}

/* One batch may have waited for others that are charged later; when all of them do it is us. */
static bool surprised(struct throttle_ledger *ledger, const struct throttle_span *span) {
    uint64_t rest_ns = span->elapsed_ns - least(span->elapsed_ns, most(span->peers_busy_ns, span->peers_meanwhile_ns));
    uint64_t known_ns = most(span->learned_ns, span->longest_ns);
    bool times = rest_ns / THROTTLE_SURPRISE_TIMES > known_ns;
    ledger->surprise_ns = times ? ledger->surprise_ns + rest_ns - known_ns : 0;
    ledger->believed &= times;
    return ledger->surprise_ns >= THROTTLE_SURPRISE_NS || ledger->believed;
}

static uint64_t pay_surprise(struct throttle_ledger *ledger, const struct throttle_span *span, uint64_t cost_ns) {
    uint64_t paid_ns = least(ledger->surprise_ns, span->elapsed_ns - cost_ns);
    ledger->surprise_ns -= paid_ns;
    ledger->believed = true;
    ledger->unattributed_ns = 0;
    return cost_ns + paid_ns;
}

/* Time that nobody was charged for: our kernels took longer than learned, or a neighbour's did, or a neighbour lies. Who
 * pays is bounded by what is known: ours are charged no longer than they ever took alone, unless that still leaves the
 * neighbours who had work what they are entitled to. What is more than that is dropped, and measured anew soon. */
static uint64_t pay_leftover(struct throttle_ledger *ledger, const struct throttle_span *span, uint64_t cost_ns) {
    uint64_t over_ns = (uint64_t)ledger->unattributed_ns - THROTTLE_UNATTRIBUTED_NS_MIN;
    uint64_t spread_ns = span->longest_ns > cost_ns ? span->longest_ns - cost_ns : 0;
    double weight = (double)cost_ns / (double)(cost_ns + span->peers_busy_ns);
    double by_spread = (double)spread_ns / ((double)spread_ns + (double)span->peers_busy_ns / 4 + 1);
    if (by_spread > weight) weight = by_spread;
    uint64_t share_ns = (uint64_t)((double)over_ns / 16 * weight);
    uint64_t room_ns = most(spread_ns, ledger->room_ns > 0 ? (uint64_t)ledger->room_ns : 0);
    room_ns = least(room_ns, span->elapsed_ns - cost_ns);
    ledger->doubtful = share_ns > room_ns;
    ledger->unattributed_ns = ledger->doubtful ? (int64_t)THROTTLE_UNATTRIBUTED_NS_MIN
                                               : ledger->unattributed_ns - (int64_t)(over_ns / 16);
    ledger->room_ns -= (int64_t)least(share_ns, room_ns);
    return cost_ns + least(share_ns, room_ns);
}

/* Kernels whose time depends on data: what is seen to be shorter is charged as it was, and what may be longer is seen
 * with others' time in it. The mean is charged only when the one makes up for the other. */
static uint64_t expected(struct throttle_ledger *ledger, const struct throttle_span *span) {
    uint64_t learned_ns = span->learned_ns, longest_ns = least(span->longest_ns, span->elapsed_ns);
    if (span->elapsed_ns < learned_ns) {
        ledger->saved_ns = least(ledger->saved_ns + learned_ns - span->elapsed_ns, THROTTLE_UNATTRIBUTED_NS_MIN);
        return span->elapsed_ns;
    }
    uint64_t paid_ns = longest_ns > learned_ns ? least(ledger->saved_ns, longest_ns - learned_ns) : 0;
    ledger->saved_ns -= paid_ns;
    return learned_ns + paid_ns;
}

/* Alone on the card the events tell the truth. Contended they also hold the time of others, so the learned cost is
 * charged; a kernel never measured pays what nobody else was charged for. What stays over when all have paid (kernels
 * whose time depends on data) is shared by the same ratio, slowly, for charges of peers are seen late. */
uint64_t throttle_attribute(struct throttle_ledger *ledger, const struct throttle_span *span) {
    ledger->doubtful = ledger->surprised = false;
    if (!span->contended) {
        ledger->missing |= ledger->unattributed_ns > (int64_t)THROTTLE_UNATTRIBUTED_NS_MIN / 2;
        /* A kernel that was seen to take many times as long may have done so in between. */
        if (span->longest_ns / THROTTLE_SURPRISE_TIMES <= span->learned_ns) ledger->unattributed_ns = 0;
        ledger->surprise_ns = 0;
        return span->elapsed_ns;
    }
    if (span->learned_ns == 0) {
        uint64_t rest_ns = span->elapsed_ns > span->peers_busy_ns ? span->elapsed_ns - span->peers_busy_ns : 0;
        return most(rest_ns, span->elapsed_ns / 64);
    }
    uint64_t cost_ns = expected(ledger, span);
    uint64_t peers_ns = least(span->peers_busy_ns, THROTTLE_CHARGED_NS_MAX);
    ledger->unattributed_ns += (int64_t)span->elapsed_ns - (int64_t)cost_ns - (int64_t)peers_ns;
    uint64_t left_ns = part_of(span->elapsed_ns, THROTTLE_QUOTA_WHOLE - span->peers_parts);
    int64_t low_ns = -(int64_t)THROTTLE_UNATTRIBUTED_NS_MIN;
    ledger->room_ns = within(ledger->room_ns + (int64_t)left_ns - (int64_t)cost_ns, low_ns, (int64_t)THROTTLE_ROOM_NS_MAX);
    ledger->unattributed_ns = within(ledger->unattributed_ns, low_ns, INT64_MAX);
    ledger->surprised = surprised(ledger, span);
    if (ledger->surprised) return pay_surprise(ledger, span, cost_ns);
    if (ledger->unattributed_ns <= (int64_t)THROTTLE_UNATTRIBUTED_NS_MIN) return cost_ns;
    return pay_leftover(ledger, span, cost_ns);
}
