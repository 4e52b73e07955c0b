#include "residency.h"

#include <stddef.h>
#include <string.h>

#define SECOND_NS (1000 * RESIDENCY_MILLISECOND_NS)

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t most(uint64_t a, uint64_t b) { return a > b ? a : b; }
static uint64_t within(uint64_t value, uint64_t low, uint64_t high) { return most(low, least(value, high)); }
static uint64_t since(uint64_t then_ns, uint64_t now_ns) { return now_ns > then_ns ? now_ns - then_ns : 0; }
static bool has(uint64_t set, int index) { return (set >> index) & 1; }

/* Nanoseconds for so many bytes; by parts, because bytes x 10^9 overflows beyond 18 GB. */
static uint64_t move_ns(uint64_t bytes, uint64_t bytes_per_second) {
    return bytes / bytes_per_second * SECOND_NS + bytes % bytes_per_second * 1000 / bytes_per_second * RESIDENCY_MILLISECOND_NS;
}

/* As measured by its owner, within what its size makes believable. */
static uint64_t believed_round_trip_ns(const struct residency_member *member) {
    uint64_t bytes = residency_demand_bytes(member);
    uint64_t bound_ns = 2 * move_ns(bytes, RESIDENCY_LINK_SLOWEST_BYTES_PER_SECOND);
    return member->round_trip_ns != 0 ? least(member->round_trip_ns, bound_ns) : 2 * move_ns(bytes, RESIDENCY_LINK_BYTES_PER_SECOND);
}

uint64_t residency_hold_ns(const struct residency_member *member) {
    return within(4 * least(believed_round_trip_ns(member), RESIDENCY_HOLD_NS_MAX), RESIDENCY_HOLD_NS_MIN, RESIDENCY_HOLD_NS_MAX);
}

bool residency_active(const struct residency_member *member, uint64_t now_ns) {
    uint64_t ahead_ns_max = now_ns + RESIDENCY_HOLD_NS_MIN; /* a sign from the future would make a dead container active for ever */
    if (!member->present || member->active_ns == 0 || member->active_ns > ahead_ns_max || member->in_flight_since_ns > ahead_ns_max) {
        return false;
    }
    if (since(member->active_ns, now_ns) < residency_hold_ns(member)) {
        return true;
    }
    /* A kernel that runs long or waits for its pages gives no sign of life. It is waited for, not for ever: its process
     * may be dead. */
    uint64_t running_ns = least(2 * least(member->in_flight_estimate_ns, RESIDENCY_IN_FLIGHT_NS_MAX) + RESIDENCY_IN_FLIGHT_NS_MIN,
                                RESIDENCY_IN_FLIGHT_NS_MAX);
    return member->in_flight_since_ns != 0 && since(member->in_flight_since_ns, now_ns) < running_ns;
}

/* Never more than the agent allows: a page that claims a huge set would make others take turns for nothing. */
uint64_t residency_demand_bytes(const struct residency_member *member) {
    uint64_t quota_bytes = member->memory_quota_bytes;
    return least(member->pinned_bytes, quota_bytes) + least(member->movable_bytes, quota_bytes - least(member->pinned_bytes, quota_bytes));
}

/* What stays on the card even while others have their turn. */
static uint64_t floor_bytes(const struct residency_member *member, bool active, uint64_t now_ns) {
    uint64_t demand_bytes = residency_demand_bytes(member);
    uint64_t pinned_bytes = least(member->pinned_bytes, demand_bytes);
    if (member->high && (member->steady || since(member->active_ns, now_ns) < RESIDENCY_HIGH_IDLE_NS)) {
        return demand_bytes;
    }
    return active || member->high ? most(pinned_bytes, least(member->resident_bytes_min, demand_bytes)) : pinned_bytes;
}

/* The containers of one card, sorted into those that take turns (by excess over their floor) and the rest. */
struct field {
    uint64_t active; /* and those that count as active: the order is made of them */
    uint64_t here;   /* only these can have a turn */
    uint64_t high_active;
    uint64_t high_busy; /* not even in a short pause */
    uint64_t floor_sum_bytes; /* of all */
    uint64_t floors_bytes[RESIDENCY_MEMBER_COUNT_MAX];
    uint64_t excess_bytes[RESIDENCY_MEMBER_COUNT_MAX]; /* demand above the floor */
};

static uint64_t excess_sum_bytes(const struct field *field, uint64_t set) {
    uint64_t sum_bytes = 0;
    for (int i = 0; i < RESIDENCY_MEMBER_COUNT_MAX; i++) {
        sum_bytes += has(set, i) ? field->excess_bytes[i] : 0;
    }
    return sum_bytes;
}

static void survey(struct field *field, const struct residency_member *members, int count, uint64_t memory_bytes, uint64_t now_ns) {
    memset(field, 0, sizeof *field);
    for (int i = 0; i < count; i++) {
        if (!members[i].present) {
            continue;
        }
        bool here = residency_active(&members[i], now_ns);
        bool active = here || members[i].steady;
        field->here |= (uint64_t)here << i;
        field->active |= (uint64_t)active << i;
        field->high_active |= (uint64_t)(active && members[i].high) << i;
        bool busy = since(members[i].active_ns, now_ns) < RESIDENCY_HOLD_NS_MIN || members[i].in_flight_since_ns != 0;
        field->high_busy |= (uint64_t)(here && members[i].high && busy) << i;
        field->floors_bytes[i] = floor_bytes(&members[i], active, now_ns);
        field->excess_bytes[i] = residency_demand_bytes(&members[i]) - field->floors_bytes[i];
        field->floor_sum_bytes += field->floors_bytes[i];
    }
    if (field->floor_sum_bytes <= memory_bytes) {
        return;
    }
    /* High priorities alone are too much for the card: they are moved too, down to the minimum that was promised. */
    field->floor_sum_bytes = 0;
    for (int i = 0; i < count; i++) {
        struct residency_member plain = members[i];
        plain.high = false;
        field->floors_bytes[i] = plain.present ? floor_bytes(&plain, has(field->active, i), now_ns) : 0;
        field->excess_bytes[i] = plain.present ? residency_demand_bytes(&plain) - field->floors_bytes[i] : 0;
        field->floor_sum_bytes += field->floors_bytes[i];
    }
}

/* The dearest move among those in turn decides the length for all: equal slots are equal shares. */
static uint64_t turn_length_ns(const struct residency_member *members, int count, uint64_t set, uint64_t multiple, uint64_t longest_ns) {
    uint64_t dearest_ns = 0;
    for (int i = 0; i < count; i++) {
        if (has(set, i)) {
            dearest_ns = most(dearest_ns, believed_round_trip_ns(&members[i]));
        }
    }
    uint64_t wanted_ns = multiple * dearest_ns;
    uint64_t power_ns = RESIDENCY_TURN_NS_MIN;
    while (2 * power_ns <= least(wanted_ns, longest_ns)) {
        power_ns *= 2;
    }
    uint64_t step_ns = power_ns / RESIDENCY_TURN_STEPS;
    return within((wanted_ns + step_ns - 1) / step_ns * step_ns, RESIDENCY_TURN_NS_MIN, longest_ns);
}

/* Without those that came back within the present part of the slot, unless nobody else is there. */
static uint64_t joined(const struct residency_member *members, int count, uint64_t set, uint64_t turn_ns, uint64_t now_ns) {
    uint64_t part_start_ns = now_ns / (turn_ns / RESIDENCY_JOIN_PARTS) * (turn_ns / RESIDENCY_JOIN_PARTS);
    uint64_t early = 0;
    for (int i = 0; i < count; i++) {
        if (has(set, i) && (members[i].steady || members[i].active_since_ns <= part_start_ns)) {
            early |= UINT64_C(1) << i;
        }
    }
    return early != 0 ? early : set;
}

static int nth(uint64_t set, uint64_t n) {
    for (uint64_t rest = n % (uint64_t)__builtin_popcountll(set); rest > 0; rest--) {
        set &= set - 1;
    }
    return __builtin_ctzll(set);
}

static int after(uint64_t set, int index) {
    uint64_t later = index == RESIDENCY_MEMBER_COUNT_MAX - 1 ? 0 : set & (~UINT64_C(0) << (index + 1));
    return __builtin_ctzll(later != 0 ? later : set);
}

static int before(uint64_t set, int index) {
    uint64_t earlier = set & ((UINT64_C(1) << index) - 1);
    return 63 - __builtin_clzll(earlier != 0 ? earlier : set);
}

/* The one whose slot it is (or, while it is away, the next one), and those after it that fit beside it. */
static void seat(struct residency_plan *plan, const struct field *field, uint64_t order, uint64_t number, uint64_t *room_bytes) {
    int first = nth(order, number);
    int index = first;
    do {
        uint64_t excess_bytes = field->excess_bytes[index];
        bool fits = plan->holders == 0 || excess_bytes <= *room_bytes;
        if (has(field->here, index) && fits) {
            uint64_t seated_bytes = least(excess_bytes, *room_bytes); /* the rest of a set too large alone stays on the host */
            plan->holders |= UINT64_C(1) << index;
            plan->target_bytes[index] += seated_bytes;
            *room_bytes -= seated_bytes;
        }
        index = after(order, index);
    } while (index != first);
    /* What is left over keeps pages of whoever had the last turn: they need not come back. */
    int last = before(order, first);
    if (!has(plan->holders, last)) {
        uint64_t kept_bytes = least(field->excess_bytes[last], *room_bytes);
        plan->target_bytes[last] += kept_bytes;
        *room_bytes -= kept_bytes;
    }
}

/* Those that get a short turn once in a while when a high priority is busy: low ones where high ones take turns,
 * and those whose set does not fit beside it, for their kernels read over the link and keep the card from it for long.
 * Never none at all: a rank of a collective on another card may wait for this one. */
static uint64_t rare(const struct field *field, uint64_t high, uint64_t low, uint64_t room_bytes) {
    uint64_t set = high != 0 ? low : 0;
    for (int i = 0; i < RESIDENCY_MEMBER_COUNT_MAX && high == 0 && field->high_busy != 0; i++) {
        set |= (uint64_t)(has(low, i) && field->excess_bytes[i] > room_bytes) << i;
    }
    return set;
}

/* The time is cut into periods, which end with a short turn of one of the seldom ones. True while that lasts; otherwise
 * it is what the slots of all others are cut by. */
static bool seldom_turn(struct residency_plan *plan, const struct residency_member *members, int count, uint64_t seldom,
                        uint64_t now_ns, uint64_t *number) {
    uint64_t low_ns = turn_length_ns(members, count, seldom, RESIDENCY_LOW_MULTIPLE, RESIDENCY_LOW_TURN_NS_MAX);
    uint64_t period_ns = RESIDENCY_LOW_PERIOD * low_ns;
    uint64_t period_start_ns = now_ns / period_ns * period_ns;
    uint64_t low_start_ns = period_start_ns + period_ns - low_ns;
    *number = now_ns / period_ns;
    if (now_ns >= low_start_ns) {
        plan->turn_start_ns = low_start_ns;
        plan->turn_end_ns = period_start_ns + period_ns;
        return true;
    }
    plan->turn_start_ns = most(plan->turn_start_ns, period_start_ns);
    plan->turn_end_ns = least(plan->turn_end_ns, low_start_ns);
    return false;
}

static void take_turns(struct residency_plan *plan, const struct field *field, const struct residency_member *members, int count,
                       uint64_t high, uint64_t low, uint64_t margin_bytes, uint64_t now_ns) {
    uint64_t everyone = high | low, low_number;
    plan->mode = RESIDENCY_TURNS;
    plan->room_bytes -= least(plan->room_bytes, margin_bytes);
    uint64_t seldom = rare(field, high, low, plan->room_bytes);
    uint64_t often = everyone & ~seldom;
    plan->turn_ns = turn_length_ns(members, count, often != 0 ? often : everyone, RESIDENCY_TURN_MULTIPLE, RESIDENCY_TURN_NS_MAX);
    uint64_t slot = now_ns / plan->turn_ns;
    plan->turn_start_ns = slot * plan->turn_ns;
    plan->turn_end_ns = plan->turn_start_ns + plan->turn_ns;
    uint64_t room_bytes = plan->room_bytes;
    if (seldom != 0 && seldom_turn(plan, members, count, seldom, now_ns, &low_number)) {
        seat(plan, field, seldom, low_number, &room_bytes);
    }
    if (often != 0) { /* else the slot belongs to the high priority alone */
        seat(plan, field, joined(members, count, often, plan->turn_ns, now_ns), slot, &room_bytes);
    }
    plan->waiting = everyone & ~plan->holders;
    plan->valid_until_ns = least(plan->turn_end_ns, now_ns + RESIDENCY_POLL_NS);
}

void residency_plan(struct residency_plan *plan, const struct residency_member *members, int count, uint64_t memory_bytes,
                    uint64_t now_ns) {
    struct field field;
    survey(&field, members, count, memory_bytes, now_ns);
    memset(plan, 0, sizeof *plan);
    plan->valid_until_ns = now_ns + RESIDENCY_POLL_NS;
    bool thrash = false;
    for (int i = 0; i < count; i++) {
        plan->target_bytes[i] = field.floors_bytes[i];
        thrash |= has(field.active, i) && members[i].thrash_until_ns > now_ns;
    }
    /* Those with all they want on their floor (a kept high priority, a task without movable memory) wait for nobody. */
    uint64_t moving = 0;
    for (int i = 0; i < count; i++) {
        moving |= (uint64_t)(has(field.active, i) && field.excess_bytes[i] > 0) << i;
    }
    uint64_t high = moving & field.high_active;
    uint64_t low = moving & ~field.high_active;
    plan->room_bytes = memory_bytes - least(memory_bytes, field.floor_sum_bytes);
    uint64_t room_bytes = plan->room_bytes;
    if (memory_bytes == 0 || excess_sum_bytes(&field, moving) <= room_bytes) {
        plan->mode = RESIDENCY_FITS; /* also where the agent did not say how large the card is */
    } else if (thrash || (field.high_active != 0 && high == 0)) {
        /* A high priority is protected at once: finding out first would cost it the moves. */
        take_turns(plan, &field, members, count, high, low, memory_bytes / RESIDENCY_MARGIN_PARTS, now_ns);
        return;
    } else {
        plan->mode = RESIDENCY_TOGETHER;
        plan->turn_ns = turn_length_ns(members, count, moving, RESIDENCY_TURN_MULTIPLE, RESIDENCY_TURN_NS_MAX); /* what turns would cost, for residency_observe */
    }
    plan->holders = moving;
    for (int i = 0; i < count; i++) {
        uint64_t seated_bytes = has(moving, i) ? least(field.excess_bytes[i], room_bytes) : 0;
        plan->target_bytes[i] += seated_bytes;
        room_bytes -= seated_bytes;
    }
}

uint64_t residency_wait_until_ns(const struct residency_plan *plan, const struct residency_member *members, int count, int self,
                                 uint64_t now_ns) {
    if (plan->mode != RESIDENCY_TURNS) {
        return 0;
    }
    if (has(plan->waiting, self)) {
        return least(plan->turn_end_ns, now_ns + RESIDENCY_POLL_NS);
    }
    if (!has(plan->holders, self)) {
        return 0;
    }
    /* What the last holder has submitted ends first, or it would page its set in again; but nobody is waited for long. */
    uint64_t drain_ns = within(plan->turn_ns / 64, RESIDENCY_DRAIN_NS_MIN, RESIDENCY_DRAIN_NS_MAX);
    if (since(plan->turn_start_ns, now_ns) >= drain_ns) {
        return 0;
    }
    for (int i = 0; i < count; i++) {
        if (has(plan->waiting, i) && members[i].in_flight_since_ns != 0) {
            return least(plan->turn_start_ns + drain_ns, now_ns + RESIDENCY_MILLISECOND_NS);
        }
    }
    return 0;
}

static void want_turns(struct residency_observer *observer, const struct residency_plan *plan, uint64_t rounds, uint64_t now_ns) {
    uint64_t round_length = most(2, (uint64_t)__builtin_popcountll(plan->holders));
    observer->thrash_hold_ns = rounds * round_length * most(plan->turn_ns, RESIDENCY_TURN_NS_MIN);
    observer->thrash_until_ns = now_ns + observer->thrash_hold_ns;
}

bool residency_observe(struct residency_observer *observer, const struct residency_plan *plan, uint64_t elapsed_ns,
                       uint64_t expected_ns, uint64_t now_ns) {
    /* Containers that thrash from their first kernel on never see how long it takes with its pages there. */
    if (observer->thrash_until_ns == 0) {
        want_turns(observer, plan, RESIDENCY_TRIAL_ROUNDS, now_ns);
        return true;
    }
    if (expected_ns == 0) {
        return false; /* nothing was learned to hold it against */
    }
    observer->elapsed_ns += elapsed_ns;
    observer->stalled_ns += since(expected_ns, elapsed_ns);
    observer->sample_count++;
    if (observer->elapsed_ns < RESIDENCY_WINDOW_NS || observer->sample_count < RESIDENCY_WINDOW_SAMPLES_MIN) {
        return false;
    }
    bool thrash = observer->stalled_ns > observer->elapsed_ns / RESIDENCY_STALL_PARTS;
    observer->elapsed_ns = 0;
    observer->stalled_ns = 0;
    observer->sample_count = 0;
    if (!thrash) {
        return false;
    }
    bool relapse = since(observer->thrash_until_ns, now_ns) < observer->thrash_hold_ns;
    observer->relapse_count = relapse ? observer->relapse_count + (observer->relapse_count < RESIDENCY_RELAPSES_MAX) : 0;
    want_turns(observer, plan, (uint64_t)RESIDENCY_THRASH_ROUNDS << observer->relapse_count, now_ns);
    return true;
}

uint64_t residency_round_trip_ns(const struct residency_member *member, uint64_t measured_ns) {
    uint64_t known_ns = believed_round_trip_ns(member);
    if (measured_ns < known_ns / 2) {
        return known_ns - known_ns / 4 + measured_ns / 4;
    }
    return measured_ns > known_ns + known_ns / 8 ? measured_ns : known_ns;
}
