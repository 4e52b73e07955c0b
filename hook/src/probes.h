/* Clean measurements where others would spoil them: the container says in its page that it measures, and the others hold
 * their launches meanwhile, for at most 2 % of the time. */
#ifndef EGPU_PROBES_H
#define EGPU_PROBES_H

#include "surroundings.h"

/* Others would spoil the measurement of a kernel that was never, or long ago, measured alone: the probe begins. */
bool probe_begins(struct gate *gate, const struct surroundings *around, const struct gate_pass *pass, uint64_t now_ns);
void probe_end(struct gate *gate, const struct surroundings *around, bool clean);
/* One that was begun and had too few launches to end by them. */
void probe_expire(struct gate *gate, uint64_t now_ns);
/* After a batch of it, the gate's lock held. false: the probe is over. */
bool probe_goes_on(struct gate *gate, const struct gate_batch *batch, bool free, uint64_t now_ns);

static inline bool probe_runs(const struct gate *gate) { return __atomic_load_n(&gate->probing, __ATOMIC_ACQUIRE) != 0; }

#endif
