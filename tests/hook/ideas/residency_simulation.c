/* Containers on one card with paged memory, by discrete events: what residency.c decides, over hours, from a seed.
 *
 *     residency_simulation SCENARIO SEED [LAST_SEED]
 *
 * prints one line of figures (of the last seed) and fails at the first broken invariant. Of many seeds each has a few
 * minutes. The card is a queue: one kernel at a time. Memory
 * comes in chunks, least recently used goes first, moving a chunk in or out costs its size over the link. Every
 * container keeps its own plan until that plan's valid_until_ns, as the hook does, so plans are a little out of date. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "residency.h"

#ifndef CHUNK_MIB
#define CHUNK_MIB 128
#endif
#define CHUNK_BYTES ((uint64_t)CHUNK_MIB << 20)
#define CARD_CHUNKS (16384 / CHUNK_MIB) /* 16 GiB */
#define MEMBERS_MAX RESIDENCY_MEMBER_COUNT_MAX
#define RANDOM_COUNT_MAX 16
#define MS RESIDENCY_MILLISECOND_NS
#define SECOND (1000 * MS)
#define CHUNK_NS (CHUNK_BYTES * SECOND / RESIDENCY_LINK_BYTES_PER_SECOND)
#define NEVER UINT64_MAX
#define MANY_SEEDS_HORIZON_NS (240 * SECOND)

enum behaviour { HONEST, LIAR, DIES };

struct container {
    enum behaviour behaviour;
    int chunks, pinned_chunks;
    uint64_t kernel_ns, pause_ns; /* pause after each burst */
    int burst;                    /* kernels between pauses */
    uint64_t work_ns, start_ns;   /* kernels to run altogether, and when the first one comes */
    /* running: */
    uint64_t ready_ns, asked_ns, done_ns, ran_ns, in_flight_until_ns, wait_ns_max;
    int in_burst;
    uint64_t touched[CARD_CHUNKS * 2]; /* 0: on the host or never used */
    bool populated[CARD_CHUNKS * 2];
    struct residency_plan plan;
    struct residency_observer observer;
};

static struct {
    struct container containers[MEMBERS_MAX];
    struct residency_member members[MEMBERS_MAX];
    int count;
    uint64_t card_free_ns, moved_chunks, seed, horizon_ns;
    int resident_chunks;
    bool turns_off; /* for comparison: the driver alone */
    uint64_t turn_slots, overlap_ns_max, high_ran_ns;
} world;

static uint64_t dice(uint64_t sides) { /* xorshift64* */
    world.seed ^= world.seed << 13, world.seed ^= world.seed >> 7, world.seed ^= world.seed << 17;
    return sides == 0 ? 0 : (world.seed * UINT64_C(0x2545F4914F6CDD1D) >> 33) % sides;
}

static void hold(bool truth, const char *invariant, uint64_t now_ns, int who) {
    if (!truth) {
        printf("broken: %s at %" PRIu64 " ms, container %d\n", invariant, now_ns / MS, who);
        exit(1);
    }
}

static void put_out(struct container *from, int chunk) {
    from->touched[chunk] = 0;
    world.resident_chunks--;
    world.moved_chunks++;
}

static void evict_oldest(int only) {
    struct container *victim = NULL;
    int victim_chunk = -1;
    uint64_t oldest_ns = NEVER;
    for (int i = 0; i < world.count; i++) {
        struct container *container = &world.containers[i];
        for (int c = container->pinned_chunks; c < container->chunks && (only < 0 || only == i); c++) {
            if (container->touched[c] != 0 && container->touched[c] < oldest_ns) {
                oldest_ns = container->touched[c];
                victim = container;
                victim_chunk = c;
            }
        }
    }
    hold(victim != NULL, "somebody's page can go", 0, only);
    put_out(victim, victim_chunk);
}

/* The kernel's pages come in; returns what that cost. A chunk beyond the target is read over the link where it lies. */
static uint64_t touch(struct container *container, uint64_t now_ns, int target_chunks) {
    uint64_t cost_ns = 0;
    for (int c = 0; c < container->chunks; c++) {
        if (container->touched[c] == 0 && c >= target_chunks) {
            container->populated[c] = true;
            cost_ns += CHUNK_NS;
            continue;
        }
        if (container->touched[c] == 0) {
            if (world.resident_chunks == CARD_CHUNKS) {
                evict_oldest(-1);
                cost_ns += CHUNK_NS;
            }
            if (container->populated[c]) { /* the first touch makes the page on the card */
                cost_ns += CHUNK_NS;
                world.moved_chunks++;
            }
            container->populated[c] = true;
            world.resident_chunks++;
        }
        container->touched[c] = now_ns + 1 + (uint64_t)c;
    }
    hold(world.resident_chunks <= CARD_CHUNKS, "resident sum <= card", now_ns, -1);
    return cost_ns;
}

static int resident(const struct container *container) {
    int sum = 0;
    for (int c = 0; c < container->chunks; c++) {
        sum += container->touched[c] != 0;
    }
    return sum;
}

/* Who waits has a thread to move its pages with; the link is taken for so long, and so is the card, to be unkind. */
static void move_out(int self, uint64_t now_ns) {
    struct container *container = &world.containers[self];
    uint64_t start_ns = world.card_free_ns > now_ns ? world.card_free_ns : now_ns;
    uint64_t cost_ns = 0;
    int target_chunks = (int)(container->plan.target_bytes[self] / CHUNK_BYTES);
    while (resident(container) > (target_chunks > container->pinned_chunks ? target_chunks : container->pinned_chunks)) {
        evict_oldest(self);
        cost_ns += CHUNK_NS;
    }
    world.card_free_ns = cost_ns != 0 ? start_ns + cost_ns : world.card_free_ns;
}

static void lie(struct residency_member *page, uint64_t now_ns) {
    page->active_ns = dice(2) ? now_ns : dice(NEVER);
    page->active_since_ns = dice(2) ? 1 : dice(NEVER);
    page->movable_bytes = dice(2) ? NEVER : dice(NEVER);
    page->pinned_bytes = dice(2) ? 0 : dice(4) * CHUNK_BYTES;
    page->in_flight_since_ns = dice(2) ? 0 : now_ns;
    page->in_flight_estimate_ns = dice(NEVER);
    page->round_trip_ns = dice(2) ? NEVER : dice(NEVER);
    page->thrash_until_ns = NEVER;
}

static void look(int self, uint64_t now_ns) {
    struct container *container = &world.containers[self];
    struct residency_member *page = &world.members[self];
    if (now_ns - page->active_ns >= residency_hold_ns(page) || page->active_ns == 0) {
        page->active_since_ns = now_ns;
    }
    page->active_ns = now_ns;
    for (int i = 0; i < world.count; i++) { /* each notices the end of its own work; a dead one never does */
        bool ended = world.containers[i].in_flight_until_ns <= now_ns && !(world.containers[i].behaviour == DIES && world.containers[i].ready_ns == NEVER);
        world.members[i].in_flight_since_ns = ended ? 0 : world.members[i].in_flight_since_ns;
    }
    if (container->behaviour == LIAR) {
        lie(page, now_ns);
    }
    if (container->plan.valid_until_ns <= now_ns) {
        uint64_t before_ns = container->plan.turn_start_ns;
        residency_plan(&container->plan, world.members, world.count, CARD_CHUNKS * CHUNK_BYTES, now_ns);
        world.turn_slots += container->plan.mode == RESIDENCY_TURNS && container->plan.turn_start_ns != before_ns;
        uint64_t sum_bytes = 0;
        for (int i = 0; i < world.count; i++) {
            sum_bytes += container->plan.target_bytes[i];
        }
        hold(sum_bytes <= CARD_CHUNKS * CHUNK_BYTES || container->plan.mode != RESIDENCY_TURNS, "targets fit the card", now_ns, self);
    }
}

/* Work in flight of those that should wait while this one submits; what was submitted before turns began is excused. */
static void note_overlap(int self, uint64_t now_ns) {
    const struct residency_plan *plan = &world.containers[self].plan;
    for (int i = 0; i < world.count && plan->mode == RESIDENCY_TURNS; i++) {
        bool gated = world.containers[i].behaviour == HONEST && world.containers[i].plan.mode == RESIDENCY_TURNS;
        bool other = (plan->waiting >> i & 1) && (plan->holders >> self & 1) && gated;
        uint64_t until_ns = world.containers[i].in_flight_until_ns;
        if (other && until_ns > now_ns && until_ns - now_ns > world.overlap_ns_max) {
            world.overlap_ns_max = until_ns - now_ns;
        }
    }
}

static void submit(int self, uint64_t now_ns) {
    struct container *container = &world.containers[self];
    bool target_holds = container->plan.mode == RESIDENCY_TURNS && !world.turns_off;
    int target_chunks = target_holds ? (int)(container->plan.target_bytes[self] / CHUNK_BYTES) : container->chunks;
    if (target_chunks > container->chunks) {
        target_chunks = container->chunks;
    }
    uint64_t start_ns = world.card_free_ns > now_ns ? world.card_free_ns : now_ns;
    note_overlap(self, now_ns);
    uint64_t moving_ns = touch(container, start_ns, target_chunks);
    uint64_t end_ns = start_ns + container->kernel_ns + moving_ns;
    struct residency_member *page = &world.members[self];
    if (container->plan.mode == RESIDENCY_TOGETHER && !world.turns_off &&
        residency_observe(&container->observer, &container->plan, end_ns - start_ns, container->kernel_ns, now_ns)) {
        page->thrash_until_ns = container->observer.thrash_until_ns;
    }
    uint64_t set_bytes = (uint64_t)container->chunks * CHUNK_BYTES;
    page->round_trip_ns = residency_round_trip_ns(page->round_trip_ns, set_bytes, moving_ns / CHUNK_NS / 2 * CHUNK_BYTES, moving_ns / 2);
    page->in_flight_since_ns = now_ns;
    page->in_flight_estimate_ns = container->kernel_ns;
    container->in_flight_until_ns = end_ns;
    world.card_free_ns = end_ns;
    container->ran_ns += container->kernel_ns;
    container->done_ns = end_ns;
    container->ready_ns = end_ns;
    if (++container->in_burst >= container->burst) {
        container->in_burst = 0;
        container->ready_ns += container->pause_ns;
    }
    container->asked_ns = container->ready_ns;
    bool dies = container->behaviour == DIES && container->ran_ns > container->work_ns / 2;
    if (container->ran_ns >= container->work_ns || dies) {
        container->ready_ns = NEVER;
        for (int c = 0; c < container->chunks; c++) { /* the driver gives a dead process' memory back */
            world.resident_chunks -= container->touched[c] != 0;
            container->touched[c] = 0;
        }
        page->movable_bytes = dies ? page->movable_bytes : 0;
        page->pinned_bytes = dies ? page->pinned_bytes : 0;
        page->in_flight_since_ns = dies ? page->in_flight_since_ns : 0;
    }
}

static uint64_t high_until_ns(void) {
    uint64_t until_ns = 0;
    for (int i = 0; i < world.count; i++) {
        uint64_t end_ns = world.containers[i].in_flight_until_ns;
        until_ns = world.members[i].high && end_ns > until_ns ? end_ns : until_ns;
    }
    return until_ns;
}

static void run(void) {
    for (;;) {
        int next = -1;
        for (int i = 0; i < world.count; i++) {
            if (world.containers[i].ready_ns != NEVER && (next < 0 || world.containers[i].ready_ns < world.containers[next].ready_ns)) {
                next = i;
            }
        }
        if (next < 0 || world.containers[next].ready_ns > world.horizon_ns) {
            return;
        }
        struct container *container = &world.containers[next];
        uint64_t now_ns = container->ready_ns;
        look(next, now_ns);
        uint64_t until_ns = world.turns_off ? 0 : residency_wait_until_ns(&container->plan, world.members, world.count, next, now_ns);
        if (until_ns == 0 && !world.members[next].high && high_until_ns() > now_ns) {
            container->ready_ns = high_until_ns(); /* strict priority, which is throttle.c's */
            continue;
        }
        hold(until_ns == 0 || (until_ns > now_ns && until_ns <= now_ns + RESIDENCY_POLL_NS), "one wait is short", now_ns, next);
        uint64_t waited_ns = now_ns - container->asked_ns;
        container->wait_ns_max = waited_ns > container->wait_ns_max ? waited_ns : container->wait_ns_max;
        if (until_ns == 0) {
            submit(next, now_ns);
        } else {
            if (container->plan.waiting >> next & 1) {
                move_out(next, now_ns);
            }
            container->ready_ns = until_ns;
        }
    }
}

static struct container *add(int chunks, uint64_t kernel_ns, uint64_t work_ns, bool high) {
    struct container *container = &world.containers[world.count];
    struct residency_member *member = &world.members[world.count];
    world.count++;
    memset(container, 0, sizeof *container);
    memset(member, 0, sizeof *member);
    container->chunks = chunks;
    container->kernel_ns = kernel_ns;
    container->work_ns = work_ns;
    container->burst = 1;
    member->present = true;
    member->high = high;
    member->memory_quota_bytes = CARD_CHUNKS * CHUNK_BYTES;
    member->movable_bytes = (uint64_t)chunks * CHUNK_BYTES;
    return container;
}

static void random_world(bool with_liar) {
    world.horizon_ns = 7200 * SECOND;
    int count = 2 + (int)dice(RANDOM_COUNT_MAX - 2);
    for (int i = 0; i < count; i++) {
        struct container *container = add(CARD_CHUNKS / 32 + (int)dice(CARD_CHUNKS * 15 / 16), (1 + dice(100)) * MS, (10 + dice(120)) * SECOND, dice(6) == 0);
        container->pinned_chunks = (int)dice(3) * (container->chunks > 8);
        container->burst = 1 + (int)dice(50);
        container->pause_ns = dice(3) == 0 ? dice(8000) * MS : 0;
        container->start_ns = dice(60) * SECOND;
        struct residency_member *member = &world.members[world.count - 1];
        member->pinned_bytes = (uint64_t)container->pinned_chunks * CHUNK_BYTES;
        member->movable_bytes -= member->pinned_bytes;
        member->resident_bytes_min = dice(4) == 0 ? dice(CARD_CHUNKS / 16) * CHUNK_BYTES : 0;
        container->behaviour = dice(8) == 0 ? DIES : HONEST;
    }
    if (with_liar) {
        world.containers[0].behaviour = LIAR;
    }
}

static bool build(const char *scenario) {
    world.horizon_ns = 20000 * SECOND;
    if (strcmp(scenario, "two") == 0 || strcmp(scenario, "two-unaided") == 0) {
        world.turns_off = strcmp(scenario, "two-unaided") == 0;
        for (int i = 0; i < 2; i++) { /* at 300 s each the last turns, cut short by the end, still count little */
            add(CARD_CHUNKS * 9 / 10, (10 + dice(20)) * MS, world.turns_off ? 10 * SECOND : 600 * SECOND, false)->start_ns = dice(SECOND);
        }
    } else if (strcmp(scenario, "fits") == 0) {
        for (int i = 0; i < 4; i++) {
            add(CARD_CHUNKS / 4, (1 + dice(20)) * MS, 60 * SECOND, dice(2))->pause_ns = dice(300) * MS;
        }
    } else if (strcmp(scenario, "pairs") == 0) { /* any two of the three fit together */
        for (int i = 0; i < 3; i++) {
            add(CARD_CHUNKS * 2 / 5, (5 + dice(20)) * MS, 300 * SECOND, false);
        }
    } else if (strcmp(scenario, "high") == 0 || strcmp(scenario, "high-unaided") == 0) {
        world.turns_off = strcmp(scenario, "high-unaided") == 0;
        struct container *high = add(CARD_CHUNKS * 6 / 10, 10 * MS, 300 * SECOND, true);
        high->burst = 20; /* 200 ms of work, 100 ms of pause in which others may run */
        high->pause_ns = 100 * MS;
        for (int i = 0; i < 3; i++) {
            add(CARD_CHUNKS * (3 + i) / 10, MS, 100000 * SECOND, false);
        }
        world.horizon_ns = 600 * SECOND;
    } else if (strncmp(scenario, "random", 6) == 0 || strcmp(scenario, "liar") == 0) {
        world.turns_off = strcmp(scenario, "random-unaided") == 0;
        random_world(strcmp(scenario, "liar") == 0);
    } else {
        return false;
    }
    for (int i = 0; i < world.count; i++) {
        world.containers[i].ready_ns = world.containers[i].asked_ns = 1 + world.containers[i].start_ns;
    }
    return true;
}

/* Nobody waits longer than a round of the longest turns; a low one among high ones RESIDENCY_LOW_PERIOD times that. */
static void check_waits(void) {
    uint64_t bound_ns = 2 * (uint64_t)world.count * RESIDENCY_TURN_NS_MAX;
    for (int i = 0; i < world.count; i++) {
        bool behind_high = !world.members[i].high;
        hold(world.containers[i].wait_ns_max <= bound_ns * (behind_high ? RESIDENCY_LOW_PERIOD : 1), "nobody starves", 0, i);
    }
}

static void print_figures(void) {
    uint64_t work_ns = 0, end_ns = 0, unfinished = 0, wait_ns_max = 0;
    for (int i = 0; i < world.count; i++) {
        const struct container *container = &world.containers[i];
        work_ns += container->ran_ns;
        end_ns = container->done_ns > end_ns ? container->done_ns : end_ns;
        unfinished += container->ready_ns != NEVER;
        wait_ns_max = container->wait_ns_max > wait_ns_max ? container->wait_ns_max : wait_ns_max;
    }
    const struct container *first = &world.containers[0]; /* of `high` the high priority */
    uint64_t alone_ns = first->work_ns + (first->work_ns / first->kernel_ns / (uint64_t)first->burst - 1) * first->pause_ns;
    printf("end_s=%.0f efficiency_percent=%.2f moved_gib=%.1f unfinished=%" PRIu64 " turns=%" PRIu64 " wait_s_max=%.1f overlap_ms_max=%.1f first_slower_percent=%.2f\n",
           (double)end_ns / 1e9, 100.0 * (double)work_ns / (double)end_ns, (double)(world.moved_chunks * CHUNK_BYTES) / 1073741824.0, unfinished, world.turn_slots,
           (double)wait_ns_max / 1e9, (double)world.overlap_ns_max / 1e6, 100.0 * ((double)(first->done_ns - first->start_ns) / (double)alone_ns - 1.0));
}

static bool simulate(const char *scenario, uint64_t seed, uint64_t horizon_ns) {
    memset(&world, 0, sizeof world);
    world.seed = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    if (!build(scenario)) {
        return false;
    }
    world.horizon_ns = horizon_ns < world.horizon_ns ? horizon_ns : world.horizon_ns;
    run();
    check_waits();
    return true;
}

int main(int argc, char **argv) {
    uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    uint64_t last = argc > 3 ? strtoull(argv[3], NULL, 10) : first;
    for (uint64_t seed = first; argc >= 3 && seed <= last; seed++) {
        if (!simulate(argv[1], seed, last > first ? MANY_SEEDS_HORIZON_NS : NEVER)) {
            break;
        }
        if (seed == last) {
            print_figures();
            return 0;
        }
    }
    fprintf(stderr, "usage: residency_simulation two|two-unaided|fits|pairs|high|high-unaided|random|random-unaided|liar SEED [LAST]\n");
    return 2;
}
