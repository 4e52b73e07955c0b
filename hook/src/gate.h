/* The gate of one card in one process: asks throttle.c, waits, charges, and tells the peers by the container's page.
 *
 * Its lock guards what the process knows of its own work. It is short: no driver call and no waiting inside.
 */
#ifndef EGPU_GATE_H
#define EGPU_GATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "costs.h"
#include "lookout.h"
#include "region.h"
#include "neighbours.h"
#include "throttle.h"

struct gate {
    int card;
    uint32_t process;
    pthread_mutex_t lock;
    struct costs costs;
    struct throttle_ledger ledger;
    uint64_t ahead_ns;       /* learned cost of launches not known to be finished */
    uint64_t head_ns;        /* of that, the oldest batch */
    uint64_t running_since_ns; /* what was before the oldest work had ended */
    uint64_t paced_used_ns, paced_elapsed_ns; /* of the last batches: how much of the card was ours while our work was on it */
    uint64_t room_ns;        /* time in which we had work on the card and did not use it */
    uint64_t surplus_ns;     /* that peers were charged in the last batches and did not fit in them: several end at one look */
    uint64_t work_end_ns;    /* when all should be finished, if nobody else had work */
    uint64_t busy_ns;        /* charged to this process, by batches that ended and in advance */
    uint64_t wall_ahead_ns;  /* CLOCK_REALTIME before our clock */
    uint64_t busy_until_ns;  /* what this process wrote to the page last */
    uint64_t probe_started_ns;
    uint64_t probe_key;      /* that it was begun for */
    uint64_t probe_measured_ns; /* its first measurement ended; 0: not yet */
    uint64_t probe_period_ns;
    uint64_t behind_ns;      /* see turns.h */
    uint64_t granted_ns, probe_granted_ns; /* of all launches; the next probe begins when it is so much */
    uint64_t exact_until_ns; /* each launch is followed by an event, see gate_guessed */
    uint64_t reap_at_ns;     /* finished batches are looked for then */
    uint64_t overdue_ns;     /* charged beyond ahead_ns, because the oldest work runs longer than that */
    uint64_t running_ns;     /* the oldest work has run for so long, when that is worth telling before it ends */
    uint64_t overdue_since_ns, overdue_others_ns; /* the oldest work became that, and what others had been charged */
    bool overdue_borrowed, borrowed; /* so was the last pass */
    pthread_t submitter;     /* of the oldest work, or who saw the end of what was before it */
    uint32_t late;           /* launches that passed late beside the oldest work */
    uint32_t launches;       /* not known to be finished */
    uint32_t unknown;        /* of those, never measured */
    uint64_t turn_ns;        /* its container's with such work is this process's since then; 0: it is not */
    uint64_t unknown_since_ns; /* the last of those passed */
    uint32_t probing;
    struct lookout lookout;
};

/* One submission on its way through. */
struct gate_pass {
    uint64_t key;
    uint64_t learned_ns;
    uint64_t longest_ns;     /* that it took lately */
    uint64_t now_ns;         /* when it passed */
    bool borrowed;
    bool probe;
    bool clean_wanted;
    bool unconfirmed;        /* never measured alone */
    bool free;               /* of a container that is held to nothing: only measured */
    bool held;               /* another process had work that was never measured */
    bool behind;             /* all that is outstanding, in the order of its stream */
};

/* What a finished batch says of itself. */
struct gate_batch {
    struct throttle_span span;
    uint64_t key;            /* of all its launches, 0 when they differ */
    uint64_t learned_ns;     /* charged in advance */
    uint32_t launches;
    uint32_t unknown;
    bool borrowed;
    bool probe;              /* submitted while the others held their launches */
    bool unclear;            /* there may be a pause in it: charged, but nothing is learned */
    bool bounded;            /* but that it took no longer */
    bool mates;              /* other streams of the process had work meanwhile */
    bool chained;            /* right behind the batch before */
    uint64_t ended_ns;       /* as far as known */
    bool idle_start;         /* the stream was empty before it, so the way from the call to the card is in its time */
};

/* NULL: not a card of this container. */
struct gate *gate_of_card(int card);
/* Waits until the launch may pass; reaps finished batches meanwhile. The launch counts as outstanding from here on.
 * `own`: launches outstanding in its stream. */
void gate_enter(struct gate *gate, uint64_t key, uint32_t own, struct gate_pass *pass);
/* So much more work is to be submitted without asking. */
void gate_grant(struct gate *gate, const struct gate_pass *pass, uint64_t cost_ns);
/* Of a grant: what was not submitted, and how many launches the rest was. */
void gate_return(struct gate *gate, uint64_t unused_ns, uint32_t launches, bool borrowed);
/* How much may go without asking: little while somebody of higher priority may come. */
uint64_t gate_row_ns(struct gate *gate, const struct gate_pass *pass);
/* Work ended at some moment of the last `unknown_ns` and was charged as learned. */
void gate_guessed(struct gate *gate, uint64_t now_ns, uint64_t unknown_ns);
bool gate_measures_exactly(struct gate *gate, uint64_t now_ns);
/* The launch failed: as if it had never been. */
void gate_undo(struct gate *gate, const struct gate_pass *pass);
/* Returns what was charged. */
uint64_t gate_finish(struct gate *gate, const struct gate_batch *batch, uint64_t next_learned_ns);
/* Only waits while higher priority has work: for copies. */
void gate_yield(struct gate *gate);
/* Sums of the busy time of everybody but this process: a difference over a batch says who else ran. `active`: somebody
 * has work on the card, or had since then. */
struct neighbours_busy gate_others(struct gate *gate, uint64_t since_ns, bool *active);
/* Work of this process may have ended: the page says so. */
void gate_publish(struct gate *gate, uint64_t now_ns);
/* The application waits for the card: its page says busy until then, for it cannot say anything meanwhile. */
void gate_block(struct gate *gate, uint64_t until_ns);
void gate_after_fork(void);

#endif
