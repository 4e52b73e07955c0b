/* What is believed of another container's page: an idea, without files and clock.
 *
 * A page is written by its container alone, so it may say anything. Words are held against what an honest hook writes: a
 * moment farther ahead than that was written by a liar or before the node's clock began anew, and counts as not said.
 */
#ifndef EGPU_BELIEVED_H
#define EGPU_BELIEVED_H

#include "../include/egpu_region.h"
#include "throttle.h"

#include <stddef.h>

/* Waiting, holding and probing are said for a slice, a millisecond and one probe, and said again when they last. */
#define BELIEVED_SIGN_NS_MAX THROTTLE_PROBE_NS_MAX
/* Work on the card: as long as the longest kernels are; who has longer ones says so again. */
#define BELIEVED_BUSY_NS_MAX (10000 * THROTTLE_MS)
/* Who had work and did not say that it is done may be late on a busy machine, or stopped by a CPU limit of its own, which
 * holds it for most of 100 ms; or it is dead. */
#define BELIEVED_SILENT_NS (100 * THROTTLE_MS)
/* Measured time comes at the end of a batch, all at once; over time it comes no faster than time passes. */
#define BELIEVED_CREDIT_NS_MAX (10000 * THROTTLE_MS)

/* The words of a page that others have a use for: all that are not reserved. */
#define BELIEVED_BYTES offsetof(struct egpu_page, reserved_residency_)
#define BELIEVED_WORD_COUNT (BELIEVED_BYTES / sizeof(uint64_t))
#define BELIEVED_WORD(name) (offsetof(struct egpu_page, name) / sizeof(uint64_t))

struct believed_busy {
    uint64_t busy_ns;   /* never less than before */
    uint64_t grown_ns;  /* by so much at the last look */
    uint64_t credit_ns; /* how much more may be believed at once */
    uint64_t at_ns;     /* of the last look; 0: none yet */
};

/* What is remembered of one page from look to look. */
struct believed {
    struct believed_busy charged; /* what it was charged, which it says when a batch has ended */
    struct believed_busy worked;  /* and what it will be for the time since then, if the card did not work for others */
};

/* The page, given by its words, as the gate shall see it at `now_ns`, which is not before the words were read. */
struct throttle_peer believed_peer(struct believed *before, const uint64_t *words, const struct egpu_member *member,
                                   uint64_t now_ns);
/* The moment that was said, or 0 when it lies farther ahead than `bound_ns`. */
uint64_t believed_moment(uint64_t said_ns, uint64_t now_ns, uint64_t bound_ns);

#endif
