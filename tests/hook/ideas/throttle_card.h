/* A model card for simulations of the compute limits alone: no driver, no threads, integer nanoseconds. A process has one
 * queue; the card runs one kernel at a time. */
#ifndef THROTTLE_CARD_H
#define THROTTLE_CARD_H

#include <stdbool.h>
#include <stdint.h>

#define CARD_QUEUES_MAX 12
#define CARD_QUEUE_MAX 256 /* power of two */
#define CARD_SLICE_NS 2000000ull
#define CARD_NEVER UINT64_MAX

enum card_model { CARD_FIFO, CARD_TIMESLICE };

struct card_operation {
    uint64_t submitted_ns, ended_ns, left_ns;
    uint64_t order;
};

struct card_queue {
    struct card_operation operations[CARD_QUEUE_MAX];
    unsigned head, tail;       /* [head, tail) not yet reaped by the owner */
    unsigned running;          /* [head, running) finished */
    uint64_t busy_ns;
};

struct card {
    enum card_model model;
    struct card_queue queues[CARD_QUEUES_MAX];
    uint64_t now_ns, busy_ns, order;
    int chosen;                /* whose operation has the card now, -1: nobody's */
    uint64_t turn_left_ns;
};

void card_begin(struct card *card, enum card_model model);
/* When the operation that has the card ends or its slice is over. */
uint64_t card_event_ns(const struct card *card);
/* To a moment that is not after the next event. Returns the queue of an operation that ended then, or -1. */
int card_advance(struct card *card, uint64_t now_ns);
void card_submit(struct card *card, int queue, uint64_t cost_ns);
/* The oldest one that ended and was not reaped. */
struct card_operation *card_finished(struct card *card, int queue);
void card_reap(struct card *card, int queue);
/* Its process is gone: what runs ends now, what waits never begins. */
void card_kill(struct card *card, int queue);
bool card_has_work(const struct card *card, int queue);

#endif
