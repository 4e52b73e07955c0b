#include "used.h"

#define LONG_NS (50 * THROTTLE_MS)  /* a launch that never took less waits for many of the others' */
#define LATE_NS 50000ull            /* and a part of the elapsed time: later the others have gone on already */
#define LATE_PARTS 16
#define PARTS_MIN 1024              /* of the elapsed time, that it was at least */
#define PARTS_LATE 64
#define PACE_NS (100 * THROTTLE_MS) /* what was longer ago fades */

/* Peers of low priority stand back once we have work: theirs was before ours, and none is behind it. */
static bool goes_first(const struct surroundings *around, uint64_t since_ns) {
    if (around->limits.priority != THROTTLE_HIGH) return false;
    for (int each = 0; each < around->count; each++)
        if (around->peers[each].limits.priority == THROTTLE_HIGH && throttle_active(&around->peers[each], since_ns))
            return false;
    return true;
}

/* What peers were charged meanwhile was theirs, and the rest is ours, where nothing of theirs may be behind it or it waited
 * for long; else the shortest that such launches took is the least wrong. */
static uint64_t used_unconfirmed(const struct surroundings *around, const struct gate_batch *batch,
                                 const struct throttle_span *span, uint64_t paid_ns, uint64_t now_ns) {
    uint64_t elapsed_ns = span->elapsed_ns, known_ns = span->learned_ns ? span->learned_ns : elapsed_ns;
    uint64_t most_ns = least(known_ns, elapsed_ns);
    bool first = batch->idle_start && !batch->mates && goes_first(around, now_ns - least(elapsed_ns, now_ns));
    bool fresh = now_ns <= batch->ended_ns + elapsed_ns / LATE_PARTS + LATE_NS;
    /* What is known of it may be others' time as well, when it was that long beside them. */
    bool lone = batch->unknown || (batch->bounded && !batch->chained && !batch->mates && known_ns >= elapsed_ns);
    uint64_t rest_ns = elapsed_ns - least(elapsed_ns, span->peers_meanwhile_ns);
    if (!fresh || (!first && known_ns < batch->launches * LONG_NS))
        return least(paid_ns, lone ? most(rest_ns, elapsed_ns / PARTS_LATE)
                              : throttle_limited(&around->limits) ? paid_ns : most_ns);
    return least(most(rest_ns, elapsed_ns / PARTS_MIN), most_ns);
}

/* No more than all the time in which we had work on the card, for streams wait for each other, too. */
uint64_t used_ns(struct gate *gate, const struct surroundings *around, const struct gate_batch *batch,
                 const struct throttle_span *span, uint64_t paid_ns, uint64_t now_ns) {
    uint64_t since_ns = most(batch->ended_ns - least(span->elapsed_ns, batch->ended_ns), gate->running_since_ns);
    uint64_t room_ns = gate->room_ns + batch->ended_ns - least(since_ns, batch->ended_ns), used_ns = paid_ns;
    if (span->contended && span->unconfirmed) used_ns = used_unconfirmed(around, batch, span, paid_ns, now_ns);
    if (span->contended && span->unconfirmed && !throttle_limited(&around->limits)) used_ns = least(used_ns, room_ns);
    gate->room_ns = room_ns - least(used_ns, room_ns);
    return used_ns;
}

void used_pace(struct gate *gate, uint64_t used_ns, uint64_t elapsed_ns) {
    while (gate->paced_elapsed_ns > PACE_NS) {
        store(&gate->paced_elapsed_ns, gate->paced_elapsed_ns / 2);
        store(&gate->paced_used_ns, gate->paced_used_ns / 2);
    }
    store(&gate->paced_used_ns, gate->paced_used_ns + used_ns);
    store(&gate->paced_elapsed_ns, gate->paced_elapsed_ns + elapsed_ns);
}

uint64_t used_since(const struct gate *gate, uint64_t now_ns) {
    uint64_t since_ns = load(&gate->running_since_ns), passed_ns = now_ns - least(since_ns, now_ns);
    uint64_t used_ns = load(&gate->paced_used_ns), elapsed_ns = load(&gate->paced_elapsed_ns);
    if (used_ns < elapsed_ns) passed_ns = (uint64_t)((double)passed_ns * ((double)used_ns / (double)elapsed_ns));
    return least(passed_ns, load(&gate->ahead_ns));
}
