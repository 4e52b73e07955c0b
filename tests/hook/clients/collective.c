/* A collective over two cards, whose kernel on one card runs until that on the other has begun: collective HELD_CARD
 *
 * A kernel of HELD_US stands for the one that waits. Prints in microseconds how long the call took that gives the other
 * card its part, and when that part was done: a kernel that waited for it would have ended then. */
#include "driver_calls.h"
#include "memory_client.h"

enum { HELD_US = 1000000, PART_US = 100, BOTH_HOLD_NS = 10000000 };
static const uint64_t TOGETHER_NS = 10000000000;

struct card {
    CUcontext context;
    CUfunction spin;
    CUstream stream;
};

static struct card open_card(int number) {
    struct card card;
    MUST(cuDevicePrimaryCtxRetain(&card.context, number));
    MUST(cuCtxSetCurrent(card.context));
    card.spin = kernel("egpu_spin_us");
    MUST(cuStreamCreate(&card.stream, 1));
    MUST(cuStreamSynchronize(card.stream));
    return card;
}

static void launch(const struct card *card, unsigned int us, unsigned int grid) {
    void *parameters[] = {&us};
    MUST(cuCtxSetCurrent(card->context));
    MUST(cuLaunchKernel(card->spin, grid, 1, 1, 1, 1, 1, 0, card->stream, parameters, NULL));
}

int main(int count, char **arguments) {
    if (count != 2) return 2;
    MUST(cuInit(0));
    struct card cards[] = {open_card(0), open_card(1)};
    int held = atoi(arguments[1]);
    /* Once before, so that the others can know how long it is. */
    launch(&cards[held], HELD_US, 2);
    MUST(cuStreamSynchronize(cards[held].stream));
    egpuSimSleep(TOGETHER_NS - egpuSimNow());
    launch(&cards[held], HELD_US, 2);
    egpuSimSleep(BOTH_HOLD_NS);
    uint64_t began_ns = egpuSimNow();
    launch(&cards[!held], PART_US, 1);
    say("call", (int64_t)(egpuSimNow() - began_ns) / 1000);
    MUST(cuStreamSynchronize(cards[!held].stream));
    say("done", (int64_t)(egpuSimNow() - began_ns) / 1000);
    return 0;
}
