#include "counted.h"

#include <time.h>

#include "clock.h"
#include "surroundings.h"

struct counters {
    uint64_t *busy_ns, *throttled_ns, *preempted_ns, *last_submit_ns, *launch_count, *unlimited_count;
};

/* false: while the process leaves there may be neither. */
static bool find(const struct gate *gate, struct counters *counters) {
    struct egpu_slot_card *slot = region_slot_card(gate->card);
    struct egpu_card_usage *all = slot ? NULL : region_card_usage(gate->card);
    if (slot)
        *counters = (struct counters){&slot->busy_ns,        &slot->throttled_ns, &slot->preempted_ns,
                                      &slot->last_submit_ns, &slot->launch_count, &slot->unlimited_count};
    if (all)
        *counters = (struct counters){&all->departed_busy_ns,        &all->departed_throttled_ns,
                                      &all->departed_preempted_ns,   &all->departed_last_submit_ns,
                                      &all->departed_launch_count,   &all->departed_unlimited_count};
    return slot || all;
}

/* The wall's clock is asked once a batch. */
static void compare_clocks(struct gate *gate, uint64_t now_ns) {
    struct timespec wall;
    clock_read(CLOCK_REALTIME, &wall);
    store(&gate->wall_ahead_ns, (uint64_t)wall.tv_sec * 1000000000ull + (uint64_t)wall.tv_nsec - now_ns);
}

void counted_pass(struct gate *gate, uint64_t now_ns, bool late) {
    struct counters counters;
    if (!find(gate, &counters)) return;
    add(counters.launch_count, 1);
    add(counters.unlimited_count, late);
    if (load(&gate->wall_ahead_ns) == 0) compare_clocks(gate, now_ns);
    store(counters.last_submit_ns, now_ns + load(&gate->wall_ahead_ns));
}

void counted_launches(struct gate *gate, uint32_t launches) {
    struct counters counters;
    if (find(gate, &counters)) add(counters.launch_count, launches);
}

void counted_busy(struct gate *gate, uint64_t cost_ns, uint64_t now_ns) {
    struct counters counters;
    if (find(gate, &counters)) add(counters.busy_ns, cost_ns);
    compare_clocks(gate, now_ns);
}

void counted_waited(struct gate *gate, enum throttle_reason reason, uint64_t waited_ns) {
    struct counters counters;
    if (!find(gate, &counters)) return;
    bool tokens = reason == THROTTLE_WAIT_QUOTA || reason == THROTTLE_WAIT_ENTITLED || reason == THROTTLE_WAIT_TURN;
    if (tokens) add(counters.throttled_ns, waited_ns);
    if (reason == THROTTLE_WAIT_PRIORITY) add(counters.preempted_ns, waited_ns);
}
