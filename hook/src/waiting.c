#include "waiting.h"

#include "batches.h"
#include "clock.h"
#include "overdue.h"

#define NEXT_NS 60000ull /* from one that has passed to the next one's look */

uint64_t waiting_work_left_ns(const struct gate *gate, uint64_t now_ns) {
    if (gate->launches == 0) return 0;
    uint64_t behind_ns = gate->ahead_ns > gate->head_ns ? gate->ahead_ns - gate->head_ns : 0;
    uint64_t left_ns = gate->work_end_ns > now_ns ? gate->work_end_ns - now_ns : 0;
    return least(most(left_ns, behind_ns), gate->ahead_ns);
}

uint64_t waiting_tell(struct gate *gate, const struct surroundings *around, uint64_t now_ns, uint64_t wake_ns) {
    pthread_mutex_lock(&gate->lock);
    bool busy = gate->launches > 0;
    uint64_t late_ns = least((now_ns - least(gate->overdue_since_ns, now_ns)) / THROTTLE_LATE_PARTS, THROTTLE_MS);
    uint64_t look_ns = most(most(waiting_work_left_ns(gate, now_ns), most(gate->head_ns / 16, late_ns)), THROTTLE_POLL_NS);
    uint64_t ended_ns = least(gate->work_end_ns, now_ns);
    pthread_mutex_unlock(&gate->lock);
    if (busy) {
        wake_ns = least(wake_ns, now_ns + look_ns);
        surroundings_tell(gate, around, now_ns, wake_ns + PAGE_MARGIN_NS);
        return wake_ns;
    }
    surroundings_tell(gate, around, now_ns, least(load(&gate->busy_until_ns), ended_ns));
    return wake_ns;
}

void gate_publish(struct gate *gate, uint64_t now_ns) {
    struct surroundings around;
    surroundings_look(gate, &around);
    waiting_tell(gate, &around, now_ns, WAITING_NOTHING);
}

void gate_block(struct gate *gate, uint64_t until_ns) {
    struct surroundings around;
    surroundings_look(gate, &around);
    pthread_mutex_lock(&gate->lock);
    bool busy = gate->launches > 0;
    pthread_mutex_unlock(&gate->lock);
    if (busy) surroundings_tell(gate, &around, clock_now_ns(), until_ns);
}

/* Another thread looks out for all: what it says on the page holds for us, too. Whoever has passed goes on launching for a
 * moment, and what runs beside that is not measured well: so the next look is not at once. */
static void follow(struct gate *gate, const struct surroundings *around, const struct throttle_decision *decision,
                   const struct throttle_ask *ask, uint32_t begun) {
    uint64_t latest_ns = ask->since_ns + THROTTLE_WAIT_NS_MAX;
    if (latest_ns <= ask->now_ns) latest_ns = ask->now_ns + THROTTLE_SLICE_NS_MAX;
    lookout_follow(&gate->lookout, begun, latest_ns);
    uint64_t woken_ns = clock_now_ns();
    if (lookout_take(&gate->lookout, woken_ns, woken_ns + NEXT_NS)) {
        clock_sleep_until(woken_ns + NEXT_NS);
        batches_reap(gate, true);
        lookout_leave(&gate->lookout);
    }
    surroundings_waited(gate, around, decision->reason, ask->now_ns, clock_now_ns());
}

static void look_out(struct gate *gate, const struct surroundings *around, const struct throttle_decision *decision,
                     const struct throttle_ask *ask, bool first) {
    if (around->page) store(&around->page->wanting_until_ns, decision->until_ns + PAGE_MARGIN_NS);
    if (first && batches_reap(gate, true)) return; /* what was learned may change the answer */
    overdue_charge(gate, around, ask->now_ns);
    region_reap_sometimes(); /* what the dead used is paid before anybody goes on */
    clock_sleep_until(waiting_tell(gate, around, ask->now_ns, decision->until_ns));
    uint64_t woken_ns = clock_now_ns();
    if (decision->reason == THROTTLE_WAIT_PROBE && !ask->probing)
        throttle_probe_honoured(around->bucket, woken_ns - ask->now_ns);
    surroundings_waited(gate, around, decision->reason, ask->now_ns, woken_ns);
    batches_reap(gate, true);
}

void waiting_wait(struct gate *gate, const struct surroundings *around, const struct throttle_decision *decision,
                  const struct throttle_ask *ask, uint32_t begun, bool first) {
    /* Who measures its kernel has moments of its own to keep. */
    bool apart = ask->probing;
    if (!apart && !lookout_take(&gate->lookout, ask->now_ns, decision->until_ns)) {
        follow(gate, around, decision, ask, begun);
        return;
    }
    look_out(gate, around, decision, ask, first);
    if (!apart) lookout_leave(&gate->lookout);
}

void gate_yield(struct gate *gate) {
    struct surroundings around;
    uint64_t since_ns = clock_now_ns(), now_ns = since_ns;
    while (now_ns < since_ns + THROTTLE_WAIT_NS_MAX) {
        surroundings_look(gate, &around);
        if (around.limits.priority == THROTTLE_HIGH) return;
        if (!throttle_high_has_work(around.bucket, around.peers, around.count, now_ns)) return;
        batches_reap(gate, true);
        uint64_t look_ns = most(THROTTLE_POLL_NS, least((now_ns - since_ns) / THROTTLE_LATE_PARTS, THROTTLE_MS));
        clock_sleep_until(waiting_tell(gate, &around, now_ns, now_ns + look_ns));
        uint64_t woken_ns = clock_now_ns();
        surroundings_waited(gate, &around, THROTTLE_WAIT_PRIORITY, now_ns, woken_ns);
        now_ns = woken_ns;
    }
}
