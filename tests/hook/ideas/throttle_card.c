#include "throttle_card.h"

#include <string.h>

static struct card_operation *waiting(struct card *card, int queue) {
    struct card_queue *one = &card->queues[queue];
    return one->running == one->tail ? 0 : &one->operations[one->running % CARD_QUEUE_MAX];
}

static int next_fifo(struct card *card) {
    int first = -1;
    for (int each = 0; each < CARD_QUEUES_MAX; each++) {
        struct card_operation *operation = waiting(card, each);
        if (operation && (first < 0 || operation->order < waiting(card, first)->order)) first = each;
    }
    return first;
}

static int next_slice(struct card *card) {
    for (int step = 1; step <= CARD_QUEUES_MAX; step++) {
        int each = (card->chosen + step + CARD_QUEUES_MAX) % CARD_QUEUES_MAX;
        if (!waiting(card, each)) continue;
        card->turn_left_ns = CARD_SLICE_NS;
        return each;
    }
    return -1;
}

/* Nothing is taken away before its end or the end of its slice. */
static void choose(struct card *card) {
    bool stays = card->model == CARD_TIMESLICE && card->chosen >= 0 && card->turn_left_ns > 0 && waiting(card, card->chosen);
    if (!stays) card->chosen = card->model == CARD_FIFO ? next_fifo(card) : next_slice(card);
}

void card_begin(struct card *card, enum card_model model) {
    memset(card, 0, sizeof *card);
    card->model = model;
    card->chosen = -1;
}

uint64_t card_event_ns(const struct card *card) {
    if (card->chosen < 0) return CARD_NEVER;
    const struct card_queue *queue = &card->queues[card->chosen];
    uint64_t left_ns = queue->operations[queue->running % CARD_QUEUE_MAX].left_ns;
    if (card->model == CARD_TIMESLICE && card->turn_left_ns < left_ns) left_ns = card->turn_left_ns;
    return card->now_ns + left_ns;
}

int card_advance(struct card *card, uint64_t now_ns) {
    uint64_t step_ns = now_ns - card->now_ns;
    int ended = -1;
    card->now_ns = now_ns;
    if (card->chosen < 0) return -1;
    struct card_operation *operation = waiting(card, card->chosen);
    card->busy_ns += step_ns;
    card->queues[card->chosen].busy_ns += step_ns;
    operation->left_ns -= step_ns;
    if (card->model == CARD_TIMESLICE) card->turn_left_ns -= step_ns;
    if (operation->left_ns == 0) {
        operation->ended_ns = now_ns;
        ended = card->chosen;
        card->queues[ended].running++;
        choose(card);
    } else if (card->model == CARD_TIMESLICE && card->turn_left_ns == 0) {
        choose(card);
    }
    return ended;
}

void card_submit(struct card *card, int queue, uint64_t cost_ns) {
    struct card_queue *one = &card->queues[queue];
    one->operations[one->tail++ % CARD_QUEUE_MAX] =
        (struct card_operation){.submitted_ns = card->now_ns, .left_ns = cost_ns, .order = ++card->order};
    if (card->chosen < 0) choose(card);
}

struct card_operation *card_finished(struct card *card, int queue) {
    struct card_queue *one = &card->queues[queue];
    return one->head == one->running ? 0 : &one->operations[one->head % CARD_QUEUE_MAX];
}

void card_reap(struct card *card, int queue) { card->queues[queue].head++; }

void card_kill(struct card *card, int queue) {
    struct card_queue *one = &card->queues[queue];
    one->head = one->running = one->tail;
    if (card->chosen == queue) choose(card);
}

bool card_has_work(const struct card *card, int queue) { return card->queues[queue].running != card->queues[queue].tail; }
