/* The engines of the cards: queues of operations, brought forward to "now" by whoever looks. All under the lock.
 *
 * fifo: one operation at a time in the order of submission over all processes. timeslice: processes with pending work
 * take turns of SIM_QUANTUM_NS. Operations of one process on one engine run in its order, except that one that waits
 * for another engine or for a host function lets others pass. */
#include <string.h>

#include "card.h"

static struct sim_state *shared;

struct sim_entry *sim_entry(struct sim_point point)
{
    struct sim_lane *lane = &sim_state()->lanes[point.lane];
    struct sim_entry *entry;

    if (point.ticket == 0 || lane->tail - point.ticket >= SIM_LANE_ENTRIES)
        return NULL;
    entry = &lane->entries[point.ticket % SIM_LANE_ENTRIES];
    return entry->ticket == point.ticket ? entry : NULL;
}

bool sim_point_done(struct sim_point point, uint64_t *completed_ns)
{
    const struct sim_entry *entry;

    shared = sim_state();
    entry = sim_entry(point);
    *completed_ns = entry != NULL ? entry->completed_ns : 1;
    return *completed_ns != 0;
}

void sim_activate(struct sim_engine *engine, uint32_t lane)
{
    shared = sim_state(); /* the first look of a process may be the repair after an owner that died */
    engine->active[engine->active_count++] = lane;
    shared->lanes[lane].active = 1;
}

/* The others keep their order; whoever leaves comes back as the last. */
void sim_deactivate(struct sim_engine *engine, uint32_t lane)
{
    uint32_t place = 0;

    shared = sim_state();
    while (place < engine->active_count && engine->active[place] != lane)
        place++;
    if (place == engine->active_count)
        return;
    engine->active_count--;
    memmove(&engine->active[place], &engine->active[place + 1],
            (engine->active_count - place) * sizeof(engine->active[0]));
    shared->lanes[lane].active = 0;
    if (engine->slice_lane == lane + 1)
        engine->slice_lane = 0;
}

/* Turns: the lane at `place` comes to the front, those before it go behind the last, in their order. */
static void rotate(struct sim_engine *engine, uint32_t place)
{
    for (; place > 0; place--) {
        uint32_t first = engine->active[0];

        memmove(&engine->active[0], &engine->active[1], (engine->active_count - 1) * sizeof(engine->active[0]));
        engine->active[engine->active_count - 1] = first;
    }
}

void sim_complete(struct sim_engine *engine, struct sim_lane *lane, struct sim_entry *entry, uint64_t time_ns)
{
    entry->completed_ns = time_ns;
    lane->pending--;
    lane->blocked -= entry->blocked;
    engine->blocked -= entry->blocked;
    while (lane->head <= lane->tail && lane->entries[lane->head % SIM_LANE_ENTRIES].completed_ns != 0)
        lane->head++;
    if (lane->pending == 0)
        sim_deactivate(engine, (uint32_t)(lane - shared->lanes));
    sim_trace('e', lane->process, entry->kind, time_ns);
}

/* When all an entry waits for has happened; SIM_NEVER while something has not. */
static uint64_t ready_ns(const struct sim_entry *entry)
{
    uint64_t ready = entry->submitted_ns;

    for (int dependency = 0; dependency < 2; dependency++) {
        struct sim_point point = {entry->after_lane[dependency], 0, entry->after_ticket[dependency]};
        uint64_t completed;

        if (!sim_point_done(point, &completed))
            return SIM_NEVER;
        if (completed > ready)
            ready = completed;
    }
    return ready;
}

/* The entry of a lane that would start first on its engine, and when; NULL while all wait for something. */
static struct sim_entry *candidate(const struct sim_engine *engine, struct sim_lane *lane, uint64_t *start)
{
    struct sim_entry *best = NULL;
    struct sim_entry *begun = &lane->entries[lane->begun % SIM_LANE_ENTRIES];

    if (lane->begun != 0 && begun->ticket == lane->begun && begun->completed_ns == 0) {
        *start = engine->free_at_ns;
        return begun;
    }
    for (uint64_t ticket = lane->head; ticket <= lane->tail; ticket++) {
        struct sim_entry *entry = &lane->entries[ticket % SIM_LANE_ENTRIES];
        uint64_t ready = entry->completed_ns != 0 ? SIM_NEVER : ready_ns(entry);

        if (ready == SIM_NEVER)
            continue;
        if (ready < engine->free_at_ns)
            ready = engine->free_at_ns;
        if (best == NULL || ready < *start) {
            best = entry;
            *start = ready;
        }
        if (*start == engine->free_at_ns)
            break;
    }
    return best;
}

struct step { /* what an engine does next */
    struct sim_entry *entry; /* NULL = nothing */
    uint32_t lane;
    uint32_t place; /* of the lane among the active ones */
    uint64_t start_ns;
    uint64_t end_ns;
    uint64_t slice_end_ns;
};

static void take(struct step *step, const struct sim_engine *engine, uint32_t place, uint64_t start)
{
    step->place = place;
    step->lane = engine->active[place];
    step->start_ns = start;
    step->end_ns = start + step->entry->remaining_ns;
}

static struct step next_in_order(const struct sim_engine *engine)
{
    struct step step = {0};

    if (engine->running_lane != 0) {
        step.entry = &shared->lanes[engine->running_lane - 1].entries[engine->running_ticket % SIM_LANE_ENTRIES];
        step.lane = engine->running_lane - 1;
        step.start_ns = engine->free_at_ns;
        step.end_ns = step.start_ns + step.entry->remaining_ns;
        return step;
    }
    for (uint32_t place = 0; place < engine->active_count; place++) {
        uint64_t start = 0;
        struct sim_entry *entry = candidate(engine, &shared->lanes[engine->active[place]], &start);

        if (entry == NULL)
            continue;
        if (step.entry == NULL || start < step.start_ns
            || (start == step.start_ns && entry->sequence < step.entry->sequence)) {
            step.entry = entry;
            take(&step, engine, place, start);
        }
    }
    return step;
}

/* `active` is in the order of turns. Whose slice is over comes last; after a pause the first to have come begins. */
static struct step next_in_turn(const struct sim_engine *engine)
{
    uint32_t count = engine->active_count;
    bool holds = count > 0 && engine->slice_lane == engine->active[0] + 1;
    uint32_t first = holds && engine->free_at_ns >= engine->slice_end_ns ? 1 : 0;
    struct step step = {0};

    for (uint32_t distance = first; distance < count + first; distance++) {
        uint32_t place = distance % count;
        uint64_t start = 0;
        struct sim_entry *entry = candidate(engine, &shared->lanes[engine->active[place]], &start);

        if (entry == NULL)
            continue;
        if (step.entry == NULL || start < step.start_ns
            || (start == step.start_ns && start > engine->free_at_ns && entry->sequence < step.entry->sequence)) {
            step.entry = entry;
            take(&step, engine, place, start);
            step.slice_end_ns = holds && distance == 0 ? engine->slice_end_ns : start + SIM_QUANTUM_NS;
        }
        if (start == engine->free_at_ns)
            break;
    }
    if (step.entry == NULL)
        return step;
    if (step.start_ns >= step.slice_end_ns)
        step.slice_end_ns = step.start_ns + SIM_QUANTUM_NS;
    if (step.end_ns > step.slice_end_ns)
        step.end_ns = step.slice_end_ns;
    return step;
}

static struct step next_step(const struct sim_engine *engine)
{
    return shared->model == SIM_TIMESLICE && engine->kind == SIM_ENGINE_COMPUTE ? next_in_turn(engine)
                                                                                  : next_in_order(engine);
}

static void take_step(struct sim_engine *engine, const struct step *step, uint64_t now_ns)
{
    struct sim_lane *lane = &shared->lanes[step->lane];
    struct sim_share *share = &shared->processes[lane->process].shares[engine->card];
    uint64_t until = step->end_ns < now_ns ? step->end_ns : now_ns;
    uint64_t work = until - step->start_ns;

    if (step->slice_end_ns != 0) {
        rotate(engine, step->place);
        engine->slice_lane = step->lane + 1;
        engine->slice_end_ns = step->slice_end_ns;
    }
    engine->free_at_ns = until;
    engine->busy_ns += work;
    engine->work_done_ns += work;
    lane->work_done_ns += work;
    step->entry->remaining_ns -= work;
    *(engine->kind == SIM_ENGINE_COPY ? &share->copy_ns : &share->busy_ns) += work;
    engine->running_lane = 0;
    lane->begun = step->entry->ticket;
    if (step->entry->remaining_ns == 0 && until == step->end_ns) {
        sim_complete(engine, lane, step->entry, until);
    } else if (step->slice_end_ns == 0) { /* served in order: nobody comes between */
        engine->running_lane = step->lane + 1;
        engine->running_ticket = step->entry->ticket;
    }
}

/* Joins take no time: they end when all they wait for has. */
static bool settle_joins(struct sim_engine *engine)
{
    bool changed = false;

    for (uint32_t place = 0; place < engine->active_count; place++) {
        struct sim_lane *lane = &shared->lanes[engine->active[place]];
        uint32_t count = engine->active_count;

        for (uint64_t ticket = lane->head; ticket <= lane->tail; ticket++) {
            struct sim_entry *entry = &lane->entries[ticket % SIM_LANE_ENTRIES];
            uint64_t ready;

            if (entry->completed_ns != 0 || entry->kind != SIM_JOIN)
                continue;
            ready = ready_ns(entry);
            if (ready == SIM_NEVER)
                continue;
            sim_complete(engine, lane, entry, ready);
            changed = true;
        }
        if (engine->active_count < count)
            place--;
    }
    return changed;
}

static void settle_all_joins(void)
{
    bool changed = true;

    while (changed) {
        changed = false;
        for (uint32_t card = 0; card < shared->cards; card++) {
            struct sim_engine *engine = &shared->engines[card * SIM_ENGINES_PER_CARD + SIM_ENGINE_HOST];

            if (engine->active_count > 0)
                changed |= settle_joins(engine);
        }
    }
}

/* The engine whose next step ends first: dependencies between engines are then always known in time. */
static struct sim_engine *first_engine(struct step *first)
{
    struct sim_engine *best = NULL;

    for (uint32_t index = 0; index < shared->cards * SIM_ENGINES_PER_CARD; index++) {
        struct sim_engine *engine = &shared->engines[index];
        struct step step;

        if (engine->active_count == 0 || engine->kind == SIM_ENGINE_HOST)
            continue;
        step = next_step(engine);
        if (step.entry != NULL && (best == NULL || step.end_ns < first->end_ns)) {
            best = engine;
            *first = step;
        }
    }
    return best;
}

void sim_advance(uint64_t now_ns)
{
    struct step step;
    struct sim_engine *engine;

    shared = sim_state();
    settle_all_joins();
    for (engine = first_engine(&step); engine != NULL && step.end_ns <= now_ns; engine = first_engine(&step)) {
        take_step(engine, &step, now_ns);
        settle_all_joins();
    }
    for (uint32_t index = 0; engine != NULL && index < shared->cards * SIM_ENGINES_PER_CARD; index++) {
        struct sim_engine *partial = &shared->engines[index];

        if (partial->active_count == 0 || partial->kind == SIM_ENGINE_HOST)
            continue;
        step = next_step(partial);
        if (step.entry != NULL && step.start_ns < now_ns)
            take_step(partial, &step, now_ns);
    }
}

void sim_next_turn(const struct sim_engine *engine, uint32_t *place, uint64_t *slice_end_ns)
{
    struct step step;

    shared = sim_state();
    step = next_in_turn(engine);
    *place = step.place;
    *slice_end_ns = step.slice_end_ns;
}

uint64_t sim_next_event(void)
{
    struct step step;

    shared = sim_state();
    return first_engine(&step) != NULL ? step.end_ns : SIM_NEVER;
}
