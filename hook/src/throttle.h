/* Compute limits as a pure idea: who may submit work to a card, and who pays for the time it took.
 *
 * State and time come in as arguments; nothing here calls the driver, the clock, a file or a lock. The bucket lies in
 * memory shared by the processes of one container, so its words are changed atomically; what peers want is read from
 * pages they alone write, so every word of theirs expires by itself and a dead peer is an idle one.
 */
#ifndef EGPU_THROTTLE_H
#define EGPU_THROTTLE_H

#include <stdbool.h>
#include <stdint.h>

#define THROTTLE_QUOTA_WHOLE 10000u        /* parts of a whole card */
#define THROTTLE_MS 1000000ull

/* Waits for others end here and the launch passes: a collective over several cards would hang for ever otherwise. */
#define THROTTLE_WAIT_NS_MAX (200 * THROTTLE_MS)
/* Waits for own work that turns out to be long: what passes beside it may be as long. */
#define THROTTLE_OWN_NS_MAX (3200 * THROTTLE_MS)
/* A wait for tokens ends by itself; it is cut into slices so that a changed quota is seen. */
#define THROTTLE_SLICE_NS_MAX (20 * THROTTLE_MS)
/* After the tokens ran out so many are gathered first: small kernels then go in rows, which are measured exactly, where
 * one at a time would be charged the way from the call to the card as well. */
#define THROTTLE_ROW_NS (THROTTLE_MS / 2)
/* Idle containers keep this much for a burst: more would show as a second above quota. */
#define THROTTLE_IDLE_NS_MAX (5 * THROTTLE_MS)
/* Time that a container was owed while it wanted to run: enough for 20 ms kernels of three neighbours in a row. */
#define THROTTLE_OWED_NS_MAX (60 * THROTTLE_MS)
/* What was measured is paid whole, up to a minute of the card: with a quota of 5 % that is a wait of 20 minutes. A debt is
 * an amount and no moment, so a clock that jumps changes nothing; a higher quota pays it sooner, none at all at once. */
#define THROTTLE_DEBT_NS_MAX (60000 * THROTTLE_MS)
/* What is only guessed, of work that runs or whose process is gone, makes no more debt than this. */
#define THROTTLE_GUESSED_NS_MAX (10000 * THROTTLE_MS)
/* Of the time since the last look: an idle hour pays a debt, and a jump of the clock not much more. */
#define THROTTLE_PASSED_NS_MAX (3600000 * THROTTLE_MS)
/* Outstanding work: what a high-priority launch may find before it, and what keeps a card busy between two looks. */
#define THROTTLE_AHEAD_NS_LOW (THROTTLE_MS * 8 / 10)
#define THROTTLE_AHEAD_NS_HIGH (4 * THROTTLE_MS)
/* Nor more launches than that: each may turn out to be hundreds of times longer than it was. */
#define THROTTLE_AHEAD_LAUNCHES 128u
/* What was never measured counts as this much until it is. */
#define THROTTLE_UNKNOWN_NS (2 * THROTTLE_MS)
/* Its end is looked for often until then, and now and then afterwards. */
#define THROTTLE_UNKNOWN_LONG_NS (10 * THROTTLE_MS)
/* Gaps between kernels of a high-priority task are not filled with kernels that may be long. */
#define THROTTLE_HOLD_NS THROTTLE_MS
#define THROTTLE_POLL_NS 100000ull
#define THROTTLE_POLL_NS_MIN 10000ull
/* Who waits notices the end of it late by such a part of the wait at most, and by THROTTLE_MS. */
#define THROTTLE_LATE_PARTS 192u
/* Waiting for containers of high priority with a quota ends when it was more than they may claim, and this much at once. */
#define THROTTLE_HIGH_CREDIT_NS_MAX (200 * THROTTLE_MS)
/* A clean measurement: peers hold their launches, at most this part of the time and this much at once. */
#define THROTTLE_PROBE_CREDIT_NS_MAX (200 * THROTTLE_MS)
#define THROTTLE_PROBE_PARTS 200u          /* of THROTTLE_QUOTA_WHOLE: 2 % of the time */
#define THROTTLE_PROBE_PERIOD_NS (80 * THROTTLE_MS)   /* at first; doubled after a probe that others disturbed */
#define THROTTLE_PROBE_PERIOD_NS_MAX (5000 * THROTTLE_MS)
#define THROTTLE_DRAIN_NS_MAX (25 * THROTTLE_MS)       /* the card does not get empty: the launch goes on without */
#define THROTTLE_PROBE_NS_MAX (40 * THROTTLE_MS)
/* Time that nobody was charged for is looked at when it is more than batches in flight can explain. */
#define THROTTLE_UNATTRIBUTED_NS_MIN (50 * THROTTLE_MS)
/* Of the time that neighbours cannot claim, what is kept for a batch that waited for none of theirs. */
#define THROTTLE_ROOM_NS_MAX (5 * THROTTLE_MS)
/* More than all neighbours together can be charged between two looks. */
#define THROTTLE_CHARGED_NS_MAX (1000000 * THROTTLE_MS)
/* So much more in batches that all took many times what was learned: our own kernels have become longer. */
#define THROTTLE_SURPRISE_NS (100 * THROTTLE_MS)
#define THROTTLE_SURPRISE_TIMES 4u

enum throttle_policy { THROTTLE_HARD = 0, THROTTLE_SOFT = 1 };
enum throttle_priority { THROTTLE_HIGH = 0, THROTTLE_LOW = 1 };

enum throttle_reason {
    THROTTLE_PASS = 0,
    THROTTLE_WAIT_PRIORITY,  /* a high-priority container has work or had it a moment ago */
    THROTTLE_WAIT_PROBE,     /* a peer measures its kernels alone, or we wait for the card to empty for our own probe */
    THROTTLE_WAIT_QUOTA,     /* no tokens */
    THROTTLE_WAIT_ENTITLED,  /* soft: no tokens, and somebody who has some wants to run */
    THROTTLE_WAIT_AHEAD,     /* enough of our own work is outstanding */
    THROTTLE_WAIT_TURN,      /* there are tokens, but another process of the container was served less */
};

/* 64 words in the usage file, one bucket per container and card. */
struct throttle_bucket {
    int64_t tokens_ns;
    uint64_t refilled_ns;
    uint64_t wanted_ns;         /* work waited until then; with no end while it waits */
    int64_t probe_credit_ns;
    uint64_t charged_ns;
    uint64_t borrowed_ns;
    uint64_t waited_ns;
    uint64_t passed_late;       /* launches that went ahead because waiting reached its bound */
    uint64_t busy_ns;           /* of finished batches of all processes */
    uint64_t busy_until_ns;     /* work of any process is on the card, as far as known */
    uint64_t work_end_ns;       /* when all that low-priority processes have outstanding is done; expires by itself */
    uint64_t turn_served_ns;    /* of a process that waits: the one that was served least */
    uint64_t departed_ns;       /* until then processes that are gone have paid for what nobody measured */
    int64_t high_credit_ns;     /* so long may limited containers of high priority keep this low one waiting */
    uint64_t high_refilled_ns;
    uint64_t high_honoured_ns;  /* until then they were waited for */
    uint64_t unknown_since_ns;  /* work never measured before is on the card since then; of several the latest; 0: none */
    uint64_t unknown_slot;      /* of the process that has it there, from 1; 0: it has none */
    uint64_t unknown_late;      /* launches that passed beside it because waiting reached its bound */
    uint64_t unknown_waiting_ns; /* since then a process waits to be the next with such work; the longest of them */
    uint64_t departed_busy_ns;  /* of busy_ns, what those have paid */
    uint64_t probe_until_ns;    /* a process measures a kernel alone: the others of the container hold theirs, too */
    uint64_t turn_until_ns;     /* it looks again before then, see turns.c */
    uint64_t served_ns;         /* to whoever passed last; who comes anew begins there */
    uint64_t reserved[40];
};
_Static_assert(sizeof(struct throttle_bucket) == 512, "the usage file reserves 64 words");

struct throttle_limits {
    uint32_t core_quota;  /* parts per 10,000 of a card; 0 means nobody set one */
    uint32_t policy;
    uint32_t priority;
};

/* What a peer said of itself in its page, with what the agent says of it. */
struct throttle_peer {
    struct throttle_limits limits;
    uint64_t wanting_until_ns;
    uint64_t busy_until_ns;
    uint64_t unseen_until_ns;  /* it did not say that its work is done: what is measured until then is not ours alone */
    uint64_t hold_until_ns;
    uint64_t probe_until_ns;
    uint64_t busy_ns;          /* total charged */
    int64_t tokens_ns;
    uint64_t tokens_at_ns;
    uint32_t index;            /* place on the card: of two that probe the lower one goes first */
};

struct throttle_ask {
    uint64_t now_ns;
    uint64_t since_ns;       /* when this launch first asked */
    uint64_t ahead_ns;       /* learned cost of our work not finished, less the progress of its first batch */
    uint64_t head_ns;        /* cost of the batch that runs now */
    uint64_t overdue_ns;     /* charged because it runs longer than that */
    uint64_t patience_ns;    /* with own work; THROTTLE_WAIT_NS_MAX or more */
    uint64_t served_ns;      /* charged to this process, and what it was behind when it began to ask */
    uint64_t busy_until_ns;  /* what this process said of its own work last */
    uint32_t ahead_launches;
    uint32_t index;
    uint32_t process;        /* tells the processes of the container apart */
    uint32_t floods;         /* other low-priority containers with work: high priority waits for what all of them have */
    bool ahead_unknown;      /* something outstanding was never measured */
    bool unknown;            /* this launch was never measured: those have a line of their own, see unknowns.c */
    bool probing;            /* we hold the probe and want the card to be empty first */
};

struct throttle_decision {
    enum throttle_reason reason;
    uint64_t until_ns;   /* ask again then, or earlier */
    bool borrowed;       /* passes without tokens: not charged to the bucket */
    bool late;           /* passes because the wait reached its bound */
};

/* One finished batch. */
struct throttle_span {
    uint64_t elapsed_ns;     /* between its events: includes waiting for others */
    uint64_t learned_ns;     /* sum of learned costs, 0 when one of them is unknown */
    uint64_t longest_ns;     /* the same launches as long as they were ever seen to take alone, lately; 0: as learned */
    uint64_t peers_busy_ns;  /* what peers were charged meanwhile, and since the batch before */
    uint64_t peers_meanwhile_ns; /* without the latter; with what did not fit into the batch before, if it was right behind */
    uint32_t peers_parts;    /* of the card, that neighbours who had work are entitled to */
    bool contended;
    bool unconfirmed;        /* one of its kernels was never measured alone */
};

/* Of one process: time of contended batches that nobody was charged for so far. */
struct throttle_ledger {
    bool missing;            /* a measurement alone ended a time that nobody was charged for: there may be others like that time */
    int64_t unattributed_ns;
    int64_t room_ns;         /* time that our active neighbours are not entitled to, less what we paid */
    uint64_t saved_ns;       /* of batches that took less than learned, for those that took more */
    uint64_t surprise_ns;    /* of batches in a row that all took many times what they ever took */
    /* Of the last batch: more was left over than we can be made to pay, or many times what was learned was paid. */
    bool doubtful, surprised;
    bool believed;           /* the batches in a row are many enough */
};

/* The probe's next period, after one that gave a clean measurement or not. */
uint64_t throttle_probe_period(uint64_t period_ns, bool clean);
struct throttle_decision throttle_decide(struct throttle_bucket *bucket, const struct throttle_limits *limits,
                                         const struct throttle_ask *ask, const struct throttle_peer *peers, int count);
void throttle_refill(struct throttle_bucket *bucket, const struct throttle_limits *limits, uint64_t now_ns);
/* Low priority: the processes of a container have no more outstanding together than one may have alone. false: another one
 * was quicker, ask again. A killed one holds its place until its work should have been done. */
bool throttle_reserve(struct throttle_bucket *bucket, const struct throttle_limits *limits,
                      const struct throttle_ask *ask, uint64_t cost_ns, bool late);
/* More goes with what was reserved. */
void throttle_extend(struct throttle_bucket *bucket, const struct throttle_limits *limits, uint64_t cost_ns,
                     uint64_t now_ns);
/* Less is outstanding than was reserved. */
void throttle_release(struct throttle_bucket *bucket, uint64_t unused_ns, uint64_t now_ns);
/* A process is gone, and since that moment it had work on the card that was never measured before; for the others of its
 * container so much was measured meanwhile. Returns what it pays. */
uint64_t throttle_depart(struct throttle_bucket *bucket, uint64_t since_ns, uint64_t others_ns, uint64_t now_ns);
/* Negative costs give back: a launch is charged its learned cost, the batch the difference to what it took. */
void throttle_charge(struct throttle_bucket *bucket, int64_t cost_ns, bool borrowed);
/* Work that nobody measured yet. Returns what was charged, to be given back when it is known. */
uint64_t throttle_guess(struct throttle_bucket *bucket, uint64_t cost_ns, bool borrowed);
uint64_t throttle_attribute(struct throttle_ledger *ledger, const struct throttle_span *span);
/* What the neighbours who had work after that moment may claim of the card, whatever they say they were charged. */
uint32_t throttle_entitled_parts(const struct throttle_limits *limits, const struct throttle_peer *peers, int count,
                                 uint64_t since_ns);
/* Neighbours of low priority with work. */
uint32_t throttle_floods(const struct throttle_peer *peers, int count, uint64_t now_ns);
/* When to look again for the end of work that may take microseconds or seconds. */
uint64_t throttle_unknown_poll_ns(const struct throttle_ask *ask);
bool throttle_limited(const struct throttle_limits *limits);
bool throttle_high_has_work(struct throttle_bucket *bucket, const struct throttle_peer *peers, int count, uint64_t now_ns);
/* Low priority waited for high. */
void throttle_high_honoured(struct throttle_bucket *bucket, uint64_t from_ns, uint64_t to_ns);
bool throttle_active(const struct throttle_peer *peer, uint64_t now_ns);
void throttle_probe_honoured(struct throttle_bucket *bucket, uint64_t waited_ns);

#endif
