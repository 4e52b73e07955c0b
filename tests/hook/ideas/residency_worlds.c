/* The scenarios: who is on the card, and what the liars among them write. */
#include <stdlib.h>
#include <string.h>

#include "residency_world.h"

uint64_t dice(uint64_t sides) { /* xorshift64* */
    world.seed ^= world.seed << 13, world.seed ^= world.seed >> 7, world.seed ^= world.seed << 17;
    return sides == 0 ? 0 : (world.seed * UINT64_C(0x2545F4914F6CDD1D) >> 33) % sides;
}

static void lie_anything(struct residency_member *page, uint64_t now_ns) {
    page->active_ns = dice(2) ? now_ns : dice(NEVER);
    page->active_since_ns = dice(2) ? 1 : dice(NEVER);
    page->movable_bytes = dice(2) ? NEVER : dice(NEVER);
    page->pinned_bytes = dice(2) ? 0 : dice(4) * CHUNK_BYTES;
    page->in_flight_since_ns = dice(2) ? 0 : now_ns;
    page->in_flight_estimate_ns = dice(NEVER);
    page->round_trip_ns = dice(2) ? NEVER : dice(NEVER);
    page->thrash_until_ns = NEVER;
}

/* The most that can be claimed; then some of it is taken back, or not. */
void lie(struct residency_member *page, enum lie how, uint64_t now_ns) {
    bool now = dice(2);
    if (how == LIE_ANYTHING) {
        lie_anything(page, now_ns);
        return;
    }
    page->active_ns = now_ns;
    page->active_since_ns = 1;
    page->movable_bytes = NEVER;
    page->pinned_bytes = 0;
    page->in_flight_since_ns = now_ns;
    page->in_flight_estimate_ns = NEVER;
    page->round_trip_ns = NEVER;
    page->thrash_until_ns = NEVER;
    if (how == LIE_ACTIVITY || how == LIE_RETURN) {
        page->active_ns = now ? now_ns : 0;
        page->in_flight_since_ns = 0;
        page->active_since_ns = how == LIE_RETURN ? now_ns : 1; /* as one that was really away would say */
    }
    page->movable_bytes = how == LIE_SIZE && now ? 0 : page->movable_bytes;
    page->pinned_bytes = how == LIE_PINNED && now ? NEVER : page->pinned_bytes;
    page->round_trip_ns = how == LIE_LENGTH && now ? 1 : page->round_trip_ns;
    page->thrash_until_ns = how == LIE_THRASH && now ? 0 : page->thrash_until_ns;
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
        world.containers[0].behaviour = LIES;
        world.containers[0].lie = LIE_ANYTHING;
    }
}

bool build(const char *scenario) {
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
    } else if (strncmp(scenario, "against-", 8) == 0) { /* two that need the card each, or fit together, beside a liar without work */
        world.credulous = strstr(scenario, "-credulous") != NULL;
        for (int i = 0; i < 2; i++) {
            add(CARD_CHUNKS * (dice(2) ? 90 : 45) / 100, (10 + dice(20)) * MS, 600 * SECOND, false);
        }
        struct container *liar = add(1, 1, NEVER, false);
        liar->behaviour = LIES;
        liar->lie = (enum lie)(atoi(scenario + 8) % LIE_COUNT);
        liar->pause_ns = (1 + dice(50)) * MS;
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
