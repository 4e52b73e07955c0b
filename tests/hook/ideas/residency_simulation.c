/* Containers on one card with paged memory, by discrete events: what residency.c decides, over hours, from a seed.
 *
 *     residency_simulation SCENARIO SEED [LAST_SEED]
 *
 * prints one line of figures (of the last seed) and fails at the first broken invariant. Of many seeds each has a few
 * minutes. The card is a queue: one kernel at a time. Memory comes in chunks, least recently used goes first, moving a chunk in or out costs its size over the link. Every
 * container keeps its own plan until that plan's valid_until_ns, as the hook does, so plans are a little out of date. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "residency_world.h"

struct world world;

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
    if (container->behaviour == LIES) {
        lie(page, container->lie, now_ns);
    }
    if (container->plan.valid_until_ns <= now_ns) {
        uint64_t before_ns = container->plan.turn_start_ns;
        memcpy(container->members, world.members, (size_t)world.count * sizeof world.members[0]);
        for (int i = 0; i < world.count && !world.credulous; i++) {
            if (i != self) {
                residency_believe(&container->beliefs[i], &container->members[i], now_ns);
            }
        }
        residency_plan(&container->plan, container->members, world.count, CARD_CHUNKS * CHUNK_BYTES, now_ns);
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
    bool moved = moving_ns > (uint64_t)container->chunks * CHUNK_NS / BELIEVABLE_PARTS;
    if (moved && container->behaviour != LIES) { /* else most pages had stayed */
        page->round_trip_ns = residency_round_trip_ns(page, end_ns - now_ns - container->kernel_ns);
    }
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

/* -1: all honest work is done. */
static int next_ready(void) {
    int next = -1;
    bool honest = false;
    for (int i = 0; i < world.count; i++) {
        const struct container *container = &world.containers[i];
        if (container->ready_ns != NEVER && (next < 0 || container->ready_ns < world.containers[next].ready_ns)) {
            next = i;
        }
        honest |= container->ready_ns != NEVER && container->behaviour != LIES;
    }
    return honest ? next : -1;
}

static void run(void) {
    for (;;) {
        int next = next_ready();
        if (next < 0 || world.containers[next].ready_ns > world.horizon_ns) {
            return;
        }
        struct container *container = &world.containers[next];
        uint64_t now_ns = container->ready_ns;
        look(next, now_ns);
        uint64_t until_ns = world.turns_off ? 0 : residency_wait_until_ns(&container->plan, container->members, world.count, next, now_ns);
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

/* Nobody waits longer than two rounds of the longest turns; a low one among high ones, of its rarer ones too. */
static void check_waits(void) {
    uint64_t round_ns = (uint64_t)world.count * RESIDENCY_TURN_NS_MAX;
    uint64_t low_round_ns = (uint64_t)world.count * RESIDENCY_LOW_PERIOD * RESIDENCY_LOW_TURN_NS_MAX;
    for (int i = 0; i < world.count; i++) {
        uint64_t bound_ns = 2 * (world.members[i].high ? round_ns : round_ns + low_round_ns);
        hold(world.containers[i].wait_ns_max <= bound_ns, "nobody starves", 0, i);
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
    fprintf(stderr, "usage: residency_simulation two|two-unaided|fits|pairs|high|high-unaided|against-LIE[-credulous]|random|random-unaided|liar SEED [LAST]\n");
    return 2;
}
