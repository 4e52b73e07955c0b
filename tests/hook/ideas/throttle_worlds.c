/* Worlds from seeds: who is on the card, what it runs, and what happens to it. */
#include "throttle_world.h"

#include <string.h>

#define QUOTA_MIN 500u
#define CHANGE_NS_MEAN (300 * THROTTLE_MS)
#define LIE_NS (5 * THROTTLE_MS) /* that who lies now and then does, and does not */
#define REAP_NS_MAX (1000 * THROTTLE_MS)
#define END_NS_MIN (2000 * THROTTLE_MS)

uint64_t draw(struct world *world, uint64_t limit) {
    world->random ^= world->random << 13;
    world->random ^= world->random >> 7;
    world->random ^= world->random << 17;
    return (world->random >> 11) % limit;
}

static bool one_of(struct world *world, uint64_t count) { return draw(world, count) == 0; }

uint64_t kernel_of(const struct process *one, int kind) { return one->kinds[kind].kernel_ns; }

static uint64_t pick_kernel_ns(struct world *world) {
    static const uint32_t kernels_us[] = {50, 100, 200, 500, 1000, 2000, 5000, 20000};
    return kernels_us[draw(world, 8)] * 1000ull;
}

static int free_place(const struct world *world) {
    for (int each = 0; each < PROCESSES_MAX; each++)
        if (!world->processes[each].lives && !world->processes[each].dead_unreaped && !card_has_work(&world->card, each)) return each;
    return -1;
}

static void bear(struct world *world, int container) {
    int place = free_place(world);
    if (place < 0) return;
    struct process *one = &world->processes[place];
    uint64_t now_ns = world->card.now_ns;
    memset(one, 0, sizeof *one);
    one->lives = true;
    one->container = container;
    one->born_ns = now_ns + 1000 + draw(world, 100000);
    one->wake_ns = one->born_ns;
    one->dies_ns = NEVER;
    one->changes_ns = NEVER;
    one->kind_count = one_of(world, 4) ? 2 + (int)draw(world, KINDS_MAX - 1) : 1;
    for (int each = 0; each < one->kind_count; each++) one->kinds[each].kernel_ns = pick_kernel_ns(world);
    if (one_of(world, 4)) one->gap_ns = 1000 * (1 + draw(world, 3000));
    if (one_of(world, 6)) {
        one->phase_ns = (10 + draw(world, 500)) * THROTTLE_MS;
        one->rest_ns = (1 + draw(world, 500)) * THROTTLE_MS;
    }
    rules_born(world, place);
    if (!world->changes) return;
    if (one_of(world, 3)) {
        one->changes_ns = now_ns + draw(world, 2000) * THROTTLE_MS;
        one->times = one_of(world, 2) ? 0 : 2 + (unsigned)draw(world, 30);
    }
    if (one_of(world, 3)) one->dies_ns = now_ns + draw(world, 2000) * THROTTLE_MS;
    world->births += now_ns > 0;
}

/* `usage` and pages outlive a restart of the node: their moments are of another clock. */
static void age(struct world *world, struct container *one) {
    uint64_t ahead_ns = BELIEVED_BUSY_NS_MAX + (5000 + draw(world, 100000)) * THROTTLE_MS;
    struct throttle_bucket *bucket = &one->bucket;
    bucket->tokens_ns = (int64_t)draw(world, THROTTLE_OWED_NS_MAX);
    bucket->refilled_ns = bucket->wanted_ns = bucket->busy_until_ns = bucket->work_end_ns = ahead_ns;
    bucket->turn_until_ns = bucket->departed_ns = bucket->high_refilled_ns = bucket->high_honoured_ns = bucket->probe_until_ns = ahead_ns;
    one->page.busy_until_ns = one->page.hold_until_ns = one->page.probe_until_ns = one->page.wanting_until_ns = ahead_ns;
    one->page.busy_ns = bucket->busy_ns = draw(world, 1000000) * THROTTLE_MS;
    one->page.tokens_at_ns = ahead_ns;
}

static uint32_t quota_left(const struct world *world, int except) {
    uint32_t left = THROTTLE_QUOTA_WHOLE;
    for (int each = 0; each < world->count; each++)
        if (each != except && throttle_limited(&world->containers[each].limits))
            left -= world->containers[each].limits.core_quota < left ? world->containers[each].limits.core_quota : left;
    return left;
}

static uint32_t pick_quota(struct world *world, uint32_t left, bool last) {
    if (last && one_of(world, 2)) return left;
    uint32_t quota = QUOTA_MIN + (uint32_t)draw(world, left > QUOTA_MIN + 100 ? left - QUOTA_MIN : 100);
    return quota < left ? quota : left;
}

void world_begin(struct world *world, uint64_t seed) {
    bool verbose = world->verbose;
    memset(world, 0, sizeof *world);
    world->verbose = verbose;
    world->seed = seed;
    world->random = seed * 0x9e3779b97f4a7c15ull + 1;
    for (int warm = 0; warm < 8; warm++) draw(world, 2);
    card_begin(&world->card, one_of(world, 2) ? CARD_FIFO : CARD_TIMESLICE);
    int wanted = 1 + (int)draw(world, CONTAINERS_MAX - 1);
    bool priorities = one_of(world, 3), liars = one_of(world, 2), many = one_of(world, 2), aged = one_of(world, 6);
    world->changes = one_of(world, 2);
    world->varying = one_of(world, 4) ? 20 : 0;
    world->end_ns = END_NS_MIN + draw(world, 3) * SETTLED_NS;
    for (int each = 0; each < wanted && quota_left(world, -1) > 0; each++) {
        struct container *one = &world->containers[world->count++];
        one->limits.core_quota = pick_quota(world, quota_left(world, each), each + 1 == wanted);
        one->limits.policy = one_of(world, 3) ? THROTTLE_SOFT : THROTTLE_HARD;
        one->limits.priority = priorities && each > 0 ? THROTTLE_LOW : THROTTLE_HIGH;
        if (priorities && one_of(world, 6)) one->limits.core_quota = 0;
        if (liars && one_of(world, 2)) {
            one->lie = 1 + (enum lie)draw(world, LIE_COUNT - 1);
            one->fickle = one_of(world, 3);
            world->liars++;
        }
        if (aged) age(world, one);
        int processes = many && one_of(world, 2) ? 2 + (int)draw(world, 3) : one->lie && one_of(world, 3) ? 0 : 1;
        for (int process = 0; process < processes; process++) bear(world, each);
    }
    for (int each = 0; each < world->count; each++) rules_begin(world, each);
    world->change_ns = world->changes ? draw(world, 2 * CHANGE_NS_MEAN) : NEVER;
    if (world->liars > 0) world->change_ns = 0;
}

static void lie(struct world *world, const struct container *one, uint64_t *words) {
    uint64_t now_ns = world->card.now_ns, sign_ns = now_ns + BELIEVED_SIGN_NS_MAX - 1;
    bool all = one->lie == LIE_ALL;
    if (one->lie == LIE_WANTING || all) words[BELIEVED_WORD(wanting_until_ns)] = sign_ns;
    if (one->lie == LIE_BUSY || all) words[BELIEVED_WORD(busy_until_ns)] = now_ns + BELIEVED_BUSY_NS_MAX - 1;
    if (one->lie == LIE_HOLD || all) words[BELIEVED_WORD(hold_until_ns)] = sign_ns;
    if (one->lie == LIE_PROBE || all) words[BELIEVED_WORD(probe_until_ns)] = sign_ns;
    if (one->lie == LIE_FROZEN || all) words[BELIEVED_WORD(busy_ns)] = one->said_ns;
    if (one->lie == LIE_GROWS) words[BELIEVED_WORD(busy_ns)] += one->said_ns;
    if (one->lie == LIE_TOKENS || all) words[BELIEVED_WORD(tokens_ns)] = one_of(world, 2) ? INT64_MAX : (uint64_t)INT64_MIN;
    if (one->lie == LIE_TOKENS || all) words[BELIEVED_WORD(tokens_at_ns)] = draw(world, 2) * now_ns;
    if (one->lie != LIE_ANYTHING) return;
    for (size_t word = 0; word < BELIEVED_WORD_COUNT; word++)
        words[word] = one_of(world, 4) ? now_ns + draw(world, 20000 * THROTTLE_MS) : one_of(world, 2) ? UINT64_MAX : world->random;
}

void world_page(struct world *world, int container, uint64_t *words) {
    const struct container *one = &world->containers[container];
    memcpy(words, &one->page, BELIEVED_BYTES);
    if (one->lies) lie(world, one, words);
}

/* The agent never gives out more than the card. */
static void change_limits(struct world *world) {
    int which = (int)draw(world, (uint64_t)world->count);
    struct container *one = &world->containers[which];
    switch (draw(world, 3)) {
    case 0:
        if (throttle_limited(&one->limits) && quota_left(world, which) > 0)
            one->limits.core_quota = pick_quota(world, quota_left(world, which), false);
        break;
    case 1: one->limits.policy = !one->limits.policy; break;
    default: one->limits.priority = !one->limits.priority; break;
    }
    world->changed++;
    for (int each = 0; each < world->count; each++) rules_begin(world, each);
}

static void die(struct world *world, int self) {
    struct process *one = &world->processes[self];
    card_kill(&world->card, self);
    one->lives = false;
    one->dead_unreaped = true;
    one->wake_ns = NEVER;
    one->reaped_ns = world->card.now_ns + draw(world, REAP_NS_MAX);
    world->deaths++;
    if (one_of(world, 2)) bear(world, one->container);
}

static void change_process(struct world *world, int self) {
    struct process *one = &world->processes[self];
    uint64_t now_ns = world->card.now_ns;
    if (one->dead_unreaped && now_ns >= one->reaped_ns) shell_reap_dead(world, self);
    if (!one->lives) return;
    if (now_ns >= one->changes_ns) {
        rules_changes(world, self);
        for (int each = 0; each < one->kind_count; each++) {
            if (one->times == 0) one->kinds[each] = (struct kind){.kernel_ns = pick_kernel_ns(world)};
            else one->kinds[each].kernel_ns *= one->times;
        }
        if (one->times == 0) rules_changes(world, self);
        one->epoch += one->times == 0;
        one->changes_ns = NEVER;
        world->changed++;
        rules_begin(world, one->container);
    }
    if (now_ns >= one->dies_ns) die(world, self);
}

static void change_mind(struct world *world, struct container *one) {
    if (one->lie == LIE_NOTHING) return;
    bool lied = one->lies;
    one->lies = !one->fickle || one_of(world, 2);
    if (one->lie == LIE_GROWS) one->said_ns += draw(world, 2) * 2 * LIE_NS;
    else if (!lied) one->said_ns = one->page.busy_ns;
}

void world_change(struct world *world) {
    uint64_t now_ns = world->card.now_ns;
    for (int each = 0; each < world->count; each++)
        change_mind(world, &world->containers[each]);
    for (int each = 0; each < PROCESSES_MAX; each++) change_process(world, each);
    if (world->changes && one_of(world, CHANGE_NS_MEAN / LIE_NS)) {
        if (one_of(world, 2)) change_limits(world);
        else bear(world, (int)draw(world, (uint64_t)world->count));
    }
    world->change_ns = world->changes || world->liars > 0 ? now_ns + LIE_NS / 2 + draw(world, LIE_NS) : NEVER;
}
