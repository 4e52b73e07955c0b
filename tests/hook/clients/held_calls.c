/* Calls that submit work while the gate holds this container: prints how long each took in microseconds, where it must
 * not wait and then outside.
 *
 * held_calls WHERE DEBT_US   capture: on a stream that records
 *                            callback, added, node, captured: in a host function of a stream, in a callback of one, in
 *                            the host function of a graph's node, in one that was recorded
 *                            DEBT_US: kernel that is run first and not paid for yet */
#include <string.h>

#include "driver_calls.h"
#include "memory_client.h"

enum { BYTES = 4 << 20, LATER_NS = 50000000 };

static char host[BYTES];
static CUcontext context;
static CUfunction spin;
static CUdeviceptr one, other;
static CUstream inner, stream;

static void launch(unsigned int us, CUstream on) {
    void *parameters[] = {&us};
    MUST(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, on, parameters, NULL));
}

static void to_card(CUstream on) { MUST(cuMemcpyHtoDAsync_v2(one, host, BYTES, on)); }
static void on_card(CUstream on) { MUST(cuMemcpyDtoDAsync_v2(other, one, BYTES, on)); }
static void fill(CUstream on) { MUST(cuMemsetD8Async(one, 1, BYTES, on)); }
static void spin_shortly(CUstream on) { launch(10, on); }

static void to_card_at_once(CUstream unused) {
    (void)unused;
    MUST(cuMemcpyHtoD_v2(one, host, BYTES));
}

static void time_call(const char *where, const char *name, void (*call)(CUstream), CUstream on) {
    uint64_t before_ns = egpuSimNow();
    call(on);
    printf("%s_%s %llu\n", where, name, (unsigned long long)(egpuSimNow() - before_ns) / 1000);
}

static void time_calls(const char *where, CUstream on) {
    time_call(where, "launch", spin_shortly, on);
    time_call(where, "to_card", to_card, on);
    time_call(where, "on_card", on_card, on);
    time_call(where, "fill", fill, on);
}

static void host_function(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    time_calls("inside", inner);
}

static void callback(CUstream unused, CUresult status, void *unused_too) {
    (void)unused;
    (void)unused_too;
    MUST(status);
    host_function(NULL);
}

static void run_graph(CUgraph graph) {
    CUgraphExec exec;
    MUST(cuGraphInstantiateWithFlags(&exec, graph, 0));
    MUST(cuGraphLaunch(exec, stream));
    MUST(cuStreamSynchronize(stream));
}

static void inside(const char *where) {
    CUgraph graph;
    CUgraphNode node;
    CUDA_HOST_NODE_PARAMS host_node = {.fn = host_function};
    if (strcmp(where, "callback") == 0) {
        MUST(cuLaunchHostFunc(stream, host_function, NULL));
        MUST(cuStreamSynchronize(stream));
    } else if (strcmp(where, "added") == 0) {
        MUST(cuStreamAddCallback(stream, callback, NULL, 0));
        MUST(cuStreamSynchronize(stream));
    } else if (strcmp(where, "node") == 0) {
        MUST(cuGraphCreate(&graph, 0));
        MUST(cuGraphAddHostNode(&node, graph, NULL, 0, &host_node));
        run_graph(graph);
    } else {
        MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
        if (strcmp(where, "capture") == 0) time_calls("inside", stream);
        else MUST(cuLaunchHostFunc(stream, host_function, NULL));
        MUST(cuStreamEndCapture(stream, &graph));
        if (strcmp(where, "captured") == 0) run_graph(graph);
    }
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    context = begin();
    spin = kernel("egpu_spin_us");
    MUST(cuStreamCreate(&stream, 1));
    MUST(cuStreamCreate(&inner, 1));
    MUST(cuMemAlloc_v2(&one, BYTES));
    MUST(cuMemAlloc_v2(&other, BYTES));
    MUST(cuStreamSynchronize(stream));
    egpuSimSleep(LATER_NS);
    if (atoi(arguments[2]) > 0) launch((unsigned int)atoi(arguments[2]), inner);
    MUST(cuStreamSynchronize(inner));
    inside(arguments[1]);
    time_calls("outside", stream);
    time_call("outside", "to_card_at_once", to_card_at_once, stream);
    MUST(cuCtxSynchronize());
    return 0;
}
