/* Turns among the processes of one container: they share a bucket, and none of them has less of it for launching shorter
 * kernels, or later. A pure idea like throttle.h.
 *
 * Who waits says how much it was served and until when it will look again. It goes before whoever was served more, by card
 * time and not by launches. Nobody has to take the word back: who was killed or comes late holds the others up no longer
 * than that moment.
 */
#ifndef EGPU_TURNS_H
#define EGPU_TURNS_H

#include "throttle.h"

/* Nobody says for longer that it is its turn: a slice, and some for who is late. */
#define TURNS_NS_MAX (2 * THROTTLE_SLICE_NS_MAX)
#define TURNS_PROCESS_MASK 0xfffull /* of a moment: 4 us */

/* So much more the one that passed last was served than a process that begins to ask. It counts as served as well, for who
 * did not want to run has nothing to catch up. */
uint64_t turns_behind_ns(const struct throttle_bucket *bucket, uint64_t served_ns);
/* Another process waits that was served less. */
bool turns_others_first(const struct throttle_bucket *bucket, const struct throttle_ask *ask);
/* It waits until then: the next turn is its, unless others go first. */
void turns_claim(struct throttle_bucket *bucket, const struct throttle_ask *ask, uint64_t until_ns);
/* Its launch passes. */
void turns_end(struct throttle_bucket *bucket, const struct throttle_ask *ask);

/* One process at a time measures a kernel alone while the others hold theirs. false: another one does. */
bool turns_probe_begin(struct throttle_bucket *bucket, uint64_t until_ns, uint64_t now_ns);
void turns_probe_end(struct throttle_bucket *bucket, uint64_t until_ns);
/* Another process of the container measures; or we do, and one of them has work on the card. */
bool turns_probe_in_the_way(const struct throttle_bucket *bucket, const struct throttle_limits *limits,
                            const struct throttle_ask *ask);

#endif
