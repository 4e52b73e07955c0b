/* Containers of one or more processes on a model card, seeded, the rules of the compute limits checked at every step: some
 * die, change, or say in their pages what is not so.
 * Usage: throttle_simulation FIRST_SEED SEEDS [verbose | first]   exit 1 and a line per broken rule; `first` ends there. */
#include "throttle_world.h"

#include <stdio.h>
#include <stdlib.h>

#define WOKEN_NS 5000u /* from the end of a kernel to the thread that waits for it */

static uint64_t least(uint64_t one, uint64_t other) { return one < other ? one : other; }

static int next_process(const struct world *world) {
    int next = 0;
    for (int each = 1; each < PROCESSES_MAX; each++)
        if (world->processes[each].wake_ns < world->processes[next].wake_ns) next = each;
    return next;
}

static void advance(struct world *world, uint64_t now_ns) {
    int queue = world->card.chosen;
    uint64_t busy_ns = world->card.busy_ns;
    int ended = card_advance(&world->card, now_ns);
    if (queue >= 0) {
        world->processes[queue].used_ns += world->card.busy_ns - busy_ns;
        world->containers[world->processes[queue].container].used_ns += world->card.busy_ns - busy_ns;
    }
    if (ended >= 0 && world->processes[ended].blocked) world->processes[ended].wake_ns = now_ns + WOKEN_NS;
}

static bool run(struct world *world, uint64_t seed) {
    world_begin(world, seed);
    for (int each = 0; each < PROCESSES_MAX; each++)
        if (!world->processes[each].lives) world->processes[each].wake_ns = NEVER;
    uint64_t tick_ns = TICK_NS;
    for (;;) {
        int next = next_process(world);
        uint64_t wake_ns = world->processes[next].wake_ns, now_ns = least(least(wake_ns, world->change_ns), tick_ns);
        if (tick_ns > world->end_ns) break;
        if (card_event_ns(&world->card) < now_ns) {
            advance(world, card_event_ns(&world->card));
            continue;
        }
        advance(world, now_ns);
        if (now_ns == tick_ns) {
            rules_tick(world);
            tick_ns += TICK_NS;
        } else if (now_ns == world->change_ns) {
            world_change(world);
        } else {
            shell_step(world, next);
            rules_step(world, next);
        }
    }
    rules_end(world);
    return world->broken > 0;
}

int main(int count, char **arguments) {
    static struct world world;
    uint64_t first = count > 1 ? strtoull(arguments[1], 0, 10) : 1, seeds = count > 2 ? strtoull(arguments[2], 0, 10) : 1000;
    uint64_t broken_seeds = 0, total_ns = 0, deaths = 0, births = 0, liars = 0, changed = 0;
    world.verbose = count > 3 && arguments[3][0] == 'v';
    bool until_broken = count > 3 && arguments[3][0] == 'f';
    for (uint64_t seed = first; seed < first + seeds && !(broken_seeds && until_broken); seed++) {
        bool fails = run(&world, seed);
        broken_seeds += fails;
        if (fails && broken_seeds <= 3)
            printf("alone: throttle_simulation %llu 1 verbose\n", (unsigned long long)seed);
        total_ns += world.end_ns;
        deaths += world.deaths;
        births += world.births;
        liars += world.liars;
        changed += world.changed;
    }
    printf("%llu seeds, %llu s of card time, %llu deaths, %llu births, %llu changes, %llu liars, broken %llu\n",
           (unsigned long long)seeds, (unsigned long long)(total_ns / 1000000000ull), (unsigned long long)deaths,
           (unsigned long long)births, (unsigned long long)changed, (unsigned long long)liars,
           (unsigned long long)broken_seeds);
    return broken_seeds != 0;
}
