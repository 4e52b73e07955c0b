/* The queues of the cards: what is submitted, and when it will end. Everything here under the lock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "card.h"

static struct sim_state *shared;

static uint32_t find_lane(uint32_t process, uint32_t engine)
{
    uint32_t *known = &shared->processes[process].lanes[engine];
    uint32_t lane = 0;

    if (*known != 0)
        return *known - 1;
    while (lane < shared->lanes_high && shared->lanes[lane].used)
        lane++;
    if (lane == SIM_LANES_MAX) {
        fprintf(stderr, "simulated driver: more than %d queues\n", SIM_LANES_MAX);
        abort();
    }
    if (lane == shared->lanes_high)
        shared->lanes_high++;
    memset(&shared->lanes[lane], 0, offsetof(struct sim_lane, entries));
    for (uint32_t entry = 0; entry < SIM_LANE_ENTRIES && shared->lanes[lane].entries[0].ticket != 0; entry++)
        shared->lanes[lane].entries[entry].ticket = 0;
    shared->lanes[lane].used = 1;
    shared->lanes[lane].process = process;
    shared->lanes[lane].engine = engine;
    shared->lanes[lane].head = 1;
    *known = lane + 1;
    return lane;
}

static uint32_t engine_of(int card, enum sim_kind kind)
{
    enum sim_engine_kind engine = SIM_ENGINE_COMPUTE;

    if (kind == SIM_COPY)
        engine = SIM_ENGINE_COPY;
    else if (kind == SIM_HOST || kind == SIM_JOIN)
        engine = SIM_ENGINE_HOST;
    return (uint32_t)card * SIM_ENGINES_PER_CARD + engine;
}

bool sim_room(int card, enum sim_kind kind, struct sim_point *until)
{
    uint32_t engine = engine_of(card, kind);
    struct sim_lane *lane;

    shared = sim_state();
    lane = &shared->lanes[find_lane(sim_process_index(), engine)];
    if (lane->pending < SIM_LANE_PENDING_MAX && lane->tail + 1 - lane->head < SIM_LANE_ENTRIES)
        return true;
    until->lane = (uint32_t)(lane - shared->lanes);
    until->ticket = lane->head + SIM_LANE_ROOM_STEP;
    return false;
}

struct sim_point sim_enqueue(int card, enum sim_kind kind, uint64_t duration_ns, const struct sim_point after[2])
{
    uint32_t process = sim_process_index();
    uint32_t index = engine_of(card, kind);
    struct sim_engine *engine;
    struct sim_lane *lane;
    struct sim_entry *entry;
    struct sim_point point = {0};

    shared = sim_state();
    engine = &shared->engines[index];
    point.lane = find_lane(process, index);
    lane = &shared->lanes[point.lane];
    point.ticket = lane->tail + 1;
    entry = &lane->entries[point.ticket % SIM_LANE_ENTRIES];
    memset(entry, 0, sizeof(*entry));
    entry->ticket = point.ticket;
    entry->sequence = ++shared->sequence;
    entry->submitted_ns = sim_now();
    entry->duration_ns = duration_ns;
    entry->remaining_ns = duration_ns;
    entry->work_before_ns = lane->work_queued_ns;
    entry->card_work_ns = engine->work_queued_ns + duration_ns;
    entry->kind = kind;
    entry->blocked = kind == SIM_HOST || kind == SIM_JOIN;
    for (int dependency = 0; dependency < 2; dependency++) {
        uint64_t completed;

        entry->after_lane[dependency] = after[dependency].lane;
        entry->after_ticket[dependency] = after[dependency].ticket;
        if (after[dependency].lane != point.lane && !sim_point_done(after[dependency], &completed))
            entry->blocked = 1;
    }
    lane->tail = point.ticket;
    lane->work_queued_ns += duration_ns;
    lane->blocked += entry->blocked;
    lane->pending++;
    engine->blocked += entry->blocked;
    engine->work_queued_ns += duration_ns;
    if (lane->active == 0)
        sim_activate(engine, point.lane);
    shared->processes[process].shares[card].operations++;
    sim_trace('s', process, kind, duration_ns);
    return point;
}

void sim_point_complete(struct sim_point point)
{
    struct sim_entry *entry;
    struct sim_lane *lane;

    shared = sim_state();
    entry = sim_entry(point);
    lane = &shared->lanes[point.lane];
    if (entry != NULL && entry->completed_ns == 0)
        sim_complete(&shared->engines[lane->engine], lane, entry, sim_now());
}

bool sim_end_lanes(uint32_t process)
{
    bool pending = false;

    shared = sim_state();
    for (uint32_t index = 0; index < SIM_ENGINES_MAX; index++) {
        uint32_t *known = &shared->processes[process].lanes[index];
        struct sim_engine *engine = &shared->engines[index];
        struct sim_lane *lane;

        if (*known == 0)
            continue;
        sim_advance(sim_now());
        lane = &shared->lanes[*known - 1];
        pending |= lane->pending > 0;
        engine->work_done_ns += lane->work_queued_ns - lane->work_done_ns;
        engine->blocked -= lane->blocked;
        if (engine->running_lane == *known)
            engine->running_lane = 0;
        sim_deactivate(engine, *known - 1);
        lane->used = 0;
        *known = 0;
    }
    return pending;
}

/* The engines' sums made anew from the entries: a process died while it changed them. */
static void repair_lane(uint32_t index)
{
    struct sim_lane *lane = &shared->lanes[index];
    struct sim_engine *engine = &shared->engines[lane->engine];
    uint64_t left_ns = 0;

    lane->pending = 0;
    lane->blocked = 0;
    for (uint64_t ticket = lane->head; ticket <= lane->tail; ticket++) {
        const struct sim_entry *entry = &lane->entries[ticket % SIM_LANE_ENTRIES];

        if (entry->completed_ns != 0)
            continue;
        lane->pending++;
        lane->blocked += entry->blocked;
        left_ns += entry->remaining_ns;
    }
    lane->active = 0;
    lane->work_done_ns = lane->work_queued_ns - left_ns;
    engine->blocked += lane->blocked;
    engine->work_done_ns -= left_ns;
    if (lane->pending > 0)
        sim_activate(engine, index);
}

void sim_repair(void)
{
    shared = sim_state();
    for (uint32_t index = 0; index < SIM_ENGINES_MAX; index++) {
        struct sim_engine *engine = &shared->engines[index];

        engine->active_count = 0;
        engine->slice_lane = 0;
        engine->running_lane = 0;
        engine->blocked = 0;
        engine->work_done_ns = engine->work_queued_ns;
    }
    for (uint32_t index = 0; index < shared->lanes_high; index++)
        if (shared->lanes[index].used)
            repair_lane(index);
}

static uint64_t smaller(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

/* Turns of SIM_QUANTUM_NS: what the others still get before `work_ns` of the lane at `position` is done. */
static uint64_t others_before(const struct sim_engine *engine, uint32_t position, uint64_t work_ns, uint64_t base_ns)
{
    uint32_t count = engine->active_count;
    uint64_t slice_end_ns;
    uint64_t sum = 0;
    uint64_t turns;
    uint64_t left;
    uint32_t turn;
    uint32_t distance;

    sim_next_turn(engine, &turn, &slice_end_ns);
    distance = (position + count - turn) % count;
    left = base_ns < slice_end_ns ? slice_end_ns - base_ns : 0;
    if (distance == 0 && work_ns <= left)
        return 0;
    turns = distance == 0 ? (work_ns - left + SIM_QUANTUM_NS - 1) / SIM_QUANTUM_NS
                          : (work_ns + SIM_QUANTUM_NS - 1) / SIM_QUANTUM_NS;
    for (uint32_t step = 0; step < count; step++) {
        const struct sim_lane *lane = &shared->lanes[engine->active[(turn + step) % count]];
        uint64_t share;

        if (step == distance)
            continue;
        if (distance == 0 || (step > 0 && step < distance))
            share = turns * SIM_QUANTUM_NS;
        else
            share = (turns - 1) * SIM_QUANTUM_NS + (step == 0 ? left : 0);
        sum += smaller(lane->work_queued_ns - lane->work_done_ns, share);
    }
    return sum;
}

static uint64_t foretell_in_turn(const struct sim_engine *engine, const struct sim_lane *lane,
                                 const struct sim_entry *entry, uint64_t base_ns)
{
    uint64_t work_ns = entry->work_before_ns + entry->duration_ns - lane->work_done_ns;
    uint32_t position = 0;

    while (position < engine->active_count && engine->active[position] != (uint32_t)(lane - shared->lanes))
        position++;
    if (position == engine->active_count)
        return 0;
    return base_ns + work_ns + others_before(engine, position, work_ns, base_ns);
}

uint64_t sim_point_foretell(struct sim_point point)
{
    const struct sim_entry *entry;
    const struct sim_engine *engine;
    const struct sim_lane *lane;
    uint64_t now_ns = sim_now();
    uint64_t base_ns;
    uint64_t end_ns = 0;

    shared = sim_state();
    entry = sim_entry(point);
    if (entry == NULL || entry->completed_ns != 0)
        return now_ns;
    lane = &shared->lanes[point.lane];
    engine = &shared->engines[lane->engine];
    base_ns = engine->free_at_ns > now_ns ? engine->free_at_ns : now_ns;
    if (engine->blocked == 0 && engine->kind != SIM_ENGINE_HOST) {
        if (shared->model == SIM_TIMESLICE && engine->kind == SIM_ENGINE_COMPUTE)
            end_ns = foretell_in_turn(engine, lane, entry, base_ns);
        else
            end_ns = base_ns + entry->card_work_ns - engine->work_done_ns;
    }
    /* Where it cannot be told, or an ended process spoilt the sums: look again after the next event. */
    return end_ns > now_ns ? end_ns : sim_next_event();
}
