/* What must hold in every world at every step, and over any stretch of time. */
#include "throttle_world.h"

#include <stdio.h>

#define BROKEN_SHOWN 3
#define LOW_PARTS 8u
#define STARVED_NS (1500 * THROTTLE_MS)
#define LAG_PARTS 300u          /* of THROTTLE_QUOTA_WHOLE */
#define IDLE_PARTS 300u
#define IDLE_NS_MAX (2 * THROTTLE_PROBE_CREDIT_NS_MAX)
/* Found in ten thousand seeds, and held: what is charged wrongly before a kernel was seen alone, and when it becomes another
 * one between neighbours that leave no time to see it alone again. */
#define UNCLEAR_NS (250 * THROTTLE_MS)
#define CHANGED_NS (2500 * THROTTLE_MS)
#define LONG_COUNT_MAX 3 /* processes, with kernels that no measurement waits for */
#define LIARS_NS (500 * THROTTLE_MS) /* what those cost who say that they work, and let nobody measure alone */

static uint64_t most(uint64_t one, uint64_t other) { return one > other ? one : other; }

void broken(struct world *world, const char *rule, int container, uint64_t value) {
    if (world->broken++ < BROKEN_SHOWN)
        printf("seed %llu container %d: %s (%llu) at %llu us\n", (unsigned long long)world->seed, container, rule,
               (unsigned long long)value, (unsigned long long)world->card.now_ns / 1000);
}

/* What a process may have on the card at once and beyond what it is charged: as much as it may be ahead, a kernel more, and
 * one that was never seen. */
static uint64_t ahead_max_ns(const struct process *one) {
    uint64_t longest_ns = 0;
    for (int each = 0; each < one->kind_count; each++) longest_ns = most(longest_ns, one->kinds[each].kernel_ns);
    return THROTTLE_AHEAD_NS_HIGH + 2 * longest_ns;
}

void rules_born(struct world *world, int self) {
    const struct process *one = &world->processes[self];
    world->containers[one->container].ahead_max_ns += ahead_max_ns(one);
}

/* What is ahead by what was learned takes so many times as long, and it is believed after a while only. */
void rules_changes(struct world *world, int self) {
    const struct process *one = &world->processes[self];
    uint64_t times = one->times ? one->times : 1;
    world->containers[one->container].ahead_max_ns += times * ahead_max_ns(one) + CHANGED_NS;
}

void rules_begin(struct world *world, int container) {
    struct container *one = &world->containers[container];
    one->judged_from_ns = world->card.now_ns + SETTLED_NS;
}

static uint64_t part_of(uint64_t ns, uint64_t parts) { return ns / THROTTLE_QUOTA_WHOLE * parts + ns % THROTTLE_QUOTA_WHOLE * parts / THROTTLE_QUOTA_WHOLE; }

static uint32_t parts_of(const struct throttle_limits *limits) {
    return throttle_limited(limits) ? limits->core_quota : THROTTLE_QUOTA_WHOLE;
}

/* The time since the last look was a wait for what it said then. */
static void count_wait(struct world *world, struct process *one) {
    uint64_t passed_ns = world->card.now_ns - one->waited_from_ns;
    const struct container *home = &world->containers[one->container];
    one->waited_from_ns = world->card.now_ns;
    if (one->reason == THROTTLE_WAIT_QUOTA || one->reason == THROTTLE_WAIT_ENTITLED)
        one->earned_ns += part_of(passed_ns, parts_of(&home->limits));
    else if (one->reason == THROTTLE_WAIT_TURN) one->turn_ns += passed_ns;
    else if (one->reason != THROTTLE_PASS) one->waited_others_ns += passed_ns;
    if (one->waited_others_ns > most(one->patience_ns, THROTTLE_WAIT_NS_MAX) + THROTTLE_SLICE_NS_MAX)
        broken(world, "waited for others too long", one->container, one->waited_others_ns);
    uint64_t owed_ns = one->debt_ns + home->paid_ns - one->paid_ns + THROTTLE_ROW_NS;
    if (one->earned_ns > owed_ns + 2 * part_of(THROTTLE_SLICE_NS_MAX, parts_of(&home->limits)))
        broken(world, "waited for tokens too long", one->container, one->earned_ns);
    uint64_t each_ns = most(one->patience_ns, THROTTLE_WAIT_NS_MAX) + THROTTLE_SLICE_NS_MAX;
    uint64_t turns_ns = home->paid_ns - one->paid_ns + part_of(PROCESSES_MAX * each_ns, parts_of(&home->limits));
    if (part_of(one->turn_ns, parts_of(&home->limits)) > turns_ns)
        broken(world, "waited for its turn too long", one->container, one->turn_ns);
}

void rules_wait(struct world *world, int self, const struct throttle_decision *decision, const struct throttle_ask *ask) {
    struct process *one = &world->processes[self];
    const struct throttle_bucket *bucket = &world->containers[one->container].bucket;
    if (one->reason == THROTTLE_PASS) {
        one->waited_from_ns = world->card.now_ns;
        one->waited_others_ns = one->earned_ns = one->patience_ns = one->turn_ns = 0;
        one->debt_ns = bucket->tokens_ns < 0 ? (uint64_t)-bucket->tokens_ns : 0;
        one->paid_ns = world->containers[one->container].paid_ns;
    }
    one->patience_ns = most(one->patience_ns, ask->patience_ns);
    count_wait(world, one);
    one->reason = decision->reason;
    if (decision->until_ns <= world->card.now_ns || decision->until_ns > world->card.now_ns + THROTTLE_SLICE_NS_MAX)
        broken(world, "does not look again in time", one->container, decision->until_ns - world->card.now_ns);
}

static bool has_high_work(const struct world *world, const struct container *high) {
    if (high->lie != LIE_NOTHING || high->page.busy_until_ns <= world->card.now_ns) return false;
    for (int each = 0; each < PROCESSES_MAX; each++) {
        const struct process *one = &world->processes[each];
        bool theirs = one->lives && &world->containers[one->container] == high;
        if (theirs && one->first != one->last && one->busy_until_ns > world->card.now_ns) return true;
    }
    return false;
}

void rules_pass(struct world *world, int self, const struct throttle_decision *decision) {
    struct process *one = &world->processes[self];
    const struct container *home = &world->containers[one->container];
    uint64_t now_ns = world->card.now_ns;
    if (one->reason != THROTTLE_PASS) count_wait(world, one);
    one->reason = THROTTLE_PASS;
    one->launches++;
    if (decision->late && now_ns < one->asked_ns + THROTTLE_WAIT_NS_MAX)
        broken(world, "passed late too early", one->container, now_ns - one->asked_ns);
    bool limited = throttle_limited(&home->limits);
    if (limited && !decision->late && one->last - one->first > THROTTLE_AHEAD_LAUNCHES)
        broken(world, "too many in flight", one->container, one->last - one->first);
    if (limited && home->limits.policy == THROTTLE_HARD && home->bucket.tokens_ns <= 0 && !decision->late)
        broken(world, "hard passed without tokens", one->container, 0);
    if (decision->borrowed && (!limited || home->limits.policy == THROTTLE_HARD)) broken(world, "hard borrowed", one->container, 0);
    for (int each = 0; each < world->count; each++) {
        const struct container *other = &world->containers[each];
        if (other->limits.priority >= home->limits.priority || decision->late || !has_high_work(world, other)) continue;
        /* Who was waited for longer than its quota allows is not waited for any more. */
        bool fresh = one->looked_ns > other->page.tokens_at_ns && one->looked_ns + SETTLED_NS > other->judged_from_ns;
        if (fresh && (!throttle_limited(&other->limits) || home->bucket.high_credit_ns > 0))
            broken(world, "low passed while high has work", one->container, (uint64_t)each);
    }
}

static bool within(int64_t value, uint64_t low, uint64_t high) { return value >= -(int64_t)low && value <= (int64_t)high; }

void rules_step(struct world *world, int self) {
    const struct process *one = &world->processes[self];
    const struct throttle_bucket *bucket = &world->containers[one->container].bucket;
    if (!within(bucket->tokens_ns, THROTTLE_DEBT_NS_MAX, THROTTLE_OWED_NS_MAX) && bucket->refilled_ns <= world->card.now_ns)
        broken(world, "tokens out of bounds", one->container, (uint64_t)bucket->tokens_ns);
    if (!within(bucket->probe_credit_ns, THROTTLE_PROBE_CREDIT_NS_MAX, THROTTLE_PROBE_CREDIT_NS_MAX))
        broken(world, "credit of probes out of bounds", one->container, (uint64_t)bucket->probe_credit_ns);
    if (!within(bucket->high_credit_ns, THROTTLE_HIGH_CREDIT_NS_MAX, THROTTLE_HIGH_CREDIT_NS_MAX))
        broken(world, "credit of high out of bounds", one->container, (uint64_t)bucket->high_credit_ns);
    if (one->lives && one->wake_ns <= world->card.now_ns) broken(world, "time stands still", one->container, 0);
}

static bool any(const struct world *world, bool (*is)(const struct container *)) {
    for (int each = 0; each < world->count; each++)
        if (is(&world->containers[each])) return true;
    return false;
}

static bool is_free(const struct container *one) { return !throttle_limited(&one->limits) && one->limits.core_quota == 0; }
static bool is_low(const struct container *one) { return one->limits.priority == THROTTLE_LOW; }
static bool is_liar(const struct container *one) { return one->lie != LIE_NOTHING; }

static bool process_wants(const struct world *world, int self) {
    const struct process *one = &world->processes[self];
    return one->lives && one->gap_ns == 0 && (one->asked_ns || card_has_work(&world->card, self));
}

/* It has work that waits or runs, and does not wait for its own work to end before it has more. */
static bool wants(const struct world *world, int container) {
    for (int each = 0; each < PROCESSES_MAX; each++)
        if (world->processes[each].container == container && process_wants(world, each)) return true;
    return false;
}

/* Until it is seen that others wait, twice, and a kernel; no more, however many there are. */
static uint64_t turns_bound_ns(const struct world *world, int container) {
    uint64_t longest_ns = 0;
    for (int each = 0; each < PROCESSES_MAX; each++)
        if (world->processes[each].container == container) longest_ns = most(longest_ns, ahead_max_ns(&world->processes[each]));
    bool unclear = world->changes || any(world, is_liar);
    return 2 * THROTTLE_SLICE_NS_MAX + longest_ns + (unclear ? UNCLEAR_NS : 0);
}

/* Of those that always want to run each has half of an equal part of what its container has, or more. */
static void judge_turns(struct world *world, int container, uint64_t used_ns) {
    uint64_t wanting = 0;
    for (int each = 0; each < PROCESSES_MAX; each++)
        wanting += world->processes[each].container == container && world->processes[each].lives;
    for (int each = 0; each < PROCESSES_MAX; each++) {
        struct process *one = &world->processes[each];
        if (one->container != container || !one->lives) continue;
        uint64_t own_ns = one->used_ns - one->ticked_used_ns;
        one->ticked_used_ns = one->used_ns;
        bool judged = process_wants(world, each) && world->card.now_ns > one->born_ns + SETTLED_NS &&
                      world->card.now_ns > world->containers[container].judged_from_ns;
        /* Behind its own work it could have had no more. */
        uint64_t due_ns = one->reason == THROTTLE_WAIT_AHEAD ? 0 : used_ns / wanting / 2;
        one->lag_ns = judged && one->lag_ns + due_ns > own_ns ? one->lag_ns + due_ns - own_ns : 0;
        one->lag_max_ns = most(one->lag_max_ns, one->lag_ns);
        /* Where nothing is short each has what it may have in flight, which is a matter of its kernels. */
        const struct container *home = &world->containers[container];
        bool hard = throttle_limited(&home->limits) && home->limits.policy == THROTTLE_HARD && !is_low(home);
        if (!hard) one->lag_ns = 0;
        if (one->lag_ns > turns_bound_ns(world, container))
            broken(world, "its siblings are served before it", container, one->lag_ns);
    }
}

/* Who does not say what it does is a tenant without the hook. */
static bool is_concealing(const struct container *one) { return one->lie == LIE_ANYTHING; }

/* A card on which many have long kernels is not empty in the time that a measurement waits for that. */
static bool is_never_empty(const struct world *world) {
    int count = 0;
    for (int each = 0; each < PROCESSES_MAX; each++)
        count += world->processes[each].lives && ahead_max_ns(&world->processes[each]) > THROTTLE_DRAIN_NS_MAX;
    return count > LONG_COUNT_MAX;
}

static void judge_quota(struct world *world, int container, uint64_t used_ns) {
    struct container *one = &world->containers[container];
    uint32_t parts = parts_of(&one->limits);
    uint64_t earned_ns = part_of(TICK_NS, parts + POINT);
    bool hard = throttle_limited(&one->limits) && one->limits.policy == THROTTLE_HARD;
    one->excess_ns = hard && one->excess_ns + used_ns > earned_ns ? one->excess_ns + used_ns - earned_ns : 0;
    one->excess_max_ns = most(one->excess_max_ns, one->excess_ns);
    uint64_t bound_ns = THROTTLE_OWED_NS_MAX + UNCLEAR_NS + one->ahead_max_ns;
    if (one->excess_ns > bound_ns) broken(world, "above quota", container, one->excess_ns - bound_ns);
}

/* Those of high priority keep low waiting for their part of the time and half of the rest, and work in some of what is left. */
static uint32_t low_parts(const struct world *world, const struct container *low) {
    uint32_t left = THROTTLE_QUOTA_WHOLE;
    for (int each = 0; each < world->count; each++)
        if (!is_low(&world->containers[each])) left -= parts_of(&world->containers[each].limits);
    if (left == THROTTLE_QUOTA_WHOLE) return low->limits.core_quota;
    return left / LOW_PARTS < low->limits.core_quota ? left / LOW_PARTS : low->limits.core_quota;
}

static void judge_entitlement(struct world *world, int container, uint64_t used_ns) {
    struct container *one = &world->containers[container];
    bool wanted = one->wanted;
    one->wanted = wants(world, container);
    bool entitled = throttle_limited(&one->limits) && !any(world, is_free) && !is_liar(one) && !any(world, is_concealing) &&
                    !is_never_empty(world);
    if (!entitled || !wanted || !one->wanted || world->card.now_ns < one->judged_from_ns) {
        one->lag_ns = 0;
        return;
    }
    uint32_t parts = is_low(one) ? low_parts(world, one) : one->limits.core_quota;
    uint64_t due_ns = part_of(TICK_NS, parts > LAG_PARTS ? parts - LAG_PARTS : 0);
    one->lag_ns = one->lag_ns + due_ns > used_ns ? one->lag_ns + due_ns - used_ns : 0;
    one->lag_max_ns = most(one->lag_max_ns, one->lag_ns);
    /* Its processes hold their launches for each other's measurements. */
    uint64_t bound_ns = THROTTLE_OWED_NS_MAX + THROTTLE_PROBE_NS_MAX + (any(world, is_liar) ? LIARS_NS : UNCLEAR_NS);
    for (int each = 0; each < world->count; each++) bound_ns += world->containers[each].ahead_max_ns;
    if (one->lag_ns > bound_ns) broken(world, "behind its quota", container, one->lag_ns - bound_ns);
}

/* Somebody is owed the card or may borrow it, whatever others claim; low priority waits for gaps of high to be long. */
static bool allowed(const struct world *world) {
    bool lies = any(world, is_liar), low = any(world, is_low);
    for (int each = 0; each < PROCESSES_MAX; each++) {
        const struct process *one = &world->processes[each];
        const struct container *home = &world->containers[one->container];
        if (!one->lives || !one->asked_ns || low) continue;
        if (home->bucket.tokens_ns > (int64_t)THROTTLE_OWED_NS_MAX / 2 || (home->limits.policy == THROTTLE_SOFT && !lies)) return true;
    }
    return false;
}

static void judge_work(struct world *world, uint64_t busy_ns) {
    bool wanted = world->wanted;
    world->wanted = allowed(world);
    uint64_t idle_ns = TICK_NS - busy_ns, ignored_ns = part_of(TICK_NS, IDLE_PARTS);
    if (!wanted || !world->wanted || world->card.now_ns < SETTLED_NS) idle_ns = 0;
    world->idle_ns = world->idle_ns + idle_ns > ignored_ns ? world->idle_ns + idle_ns - ignored_ns : 0;
    world->idle_max_ns = most(world->idle_max_ns, world->idle_ns);
    if (world->idle_ns > IDLE_NS_MAX) broken(world, "idle", -1, world->idle_ns);
}

void rules_tick(struct world *world) {
    for (int each = 0; each < world->count; each++) {
        struct container *one = &world->containers[each];
        uint64_t used_ns = one->used_ns - one->ticked_used_ns;
        one->ticked_used_ns = one->used_ns;
        judge_quota(world, each, used_ns);
        judge_entitlement(world, each, used_ns);
        judge_turns(world, each, used_ns);
    }
    judge_work(world, world->card.busy_ns - world->ticked_busy_ns);
    world->ticked_busy_ns = world->card.busy_ns;
}

static void show(const struct world *world) {
    for (int each = 0; each < world->count; each++) {
        const struct container *one = &world->containers[each];
        printf("seed %llu %s %d: changes %d quota %u soft %u low %u lie %d excess %llu us lag %llu us idle %llu us used %llu us busy %llu us\n",
               (unsigned long long)world->seed, world->card.model ? "timeslice" : "fifo", each, world->changes, one->limits.core_quota,
               one->limits.policy, one->limits.priority, (int)one->lie, (unsigned long long)one->excess_max_ns / 1000,
               (unsigned long long)one->lag_max_ns / 1000, (unsigned long long)world->idle_max_ns / 1000,
               (unsigned long long)one->used_ns / 1000, (unsigned long long)one->bucket.busy_ns / 1000);
    }
    for (int each = 0; each < PROCESSES_MAX; each++) {
        const struct process *one = &world->processes[each];
        if (!one->lives) continue;
        printf("   process %d of %d: behind %llu us used %llu us, %llu launches, kernels", each, one->container,
               (unsigned long long)one->lag_max_ns / 1000, (unsigned long long)one->used_ns / 1000, (unsigned long long)one->launches);
        for (int kind = 0; kind < one->kind_count; kind++)
            printf(" %llu(%llu)", (unsigned long long)one->kinds[kind].kernel_ns / 1000, (unsigned long long)one->kinds[kind].cost.cost_ns / 1000);
        printf(" us, gap %llu us, rests %llu of %llu ms\n", (unsigned long long)one->gap_ns / 1000,
               (unsigned long long)(one->rest_ns / THROTTLE_MS), (unsigned long long)((one->rest_ns + one->phase_ns) / THROTTLE_MS));
    }
}

void rules_end(struct world *world) {
    uint64_t busy_ns = 0;
    for (int each = 0; each < world->count; each++) busy_ns += world->containers[each].used_ns;
    for (int each = 0; each < PROCESSES_MAX; each++) {
        const struct process *one = &world->processes[each];
        /* Behind own work that was never measured, and while others are served, it waits longer, see count_wait. */
        bool served = one->reason == THROTTLE_WAIT_QUOTA || one->reason == THROTTLE_WAIT_TURN;
        bool waits = one->lives && one->asked_ns && one->unknown == 0 && !served && one->asked_ns + STARVED_NS < world->card.now_ns;
        if (waits && world->containers[one->container].bucket.tokens_ns > 0) broken(world, "starved", one->container, one->launches);
    }
    if (busy_ns != world->card.busy_ns) broken(world, "the parts are not the whole", -1, busy_ns);
    if (world->verbose) show(world);
}
