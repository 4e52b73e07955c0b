/* Streams, contexts and cards in the orders in which programs use them: stream_orders CASE. What was really used is in the
 * driver's books, what was charged in the container's; they have to agree. */
#include <pthread.h>
#include <stdbool.h>
#include <time.h>

#include "driver_calls.h"
#include "memory_client.h"

void egpuSimSleep(uint64_t);
void egpuSimExpect(uint32_t);

enum { CARDS = 2, SHORT_US = 20, LONG_US = 5000, LESSONS = 40, ROUNDS = 20, US_NS = 1000 };
enum { CU_STREAM_WAIT_VALUE_EQ = 1, CU_GREEN_CTX_DEFAULT_STREAM = 1, CU_DEV_RESOURCE_TYPE_SM = 1 };

static CUcontext contexts[CARDS];
static CUfunction spin[CARDS];

static void open_cards(void) {
    MUST(cuInit(0));
    for (int card = CARDS - 1; card >= 0; card--) {
        MUST(cuDevicePrimaryCtxRetain(&contexts[card], card));
        MUST(cuCtxSetCurrent(contexts[card]));
        spin[card] = kernel("egpu_spin_us");
    }
}

static CUresult launch_shaped(int card, CUstream stream, unsigned int us, unsigned int grid) {
    void *parameters[] = {&us};
    return cuLaunchKernel(spin[card], grid, 1, 1, 1, 1, 1, 0, stream, parameters, NULL);
}

static void launch(int card, CUstream stream, unsigned int us) { MUST(launch_shaped(card, stream, us, 1)); }

static CUstream stream_of(int card) {
    CUstream stream;
    MUST(cuCtxSetCurrent(contexts[card]));
    MUST(cuStreamCreate(&stream, 1));
    return stream;
}

/* From here on the kernel is believed to be short. */
static void teach(int card, CUstream stream) {
    for (int each = 0; each < LESSONS; each++) {
        launch(card, stream, SHORT_US);
        MUST(cuStreamSynchronize(stream));
    }
}

static CUcontext looks_with;

static void *look(void *stream) {
    MUST(cuCtxSetCurrent(looks_with));
    MUST(cuStreamSynchronize(stream));
    egpuSimDetach();
    return NULL;
}

/* Batches are ended by a thread that has another context, or none: it waits for an empty stream of its own card. */
static void looked_at(CUcontext with) {
    CUstream stream = stream_of(0), other = stream_of(1);
    pthread_t thread;
    looks_with = with;
    MUST(cuCtxSetCurrent(contexts[0]));
    teach(0, stream);
    for (int round = 0; round < ROUNDS; round++) {
        launch(0, stream, LONG_US);
        egpuSimExpect(1);
        pthread_create(&thread, NULL, look, other);
        egpuSimDetach();
        pthread_join(thread, NULL);
        egpuSimSleep(2 * LONG_US * US_NS);
    }
    MUST(cuCtxSynchronize());
}

static void by_other_context(void) { looked_at(contexts[1]); }
static void by_no_context(void) { looked_at(NULL); }

/* The other card is current when its stream is seen for the first time. */
static void on_other_card(void) {
    CUcontext current;
    CUstream stream = stream_of(1);
    MUST(cuCtxSetCurrent(contexts[0]));
    for (int round = 0; round < ROUNDS; round++) {
        launch(1, stream, LONG_US);
        MUST(cuCtxGetCurrent(&current));
        if (current != contexts[0]) say("context_lost", round);
    }
    MUST(cuStreamSynchronize(stream));
}

/* One thread, a card at each launch: for two seconds, a third of the card's quota on each. */
static void cards_in_turn(bool with_streams) {
    CUstream streams[CARDS] = {NULL};
    for (int card = 0; with_streams && card < CARDS; card++) streams[card] = stream_of(card);
    uint64_t until_ns = egpuSimNow() + 2000000000;
    while (egpuSimNow() < until_ns)
        for (int card = 0; card < CARDS; card++) {
            MUST(cuCtxSetCurrent(contexts[card]));
            launch(card, streams[card], card == 0 ? 1000 : 3000);
        }
    for (int card = 0; card < CARDS; card++) {
        MUST(cuCtxSetCurrent(contexts[card]));
        MUST(cuCtxSynchronize());
    }
}

static void in_turn(void) { cards_in_turn(true); }
static void in_turn_by_default(void) { cards_in_turn(false); }

/* Streams end while their work is not done, known and unknown. */
static void ended_streams(void) {
    CUstream lessons = stream_of(0);
    teach(0, lessons);
    for (unsigned int round = 0; round < ROUNDS; round++) {
        CUstream stream;
        MUST(cuStreamCreate(&stream, 1));
        MUST(launch_shaped(0, stream, LONG_US, round % 2 == 0 ? 1 : 2 + round));
        MUST(cuStreamDestroy_v2(stream));
    }
    MUST(cuCtxSynchronize());
}

/* Contexts likewise; the primary one of the other card stays current in between. */
static void ended_contexts(void) {
    for (unsigned int round = 0; round < ROUNDS; round++) {
        CUcontext context;
        CUstream stream;
        MUST(cuCtxCreate_v2(&context, 0, 0));
        spin[0] = kernel("egpu_spin_us");
        MUST(cuStreamCreate(&stream, 1));
        MUST(launch_shaped(0, stream, LONG_US, 2 + round));
        MUST(launch_shaped(0, NULL, LONG_US, 2 + round));
        MUST(cuCtxDestroy_v2(context));
    }
}

/* A green context's streams are left behind without one. */
static void ended_green_contexts(void) {
    for (unsigned int round = 0; round < ROUNDS; round++) {
        CUdevResource whole;
        CUdevResourceDesc description;
        CUgreenCtx green;
        CUcontext context;
        CUstream stream;
        MUST(cuDeviceGetDevResource(0, &whole, CU_DEV_RESOURCE_TYPE_SM));
        MUST(cuDevResourceGenerateDesc(&description, &whole, 1));
        MUST(cuGreenCtxCreate(&green, description, 0, CU_GREEN_CTX_DEFAULT_STREAM));
        MUST(cuCtxFromGreenCtx(&context, green));
        MUST(cuCtxSetCurrent(context));
        spin[0] = kernel("egpu_spin_us");
        MUST(cuCtxSetCurrent(contexts[1]));
        MUST(cuGreenCtxStreamCreate(&stream, green, 1, 0));
        MUST(launch_shaped(0, stream, LONG_US, 2 + round));
        MUST(cuGreenCtxDestroy(green));
    }
}

static void ended_primary_contexts(void) {
    for (unsigned int round = 0; round < ROUNDS; round++) {
        CUstream stream = stream_of(0);
        spin[0] = kernel("egpu_spin_us");
        MUST(launch_shaped(0, stream, LONG_US, 2 + round));
        if (round % 2 == 0) MUST(cuDevicePrimaryCtxReset_v2(0));
        else MUST(cuDevicePrimaryCtxRelease_v2(0));
        MUST(cuDevicePrimaryCtxRetain(&contexts[0], 0));
    }
}

static void sleep_long(void *unused) {
    (void)unused;
    egpuSimSleep((uint64_t)LONG_US * US_NS);
}

enum between { HOST_FUNCTION, EVENT, VALUE, COPY_TO_CARD, COPY_FROM_CARD };

/* The stream waits between two launches that would be measured together; the card has nothing to do meanwhile. */
static void waiting(enum between what, bool by_default) {
    static char host[64 << 20];
    CUstream other = stream_of(0), stream = by_default ? NULL : stream_of(0);
    CUdeviceptr device;
    CUevent event;
    MUST(cuCtxSetCurrent(contexts[0]));
    MUST(cuMemAlloc_v2(&device, sizeof host));
    MUST(cuEventCreate(&event, 0));
    teach(0, stream);
    for (int round = 0; round < ROUNDS; round++) {
        launch(0, stream, SHORT_US);
        if (what == HOST_FUNCTION) MUST(cuLaunchHostFunc(stream, sleep_long, NULL));
        if (what == EVENT) {
            MUST(cuLaunchHostFunc(other, sleep_long, NULL));
            MUST(cuEventRecord(event, other));
            MUST(cuStreamWaitEvent(stream, event, 0));
        }
        if (what == VALUE) {
            MUST(cuLaunchHostFunc(other, sleep_long, NULL));
            MUST(cuStreamWriteValue32_v2(other, device, (uint32_t)round + 1, 0));
            MUST(cuStreamWaitValue32_v2(stream, device, (uint32_t)round + 1, CU_STREAM_WAIT_VALUE_EQ));
        }
        if (what == COPY_TO_CARD) MUST(cuMemcpyHtoDAsync_v2(device, host, sizeof host, stream));
        if (what == COPY_FROM_CARD) MUST(cuMemcpyDtoHAsync_v2(host, device, sizeof host, stream));
        launch(0, stream, SHORT_US);
        MUST(cuStreamSynchronize(stream));
    }
}

static void host_function_between(void) { waiting(HOST_FUNCTION, false); }
static void event_between(void) { waiting(EVENT, false); }
static void value_between(void) { waiting(VALUE, false); }
static void copy_to_card_between(void) { waiting(COPY_TO_CARD, false); }
static void copy_from_card_between(void) { waiting(COPY_FROM_CARD, false); }
static void event_between_by_default(void) { waiting(EVENT, true); }

/* The quota of the stream's card is asked, whichever is current. */
static void pools_of_cards(void) {
    for (int card = 0; card < CARDS; card++) {
        CUdeviceptr address = 0;
        CUstream stream = stream_of(card);
        MUST(cuCtxSetCurrent(contexts[1 - card]));
        say(card == 0 ? "small" : "large", cuMemAllocAsync(&address, 512 * MIB, stream));
        if (address) MUST(cuMemFreeAsync(address, stream));
        MUST(cuStreamSynchronize(stream));
    }
}

static uint64_t wait_ns(CUstream stream) {
    enum { WAITS = 500, TRIES = 5 };
    uint64_t least_ns = UINT64_MAX;
    for (int try = 0; try < TRIES; try++) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        for (int each = 0; each < WAITS; each++) MUST(cuStreamSynchronize(stream));
        clock_gettime(CLOCK_MONOTONIC, &after);
        uint64_t ns = (uint64_t)(after.tv_sec - before.tv_sec) * 1000000000 + (uint64_t)after.tv_nsec -
                      (uint64_t)before.tv_nsec;
        least_ns = ns < least_ns ? ns : least_ns;
    }
    return least_ns;
}

/* What thousands of streams that have nothing to do add to a wait on one: in percent. */
static void idle_streams(void) {
    enum { STREAMS = 4000 };
    CUstream first = stream_of(0), stream;
    uint64_t before_ns = wait_ns(first);
    for (int each = 0; each < STREAMS; each++) {
        MUST(cuStreamCreate(&stream, 1));
        launch(0, stream, 1);
    }
    MUST(cuCtxSynchronize());
    say("percent", (int64_t)(100 * wait_ns(first) / before_ns));
}

static void say_nodes(CUgraph graph) {
    size_t count = 0;
    MUST(cuGraphGetNodes(graph, NULL, &count));
    say("nodes", (int64_t)count);
}

/* Streams with batches that are not ended begin or join captures of all kinds; only what is the program's is recorded. */
static void captures(void) {
    CUstream first = stream_of(0), second = stream_of(0), apart = stream_of(0);
    CUstreamCaptureMode mode = CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
    CUevent fork, join;
    CUgraph graph, made;
    CUgraphExec exec;
    MUST(cuCtxSetCurrent(contexts[0]));
    MUST(cuEventCreate(&fork, 0));
    MUST(cuEventCreate(&join, 0));
    teach(0, first);
    MUST(cuGraphCreate(&graph, 0));
    for (int round = 0; round < ROUNDS; round++) {
        for (int each = 0; each < 3; each++) {
            launch(0, first, SHORT_US);
            launch(0, second, SHORT_US);
            launch(0, apart, SHORT_US);
        }
        if (round % 2 == 0) MUST(cuStreamBeginCapture_v2(first, CU_STREAM_CAPTURE_MODE_GLOBAL));
        else MUST(cuStreamBeginCaptureToGraph(first, graph, NULL, NULL, 0, CU_STREAM_CAPTURE_MODE_RELAXED));
        launch(0, first, SHORT_US);
        MUST(cuEventRecord(fork, first));
        MUST(cuStreamWaitEvent(second, fork, 0));
        launch(0, second, SHORT_US);
        for (int each = 0; each < LESSONS; each++) launch(0, apart, SHORT_US);
        MUST(cuThreadExchangeStreamCaptureMode(&mode));
        MUST(cuEventRecord(join, second));
        MUST(cuStreamWaitEvent(first, join, 0));
        launch(0, first, SHORT_US);
        MUST(cuStreamEndCapture(first, &made));
        say_nodes(made);
        launch(0, second, SHORT_US);
        MUST(cuGraphInstantiateWithFlags(&exec, made, 0));
        MUST(cuGraphLaunch(exec, first));
        MUST(cuCtxSynchronize());
        say("mode", (int64_t)mode);
    }
}

/* Errors are the driver's own. */
static void without_context(void) {
    CUstream stream = stream_of(0);
    CUevent event;
    CUdeviceptr address = 0;
    launch(0, stream, SHORT_US);
    MUST(cuCtxSetCurrent(NULL));
    say("launch", launch_shaped(0, stream, SHORT_US, 1));
    say("default", launch_shaped(0, NULL, SHORT_US, 1));
    say("event", cuEventCreate(&event, 0));
    say("copy", cuMemcpyDtoD_v2(1, 1, 1 << 20));
    say("fill", cuMemsetD8Async(1, 0, 1 << 20, stream));
    say("unified", cuMemcpyAsync(1, 1, 1 << 20, stream));
    say("synchronise", cuStreamSynchronize(stream));
    say("allocate", cuMemAllocAsync(&address, 1 << 20, stream));
    say("destroy", cuStreamDestroy_v2(stream));
    say("again", cuStreamDestroy_v2(stream));
}

int main(int count, char **arguments) {
    static const struct memory_case cases[] = {
        {"by_other_context", by_other_context},
        {"by_no_context", by_no_context},
        {"on_other_card", on_other_card},
        {"in_turn", in_turn},
        {"in_turn_by_default", in_turn_by_default},
        {"ended_streams", ended_streams},
        {"ended_contexts", ended_contexts},
        {"ended_primary_contexts", ended_primary_contexts},
        {"ended_green_contexts", ended_green_contexts},
        {"host_function_between", host_function_between},
        {"event_between", event_between},
        {"value_between", value_between},
        {"copy_to_card_between", copy_to_card_between},
        {"copy_from_card_between", copy_from_card_between},
        {"event_between_by_default", event_between_by_default},
        {"pools_of_cards", pools_of_cards},
        {"idle_streams", idle_streams},
        {"captures", captures},
        {"without_context", without_context},
    };
    open_cards();
    return run_case(cases, sizeof cases / sizeof *cases, count, arguments);
}
