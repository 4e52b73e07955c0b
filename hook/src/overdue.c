#include "overdue.h"

#define TOLD_NS_MIN (20 * THROTTLE_MS) /* neighbours whose work waits behind it wonder who had the card */
#define PATIENCE_LATE 8u /* launches that pass late beside the work of another thread before patience grows: it may wait for them */

static uint64_t others_busy_ns(const struct gate *gate, const struct surroundings *around) {
    return load(&around->bucket->busy_ns) - load(&gate->busy_ns) + around->peers_busy.worked_ns;
}

/* The oldest work is another one: what was charged for the one before is given back, for it is known what that took. */
void overdue_begin(struct gate *gate, const struct surroundings *around, uint64_t now_ns) {
    if (gate->overdue_ns > 0) throttle_charge(around->bucket, -(int64_t)gate->overdue_ns, gate->overdue_borrowed);
    store(&gate->overdue_ns, 0);
    store(&gate->running_ns, 0);
    gate->overdue_since_ns = now_ns;
    gate->overdue_others_ns = others_busy_ns(gate, around);
    gate->late = 0;
    gate->submitter = pthread_self();
}

void overdue_charge(struct gate *gate, const struct surroundings *around, uint64_t now_ns) {
    pthread_mutex_lock(&gate->lock);
    uint64_t age_ns = now_ns - least(gate->overdue_since_ns, now_ns);
    uint64_t others_ns = others_busy_ns(gate, around) - gate->overdue_others_ns;
    uint64_t ours_ns = gate->unknown > 0 && age_ns > others_ns ? age_ns - others_ns : 0;
    uint64_t charged_ns = gate->ahead_ns + gate->overdue_ns;
    uint64_t more_ns = ours_ns > charged_ns ? ours_ns - charged_ns : 0;
    /* Who knows its kernels to be shorter waits for somebody itself. */
    uint64_t told_ns = least(ours_ns, gate->unknown > 0 ? OVERDUE_NS_MAX : gate->head_ns);
    if (told_ns > TOLD_NS_MIN * gate->launches) store(&gate->running_ns, told_ns);
    more_ns = least(more_ns, OVERDUE_NS_MAX - least(gate->overdue_ns, OVERDUE_NS_MAX));
    if (gate->overdue_ns == 0) gate->overdue_borrowed = gate->borrowed;
    if (more_ns > 0) more_ns = throttle_guess(around->bucket, more_ns, gate->overdue_borrowed);
    store(&gate->overdue_ns, gate->overdue_ns + more_ns);
    pthread_mutex_unlock(&gate->lock);
}

/* The work may wait for a launch that comes later, so some pass soon; but it may as well be a kernel of seconds, and each
 * that passes beside it may be another. What comes after it in its own stream it never waits for,
 * but it may for what the thread would do next: of that kind one passes soon. */
uint64_t overdue_patience_ns(const struct gate *gate, bool behind) {
    if (gate->unknown == 0) return THROTTLE_WAIT_NS_MAX;
    if (behind && gate->late > 0) return THROTTLE_OWN_NS_MAX;
    uint64_t freely = pthread_equal(gate->submitter, pthread_self()) ? 0 : PATIENCE_LATE;
    uint64_t more = gate->late - least(gate->late, freely);
    return least(THROTTLE_WAIT_NS_MAX << least(2 * more, 8), THROTTLE_OWN_NS_MAX);
}
