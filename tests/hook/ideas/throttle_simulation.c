/* Many containers on a model card, seeded, the rules of the compute limits checked at every step.
 * Usage: throttle_simulation FIRST_SEED SEEDS [verbose]   exit 1 and a line per broken rule. */
#include "costs.h"
#include "throttle.h"
#include "throttle_card.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SETTLED_NS (1000 * THROTTLE_MS)
#define END_NS (4000 * THROTTLE_MS)
#define LAUNCH_NS 2000u
#define PAGE_MARGIN_NS 100000u
#define POINT 100u /* of THROTTLE_QUOTA_WHOLE */

struct container {
    struct throttle_limits limits;
    struct throttle_bucket bucket;
    struct throttle_ledger ledger;
    struct throttle_peer page;
    struct costs costs;
    uint64_t kernel_ns, gap_ns; /* gap: waits for its kernel, then thinks; 0: floods */
    uint64_t wake_ns, asked_ns, head_since_ns, stream_end_ns, last_peers_ns, probe_started_ns, probe_period_ns;
    uint64_t settled_busy_ns, settled_owed_ns, waited_ns_max, launches, late;
    struct batch { uint64_t learned_ns, peers_ns; bool borrowed, contended; } batches[CARD_QUEUE_MAX];
    unsigned first, last;
    bool probing;
};

struct world {
    struct card card;
    struct container containers[CARD_CONTAINERS_MAX];
    uint64_t random, seed, settled_busy_ns, broken;
    unsigned varying; /* parts of 100 that a kernel's time varies by */
};

static uint64_t draw(struct world *world, uint64_t limit) {
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return world->random % limit;
}

static void broken(struct world *world, const char *rule, int container, uint64_t value) {
    if (world->broken++ < 3)
        printf("seed %llu container %d: %s (%llu) at %llu us\n", (unsigned long long)world->seed, container, rule,
               (unsigned long long)value, (unsigned long long)world->card.now_ns / 1000);
}

static int peers_of(struct world *world, int self, struct throttle_peer *peers) {
    int count = 0;
    for (int each = 0; each < world->card.count; each++)
        if (each != self) peers[count++] = world->containers[each].page;
    return count;
}

static uint64_t peers_busy(struct world *world, int self) {
    uint64_t total = 0;
    for (int each = 0; each < world->card.count; each++)
        if (each != self) total += world->containers[each].page.busy_ns;
    return total;
}

static bool contended(struct world *world, int self, uint64_t since_ns) {
    for (int each = 0; each < world->card.count; each++)
        if (each != self && world->containers[each].page.busy_until_ns > since_ns) return true;
    return false;
}

static struct cost_entry *cost_of(struct container *one) { return costs_find(&one->costs, costs_key(one, 1, 1)); }

static void end_probe(struct container *one, bool clean) {
    if (!one->probing) return;
    one->probing = false;
    one->page.probe_until_ns = 0;
    one->probe_period_ns = throttle_probe_period(one->probe_period_ns, clean);
}

static void reap_one(struct world *world, int self, struct card_operation *operation) {
    struct container *one = &world->containers[self];
    struct batch *batch = &one->batches[one->first++ % CARD_QUEUE_MAX];
    uint64_t begin_ns = operation->submitted_ns > one->stream_end_ns ? operation->submitted_ns : one->stream_end_ns;
    uint64_t busy_ns = peers_busy(world, self);
    struct throttle_span span = {.elapsed_ns = operation->ended_ns - begin_ns, .learned_ns = batch->learned_ns};
    span.contended = batch->contended || busy_ns != batch->peers_ns || contended(world, self, begin_ns);
    span.peers_busy_ns = busy_ns - one->last_peers_ns;
    one->last_peers_ns = busy_ns;
    costs_learn(cost_of(one), span.elapsed_ns, !span.contended, world->card.now_ns);
    uint64_t cost_ns = throttle_attribute(&one->ledger, &span);
    one->page.busy_ns += cost_ns;
    throttle_charge(&one->bucket, (int64_t)cost_ns - (int64_t)batch->learned_ns, batch->borrowed);
    one->stream_end_ns = operation->ended_ns;
    one->head_since_ns = operation->ended_ns;
    end_probe(one, !span.contended);
}

static void ahead_of(struct container *one, uint64_t now_ns, struct throttle_ask *ask) {
    for (unsigned each = one->first; each != one->last; each++) {
        uint64_t learned_ns = one->batches[each % CARD_QUEUE_MAX].learned_ns;
        if (learned_ns == 0) ask->ahead_unknown = true;
        if (each == one->first) ask->head_ns = learned_ns;
        ask->ahead_ns += learned_ns;
    }
    uint64_t progress_ns = now_ns - one->head_since_ns;
    ask->ahead_ns -= progress_ns < ask->head_ns ? progress_ns : ask->head_ns;
}

static void publish(struct container *one, const struct throttle_ask *ask, uint64_t now_ns, uint64_t wait_until_ns) {
    bool busy = one->first != one->last;
    if (busy) { /* Looks again when its work should be done, so that the page says "busy" no longer than it is. */
        uint64_t look_ns = ask->ahead_ns > ask->head_ns / 16 ? ask->ahead_ns : ask->head_ns / 16;
        if (look_ns < THROTTLE_POLL_NS) look_ns = THROTTLE_POLL_NS;
        if (one->wake_ns > now_ns + look_ns) one->wake_ns = now_ns + look_ns;
        one->page.busy_until_ns = one->wake_ns + PAGE_MARGIN_NS;
    }
    else if (one->page.busy_until_ns > one->stream_end_ns) one->page.busy_until_ns = one->stream_end_ns;
    one->page.hold_until_ns = busy || one->limits.priority == THROTTLE_LOW ? 0 : one->head_since_ns + THROTTLE_HOLD_NS;
    one->page.wanting_until_ns = wait_until_ns;
    one->page.tokens_ns = one->bucket.tokens_ns;
    one->page.tokens_at_ns = now_ns;
    one->bucket.busy_until_ns = one->page.busy_until_ns;
}

static void submit(struct world *world, int self, const struct throttle_decision *decision) {
    struct container *one = &world->containers[self];
    uint64_t cost_ns = one->kernel_ns, learned_ns = cost_of(one)->cost_ns, now_ns = world->card.now_ns;
    if (world->varying) cost_ns += cost_ns * draw(world, world->varying) / 100;
    if (!card_submit(&world->card, self, cost_ns)) abort();
    if (one->first == one->last) one->head_since_ns = now_ns;
    one->batches[one->last++ % CARD_QUEUE_MAX] = (struct batch){learned_ns, peers_busy(world, self), decision->borrowed,
                                                              contended(world, self, now_ns)};
    throttle_charge(&one->bucket, (int64_t)learned_ns, decision->borrowed);
    one->launches++;
    one->late += decision->late;
    uint64_t waited_ns = now_ns - one->asked_ns;
    if (waited_ns > one->waited_ns_max) one->waited_ns_max = waited_ns;
    one->asked_ns = 0;
    one->wake_ns = now_ns + LAUNCH_NS;
    struct throttle_ask after = {0};
    ahead_of(one, now_ns, &after);
    publish(one, &after, now_ns, 0);
    uint64_t until_ns = now_ns + after.ahead_ns + PAGE_MARGIN_NS;
    if (one->page.busy_until_ns < until_ns) one->page.busy_until_ns = until_ns;
    one->bucket.busy_until_ns = one->page.busy_until_ns;
}

static void check_pass(struct world *world, int self, const struct throttle_decision *decision) {
    struct container *one = &world->containers[self];
    if (decision->late && world->card.now_ns < one->asked_ns + THROTTLE_WAIT_NS_MAX)
        broken(world, "passed late too early", self, world->card.now_ns - one->asked_ns);
    for (int each = 0; each < world->card.count; each++) {
        struct container *other = &world->containers[each];
        bool above = other->limits.priority < one->limits.priority && other->first != other->last;
        /* All of them have quotas here: who was waited for longer than that allows is not waited for any more. */
        if (above && !decision->late && one->bucket.high_credit_ns > 0 && other->page.busy_until_ns > world->card.now_ns)
            broken(world, "low passed while high has work", self, (uint64_t)each);
    }
    if (throttle_limited(&one->limits) && one->limits.policy == THROTTLE_HARD && one->bucket.tokens_ns <= 0)
        broken(world, "hard passed without tokens", self, 0);
}

/* A stale or missing clean measurement is worth a probe only where somebody else disturbs. */
static bool probe_begins(struct world *world, int self) {
    struct container *one = &world->containers[self];
    if (one->probing || !costs_stale(cost_of(one), world->card.now_ns)) return false;
    if (!contended(world, self, world->card.now_ns)) return false;
    if (one->probe_started_ns && world->card.now_ns < one->probe_started_ns + one->probe_period_ns) return false;
    one->probing = true;
    one->probe_started_ns = world->card.now_ns;
    one->page.probe_until_ns = world->card.now_ns + THROTTLE_PROBE_NS_MAX - 1;
    return true;
}

static void step(struct world *world, int self) {
    struct container *one = &world->containers[self];
    struct throttle_peer peers[CARD_CONTAINERS_MAX];
    struct card_operation *operation;
    uint64_t now_ns = world->card.now_ns;
    while ((operation = card_finished(&world->card, self))) {
        reap_one(world, self, operation);
        card_reap(&world->card, self);
    }
    struct throttle_ask ask = {.now_ns = now_ns, .index = (uint32_t)self};
    if (one->gap_ns && one->first != one->last) { /* synchronous: the application waits for its kernel */
        one->wake_ns = now_ns + 20000;
        ahead_of(one, now_ns, &ask);
        publish(one, &ask, now_ns, 0);
        return;
    }
    if (one->gap_ns && !one->asked_ns && now_ns < one->head_since_ns + one->gap_ns) {
        publish(one, &ask, now_ns, 0);
        one->wake_ns = one->head_since_ns + one->gap_ns;
        return;
    }
    if (!one->asked_ns) one->asked_ns = now_ns;
    ask.since_ns = one->asked_ns;
    ask.probing = one->probing;
    ahead_of(one, now_ns, &ask);
    int count = peers_of(world, self, peers);
    struct throttle_decision decision = throttle_decide(&one->bucket, &one->limits, &ask, peers, count);
    if (decision.reason == THROTTLE_PASS && probe_begins(world, self)) {
        ask.probing = true;
        decision = throttle_decide(&one->bucket, &one->limits, &ask, peers, count);
    }
    if (decision.reason != THROTTLE_PASS && one->probing && now_ns > one->probe_started_ns + THROTTLE_DRAIN_NS_MAX) {
        end_probe(one, false);
        ask.probing = false;
        decision = throttle_decide(&one->bucket, &one->limits, &ask, peers, count);
    }
    if (decision.reason == THROTTLE_PASS) {
        check_pass(world, self, &decision);
        submit(world, self, &decision);
        return;
    }
    if (decision.reason == THROTTLE_WAIT_PROBE && !one->probing)
        throttle_probe_honoured(&one->bucket, decision.until_ns - now_ns);
    if (decision.reason == THROTTLE_WAIT_PRIORITY) throttle_high_honoured(&one->bucket, now_ns, decision.until_ns);
    one->wake_ns = decision.until_ns;
    publish(one, &ask, now_ns, decision.until_ns + PAGE_MARGIN_NS);
}

static uint64_t pick_kernel(struct world *world) {
    static const uint32_t kernels_us[] = {50, 100, 200, 500, 1000, 2000, 5000, 20000};
    return kernels_us[draw(world, 8)] * 1000ull;
}

static void set_up(struct world *world, uint64_t seed) {
    memset(world, 0, sizeof *world);
    world->seed = seed;
    world->random = seed * 0x9e3779b97f4a7c15ull + 1;
    for (int warm = 0; warm < 8; warm++) draw(world, 2);
    world->card.model = draw(world, 2) ? CARD_FIFO : CARD_TIMESLICE;
    world->card.count = 1 + (int)draw(world, 4);
    uint32_t left = THROTTLE_QUOTA_WHOLE;
    bool priorities = draw(world, 4) == 0;
    for (int each = 0; each < world->card.count; each++) {
        struct container *one = &world->containers[each];
        uint32_t quota = 500 + (uint32_t)draw(world, left > 600 ? left - 500 : 100);
        if (each == world->card.count - 1 && draw(world, 2) && each > 0) quota = left;
        if (quota > left) quota = left;
        left -= quota < left ? quota : left;
        one->limits = (struct throttle_limits){.core_quota = quota ? quota : 1, .policy = draw(world, 3) == 0};
        one->kernel_ns = pick_kernel(world);
        if (draw(world, 4) == 0) one->gap_ns = 1000 * (1 + draw(world, 3000));
        if (priorities && each > 0) one->limits.priority = THROTTLE_LOW;
        one->page.limits = one->limits;
        one->page.index = (uint32_t)each;
        one->wake_ns = 1000 + draw(world, 100000);
        if (left == 0) { world->card.count = each + 1; break; }
    }
}

static bool judged_alike(const struct world *world) {
    for (int each = 0; each < world->card.count; each++) {
        const struct container *one = &world->containers[each];
        if (one->gap_ns || one->limits.priority || one->limits.policy) return false;
    }
    return true;
}

static void judge(struct world *world, bool verbose) {
    uint64_t whole_ns = END_NS - SETTLED_NS;
    bool alike = judged_alike(world), soft_flood = false;
    for (int each = 0; each < world->card.count; each++) {
        struct container *one = &world->containers[each];
        uint64_t busy_ns = world->card.queues[each].busy_ns - one->settled_busy_ns;
        int64_t share = (int64_t)(busy_ns * THROTTLE_QUOTA_WHOLE / whole_ns), quota = one->limits.core_quota;
        uint64_t error = (uint64_t)(share > quota ? share - quota : quota - share);
        /* A window that holds a whole number of kernels or one more cannot be nearer than a kernel. */
        uint64_t grain = one->kernel_ns * THROTTLE_QUOTA_WHOLE / whole_ns;
        /* What it was owed when the first second ended may still be paid. */
        uint64_t owed = one->settled_owed_ns * THROTTLE_QUOTA_WHOLE / whole_ns;
        if (one->limits.policy == THROTTLE_HARD && share > quota + (int64_t)(POINT + grain + owed))
            broken(world, "above quota", each, (uint64_t)share);
        if (alike && error > POINT + grain) broken(world, "share is not the quota", each, (uint64_t)share);
        if (one->limits.policy == THROTTLE_SOFT && !one->gap_ns && one->limits.priority == 0) soft_flood = true;
        if (one->launches == 0) broken(world, "starved", each, 0);
        uint64_t bound_ns = THROTTLE_WAIT_NS_MAX + THROTTLE_SLICE_NS_MAX;
        /* A kernel's first measurement may hold time of others, at most what a probe gives up after. */
        bound_ns += (3 * one->kernel_ns + THROTTLE_PROBE_NS_MAX) * THROTTLE_QUOTA_WHOLE / one->limits.core_quota;
        if (one->waited_ns_max > bound_ns) broken(world, "waited too long", each, one->waited_ns_max);
        if (one->asked_ns && one->asked_ns + bound_ns < END_NS) broken(world, "waits for ever", each, 0);
        if (verbose)
            printf("seed %llu %s %d: quota %lld share %lld kernel %llu us gap %llu soft %u low %u waited %llu us late %llu cost %llu clean %llu probe %llu\n",
                   (unsigned long long)world->seed, world->card.model ? "timeslice" : "fifo", each, (long long)quota,
                   (long long)share, (unsigned long long)one->kernel_ns / 1000, (unsigned long long)one->gap_ns / 1000,
                   one->limits.policy, one->limits.priority, (unsigned long long)one->waited_ns_max / 1000,
                   (unsigned long long)one->late, (unsigned long long)cost_of(one)->cost_ns,
                   (unsigned long long)cost_of(one)->clean_ns, (unsigned long long)one->probe_started_ns);
    }
    uint64_t busy_ns = world->card.busy_ns - world->settled_busy_ns;
    if (soft_flood && busy_ns < whole_ns / 100 * 98) broken(world, "soft left the card idle", -1, busy_ns);
}

static uint64_t run(struct world *world, uint64_t seed, bool verbose) {
    set_up(world, seed);
    bool settled = false;
    for (;;) {
        int next = 0;
        for (int each = 1; each < world->card.count; each++)
            if (world->containers[each].wake_ns < world->containers[next].wake_ns) next = each;
        uint64_t wake_ns = world->containers[next].wake_ns;
        if (!settled && wake_ns >= SETTLED_NS) {
            card_advance(&world->card, SETTLED_NS);
            for (int each = 0; each < world->card.count; each++) {
                struct container *one = &world->containers[each];
                one->settled_busy_ns = world->card.queues[each].busy_ns;
                one->settled_owed_ns = one->bucket.tokens_ns > 0 ? (uint64_t)one->bucket.tokens_ns : 0;
            }
            world->settled_busy_ns = world->card.busy_ns;
            settled = true;
        }
        if (wake_ns >= END_NS) break;
        card_advance(&world->card, wake_ns);
        step(world, next);
    }
    card_advance(&world->card, END_NS);
    judge(world, verbose);
    return world->broken;
}

int main(int count, char **arguments) {
    static struct world world;
    uint64_t first = count > 1 ? strtoull(arguments[1], 0, 10) : 1, seeds = count > 2 ? strtoull(arguments[2], 0, 10) : 1000;
    uint64_t broken_seeds = 0;
    for (uint64_t seed = first; seed < first + seeds; seed++) broken_seeds += run(&world, seed, count > 3) != 0;
    printf("%llu seeds, %llu s of card time, broken %llu\n", (unsigned long long)seeds,
           (unsigned long long)(seeds * END_NS / 1000000000ull), (unsigned long long)broken_seeds);
    return broken_seeds != 0;
}
