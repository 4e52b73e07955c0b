/* A model card for simulations of the compute limits alone: no driver, no threads, integer nanoseconds. */
#ifndef THROTTLE_CARD_H
#define THROTTLE_CARD_H

#include <stdbool.h>
#include <stdint.h>

#define CARD_CONTAINERS_MAX 8
#define CARD_QUEUE_MAX 512
#define CARD_SLICE_NS 2000000ull

enum card_model { CARD_FIFO, CARD_TIMESLICE };

struct card_operation {
    uint64_t submitted_ns, started_ns, ended_ns, left_ns, cost_ns;
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
    int count;
    struct card_queue queues[CARD_CONTAINERS_MAX];
    uint64_t now_ns, busy_ns, order;
    int turn;
    uint64_t turn_left_ns;
};

void card_advance(struct card *card, uint64_t now_ns);
bool card_submit(struct card *card, int container, uint64_t cost_ns);
struct card_operation *card_finished(struct card *card, int container);
void card_reap(struct card *card, int container);

#endif
