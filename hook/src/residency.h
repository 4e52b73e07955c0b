/* Oversubscription as an idea: whose pages are on the card, and whose turn it is.
 *
 * Everything here is a pure function of what the agent says of the containers of a card, of what their own pages say,
 * and of the time. Each container computes the same plan alone; no lock and no message crosses containers. The time of
 * a card is cut into slots whose number is (now / slot length), so nobody can claim a slot: a container that lies in
 * its page can at most look busy, which gives it the slots that it is entitled to anyway (residency_beliefs.h keeps one
 * that says now this and now that from making the others change places all the time).
 *
 * Turns are taken only while the active containers do not fit and one of them was found waiting for its pages (or low
 * priorities would push out a high one). Their length follows the cost of moving a set out and in: a slot of at least
 * RESIDENCY_TURN_MULTIPLE times that cost loses at most 1 / RESIDENCY_TURN_MULTIPLE of the card. */
#ifndef RESIDENCY_H
#define RESIDENCY_H
#include <stdbool.h>
#include <stdint.h>

enum {
    RESIDENCY_MEMBER_COUNT_MAX = 64, /* EGPU_MEMBER_COUNT_MAX */
    RESIDENCY_TURN_MULTIPLE = 24,    /* of what changing places costs: at most 4 % of the card go into moving */
    RESIDENCY_TURN_STEPS = 2,        /* lengths between a power of two and the next: small changes of the cost change nothing */
    RESIDENCY_JOIN_PARTS = 2,        /* who comes back joins at the next half of a slot: whoever began gets that long */
    RESIDENCY_LOW_PERIOD = 16,       /* a low priority that no room is left for beside high ones gets one 16th of the time */
    RESIDENCY_LOW_MULTIPLE = 4,      /* in turns of so many times what moving it costs */
    RESIDENCY_MARGIN_PARTS = 64,     /* of the card are left free in turns: a set one page too large loses all of it, in rotation */
    RESIDENCY_STALL_PARTS = 4,       /* more than a quarter of the measured time waiting for pages is a thrash */
    RESIDENCY_WINDOW_SAMPLES_MIN = 2,
    RESIDENCY_TRIAL_ROUNDS = 2,      /* at the first sight of each other: turns, in which kernels are measured with their pages */
    RESIDENCY_THRASH_ROUNDS = 16,    /* turns last so many rounds before running together is tried again */
    RESIDENCY_RELAPSES_MAX = 4,      /* each relapse doubles that, so often */
};

#define RESIDENCY_MILLISECOND_NS UINT64_C(1000000)
#define RESIDENCY_TURN_NS_MIN (128 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_TURN_NS_MAX (60000 * RESIDENCY_MILLISECOND_NS) /* the longest a task waits for one neighbour */
/* Hence a low task beside a busy high one runs at least once in RESIDENCY_LOW_PERIOD times this, 64 s, for each such task. */
#define RESIDENCY_LOW_TURN_NS_MAX (4000 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_HOLD_NS_MIN (250 * RESIDENCY_MILLISECOND_NS) /* above the throttle's longest wait, 200 ms */
#define RESIDENCY_HOLD_NS_MAX (10000 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_IN_FLIGHT_NS_MIN (10000 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_IN_FLIGHT_NS_MAX (60000 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_HIGH_IDLE_NS (20000 * RESIDENCY_MILLISECOND_NS) /* a high priority idle for longer keeps its minimum only */
#define RESIDENCY_DRAIN_NS_MIN (2 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_DRAIN_NS_MAX (200 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_POLL_NS (10 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_WINDOW_NS (200 * RESIDENCY_MILLISECOND_NS)
#define RESIDENCY_LINK_BYTES_PER_SECOND (UINT64_C(12) << 30) /* PCIe 4.0 x16 in practice, until measured */
#define RESIDENCY_LINK_SLOWEST_BYTES_PER_SECOND (UINT64_C(1) << 30) /* no page may claim a dearer move than over this link */

/* One container of the card. */
struct residency_member {
    /* As the agent says: */
    bool present;
    bool high;
    uint64_t memory_quota_bytes;
    uint64_t resident_bytes_min;
    /* As its own page says: */
    uint64_t movable_bytes; /* allocated as managed memory */
    uint64_t pinned_bytes;  /* allocated otherwise: stays */
    uint64_t active_ns;
    uint64_t active_since_ns;
    uint64_t in_flight_since_ns;
    uint64_t in_flight_estimate_ns;
    uint64_t round_trip_ns;
    uint64_t thrash_until_ns;
    /* As residency_believe() says: keeps its place in the order while it is not active. */
    bool steady;
};

enum residency_mode {
    RESIDENCY_FITS,     /* the active ones fit: nothing is moved, nobody waits */
    RESIDENCY_TOGETHER, /* they do not fit by size, but nobody waits for pages: the driver moves what it has to */
    RESIDENCY_TURNS,
};

struct residency_plan {
    enum residency_mode mode;
    uint64_t turn_ns;
    uint64_t turn_start_ns;
    uint64_t turn_end_ns;
    uint64_t valid_until_ns; /* ask again then at the latest */
    uint64_t waiting;        /* bit sets over members: in turn for the card, but not now */
    uint64_t holders;        /* have the card now */
    uint64_t room_bytes;     /* of the card, beyond what everybody keeps */
    uint64_t target_bytes[RESIDENCY_MEMBER_COUNT_MAX]; /* what each should have on the card now */
};

/* How long after its last sign a container counts as active: four times the cost of moving it out and in, so that giving its
 * place away in a pause never costs more than the pause itself did. */
uint64_t residency_hold_ns(const struct residency_member *member);
bool residency_active(const struct residency_member *member, uint64_t now_ns);
uint64_t residency_demand_bytes(const struct residency_member *member);

void residency_plan(struct residency_plan *plan, const struct residency_member *members, int count, uint64_t memory_bytes,
                    uint64_t now_ns);

/* May this container submit? 0: yes. Otherwise wait until then and ask again. */
uint64_t residency_wait_until_ns(const struct residency_plan *plan, const struct residency_member *members, int count, int self,
                                 uint64_t now_ns);

/* What one container's own measurements say. */
struct residency_observer {
    uint64_t elapsed_ns; /* of the window so far */
    uint64_t stalled_ns;
    uint32_t sample_count;
    uint32_t relapse_count;
    uint64_t thrash_until_ns;
    uint64_t thrash_hold_ns;
};

/* Work took elapsed_ns on the card where expected_ns was learned (0: not known). Fed while mode is TOGETHER only. True
 * when thrash_until_ns was set anew. */
bool residency_observe(struct residency_observer *observer, const struct residency_plan *plan, uint64_t elapsed_ns,
                       uint64_t expected_ns, uint64_t now_ns);

/* The cost of changing places after one more measurement of it: from the moment the set was asked for until it was there,
 * the others' moving out included. Stays put for small changes, for all see it and each new length of turns cuts one short; and of several processes of a container,
 * which move one after another, it follows the slowest. */
uint64_t residency_round_trip_ns(const struct residency_member *member, uint64_t measured_ns);

#endif
