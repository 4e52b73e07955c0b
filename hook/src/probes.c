#include "probes.h"

#include "clock.h"
#include "turns.h"

#define SOON_PARTS 8 /* of the period, for a kernel that was never measured alone */
#define ALONE_NS 500000ull
#define LENGTH_NS 5000000ull /* of one that wants more measurements */
#define LATE_NS (20 * THROTTLE_MS) /* of granted work: nobody shall foresee which launches are measured */

/* A free container waits for nobody, so its probe waits for a launch that comes when the others have stood back; behind
 * much work of its own none would. */
bool probe_begins(struct gate *gate, const struct surroundings *around, const struct gate_pass *pass, uint64_t now_ns) {
    uint32_t nobody = 0;
    if (!pass->clean_wanted || !around->page || !surroundings_active(gate, around, now_ns)) return false;
    if (pass->free && __atomic_load_n(&gate->launches, __ATOMIC_RELAXED) > 0) return false;
    uint64_t period_ns = pass->free && pass->unconfirmed ? gate->probe_period_ns / SOON_PARTS : gate->probe_period_ns;
    uint64_t started_ns = load(&gate->probe_started_ns);
    if (started_ns && now_ns < started_ns + period_ns) return false;
    if (!pass->free && load(&gate->granted_ns) < load(&gate->probe_granted_ns)) return false;
    if (!__atomic_compare_exchange_n(&gate->probing, &nobody, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return false;
    uint64_t until_ns = now_ns + THROTTLE_PROBE_NS_MAX - 1;
    if (!turns_probe_begin(around->bucket, until_ns, now_ns)) {
        __atomic_store_n(&gate->probing, 0, __ATOMIC_RELEASE);
        return false;
    }
    store(&gate->probe_started_ns, now_ns);
    store(&gate->probe_key, pass->key);
    store(&gate->probe_measured_ns, 0);
    store(&around->page->probe_until_ns, until_ns);
    return true;
}

static uint64_t chance(uint64_t now_ns) { return now_ns * 0x9e3779b97f4a7c15ull >> 20; }

void probe_end(struct gate *gate, const struct surroundings *around, bool clean) {
    if (!probe_runs(gate)) return;
    gate->probe_period_ns = throttle_probe_period(gate->probe_period_ns, clean);
    store(&gate->probe_granted_ns, load(&gate->granted_ns) + chance(clock_now_ns()) % LATE_NS);
    if (clean) gate->ledger.missing = false;
    turns_probe_end(around->bucket, load(&gate->probe_started_ns) + THROTTLE_PROBE_NS_MAX - 1);
    if (around->page) store(&around->page->probe_until_ns, 0);
    __atomic_store_n(&gate->probing, 0, __ATOMIC_RELEASE);
}

void probe_expire(struct gate *gate, uint64_t now_ns) {
    struct surroundings around;
    bool over = now_ns >= load(&gate->probe_started_ns) + THROTTLE_PROBE_NS_MAX || load(&gate->ahead_ns) > THROTTLE_AHEAD_NS_HIGH;
    if (!probe_runs(gate) || !over) return;
    surroundings_look(gate, &around);
    probe_end(gate, &around, load(&gate->probe_measured_ns) != 0);
}

/* A free container's goes on until the kernel that it was begun for was seen alone. Short kernels are measured in the row
 * behind the first one, which alone pays the way to the card; those whose time depends on data are measured often. */
bool probe_goes_on(struct gate *gate, const struct gate_batch *batch, bool free, uint64_t now_ns) {
    if (free && gate->probe_measured_ns == 0 && (batch->span.contended || batch->key != load(&gate->probe_key))) return true;
    if (batch->span.contended) return false;
    if (gate->probe_measured_ns == 0) store(&gate->probe_measured_ns, now_ns);
    if (gate->launches == 0 || batch->key == 0) return false;
    if (now_ns > load(&gate->probe_measured_ns) + LENGTH_NS) return false;
    if (batch->idle_start && batch->span.elapsed_ns < ALONE_NS) return true;
    return gate->ledger.missing || costs_stale(costs_find(&gate->costs, batch->key), now_ns);
}
