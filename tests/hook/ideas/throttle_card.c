#include "throttle_card.h"

static struct card_operation *waiting(struct card *card, int container) {
    struct card_queue *queue = &card->queues[container];
    return queue->running == queue->tail ? 0 : &queue->operations[queue->running % CARD_QUEUE_MAX];
}

static int next_fifo(struct card *card) {
    int first = -1;
    for (int each = 0; each < card->count; each++) {
        struct card_operation *operation = waiting(card, each);
        if (operation && (first < 0 || operation->order < waiting(card, first)->order)) first = each;
    }
    return first;
}

static int next_slice(struct card *card) {
    if (card->turn_left_ns > 0 && waiting(card, card->turn)) return card->turn;
    for (int step = 1; step <= card->count; step++) {
        int each = (card->turn + step) % card->count;
        if (!waiting(card, each)) continue;
        card->turn = each;
        card->turn_left_ns = CARD_SLICE_NS;
        return each;
    }
    return -1;
}

void card_advance(struct card *card, uint64_t now_ns) {
    while (card->now_ns < now_ns) {
        int container = card->model == CARD_FIFO ? next_fifo(card) : next_slice(card);
        if (container < 0) break;
        struct card_operation *operation = waiting(card, container);
        uint64_t step_ns = now_ns - card->now_ns;
        if (operation->left_ns < step_ns) step_ns = operation->left_ns;
        if (card->model == CARD_TIMESLICE && card->turn_left_ns < step_ns) step_ns = card->turn_left_ns;
        if (operation->started_ns == 0) operation->started_ns = card->now_ns;
        card->now_ns += step_ns;
        card->busy_ns += step_ns;
        card->queues[container].busy_ns += step_ns;
        operation->left_ns -= step_ns;
        if (card->model == CARD_TIMESLICE) card->turn_left_ns -= step_ns;
        if (operation->left_ns > 0) continue;
        operation->ended_ns = card->now_ns;
        card->queues[container].running++;
    }
    card->now_ns = now_ns;
}

bool card_submit(struct card *card, int container, uint64_t cost_ns) {
    struct card_queue *queue = &card->queues[container];
    if (queue->tail - queue->head == CARD_QUEUE_MAX) return false;
    queue->operations[queue->tail++ % CARD_QUEUE_MAX] = (struct card_operation){
        .submitted_ns = card->now_ns, .left_ns = cost_ns, .cost_ns = cost_ns, .order = ++card->order};
    return true;
}

struct card_operation *card_finished(struct card *card, int container) {
    struct card_queue *queue = &card->queues[container];
    return queue->head == queue->running ? 0 : &queue->operations[queue->head % CARD_QUEUE_MAX];
}

void card_reap(struct card *card, int container) { card->queues[container].head++; }
