/* Work that may pass uncharged: attack_evade how=WAY until_ms=2000
 *
 * The driver's books say what it really used. */
#include <pthread.h>
#include <unistd.h>

#include "task.h"

enum { SHORT_US = 10, LONG_US = 5000, STREAMS = 5000, THREADS = 16, BYTES = 1 << 28, SMALL_BYTES = 65535 };

static uint64_t until, thread_count, step_us;
static CUfunction function;
static CUstream stream;
static CUcontext context;

static void launch(CUstream in, unsigned int us, unsigned int grid) {
    void *parameters[] = {&us};
    MUST(cuLaunchKernel(function, grid, 1, 1, 1, 1, 1, 0, in, parameters, NULL));
}

static bool goes_on(void) { return egpuSimNow() < until; }

static CUgraphExec graph_of(unsigned int us, CUgraph *graph, CUgraphNode *node) {
    void *parameters[] = {&us};
    CUDA_KERNEL_NODE_PARAMS kernel = {.func = function, .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1,
                                      .blockDimY = 1, .blockDimZ = 1, .kernelParams = parameters};
    CUgraphExec exec;
    MUST(cuGraphCreate(graph, 0));
    MUST(cuGraphAddKernelNode_v2(node, *graph, NULL, 0, &kernel));
    MUST(cuGraphInstantiateWithFlags(&exec, *graph, 0));
    return exec;
}

/* A graph that is short while it is learned. */
static void graphs_set(void) {
    CUgraph graph;
    CUgraphNode node;
    CUgraphExec exec = graph_of(SHORT_US, &graph, &node);
    for (uint64_t each = 0; goes_on(); each++) {
        unsigned int us = each % 64 < 32 ? SHORT_US : LONG_US;
        void *parameters[] = {&us};
        CUDA_KERNEL_NODE_PARAMS kernel = {.func = function, .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1,
                                          .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1, .kernelParams = parameters};
        MUST(cuGraphExecKernelNodeSetParams_v2(exec, node, &kernel));
        MUST(cuGraphLaunch(exec, stream));
    }
}

/* Every launch is of a new one. */
static void graphs_new(void) {
    while (goes_on()) {
        CUgraph graph;
        CUgraphNode node;
        CUgraphExec exec = graph_of(LONG_US, &graph, &node);
        MUST(cuGraphLaunch(exec, stream));
        MUST(cuGraphExecDestroy(exec));
        MUST(cuGraphDestroy(graph));
    }
}

static void contexts(void) {
    while (goes_on()) {
        CUcontext own;
        CUstream in;
        CUmodule module;
        MUST(cuCtxCreate_v2(&own, 0, 0));
        MUST(cuModuleLoadData(&module, "egpu"));
        MUST(cuModuleGetFunction(&function, module, "egpu_spin_us"));
        MUST(cuStreamCreate(&in, 1));
        launch(in, LONG_US, 1);
        rest(LONG_US * 1100);
        MUST(cuCtxDestroy_v2(own));
    }
}

static void streams_die(void) {
    for (unsigned int grid = 1; goes_on(); grid++) {
        CUstream in;
        MUST(cuStreamCreate(&in, 1));
        launch(in, LONG_US, 1 + grid % 3);
        MUST(cuStreamDestroy_v2(in));
    }
}

static void many_streams(void) {
    static CUstream streams[STREAMS];
    for (unsigned int each = 0; each < STREAMS; each++) MUST(cuStreamCreate(&streams[each], 1));
    for (unsigned int each = 0; goes_on(); each++) launch(streams[each % STREAMS], 1000, 1);
}

static void copies(CUdeviceptr from, CUdeviceptr to, size_t bytes) {
    while (goes_on()) MUST(cuMemcpyDtoDAsync_v2(to, from, bytes, stream));
}

static void small_copies(void) {
    CUdeviceptr from, to;
    MUST(cuMemAlloc_v2(&from, BYTES));
    MUST(cuMemAlloc_v2(&to, BYTES));
    copies(from, to, SMALL_BYTES);
}

static void huge_copies(void) {
    CUdeviceptr from, to;
    MUST(cuMemAlloc_v2(&from, BYTES));
    MUST(cuMemAlloc_v2(&to, BYTES));
    copies(from, to, BYTES);
}

static void small_fills(void) {
    CUdeviceptr to;
    MUST(cuMemAlloc_v2(&to, BYTES));
    while (goes_on()) MUST(cuMemsetD8Async(to, 1, SMALL_BYTES, stream));
}

static void huge_fills(void) {
    CUdeviceptr to;
    MUST(cuMemAlloc_v2(&to, BYTES));
    while (goes_on()) MUST(cuMemsetD32Async(to, 1, BYTES / 4, stream));
}

static void nothing(void *data) { (void)data; }

static void host_functions(void) {
    for (unsigned int grid = 1; goes_on(); grid++) {
        launch(stream, LONG_US, 1);
        MUST(cuLaunchHostFunc(stream, nothing, NULL));
    }
}

static void capture_left_open(void) {
    CUstream other;
    MUST(cuStreamCreate(&other, 1));
    MUST(cuStreamBeginCapture_v2(other, CU_STREAM_CAPTURE_MODE_RELAXED));
    while (goes_on()) launch(stream, LONG_US, 1);
}

/* Behind a value that comes late. */
static void held_back(void) {
    CUdeviceptr word;
    MUST(cuMemAlloc_v2(&word, 64));
    MUST(cuMemsetD32_v2(word, 0, 16));
    CUstream other;
    MUST(cuStreamCreate(&other, 1));
    for (uint32_t turn = 1; goes_on(); turn++) {
        MUST(cuStreamWaitValue32_v2(stream, word, turn, 0));
        launch(stream, LONG_US, 1);
        launch(stream, LONG_US, 1);
        MUST(cuStreamWriteValue32_v2(other, word, turn, 0));
    }
}

static void *one_of_many(void *unused) {
    (void)unused;
    CUstream in;
    MUST(cuCtxSetCurrent(context));
    MUST(cuStreamCreate(&in, 1));
    for (unsigned int grid = 1; goes_on(); grid++) launch(in, 1000, grid);
    egpuSimDetach();
    return NULL;
}

static void threads(void) {
    pthread_t thread[THREADS];
    egpuSimExpect(THREADS);
    for (int each = 0; each < THREADS; each++) pthread_create(&thread[each], NULL, one_of_many, NULL);
    egpuSimDetach();
    for (int each = 0; each < THREADS; each++) pthread_join(thread[each], NULL);
}

static void *shares_the_stream(void *unused) {
    (void)unused;
    MUST(cuCtxSetCurrent(context));
    for (unsigned int each = 1; goes_on(); each++) launch(stream, 20 + each % 3 * (unsigned int)step_us, 1);
    egpuSimDetach();
    return NULL;
}

static void one_stream(void) {
    pthread_t thread[THREADS];
    egpuSimExpect((uint32_t)thread_count);
    for (int each = 0; each < (int)thread_count; each++) pthread_create(&thread[each], NULL, shares_the_stream, NULL);
    egpuSimDetach();
    for (int each = 0; each < (int)thread_count; each++) pthread_join(thread[each], NULL);
}

static const struct {
    const char *name;
    void (*run)(void);
} ways[] = {{"graphs_set", graphs_set}, {"graphs_new", graphs_new}, {"contexts", contexts},
            {"streams_die", streams_die}, {"many_streams", many_streams}, {"small_copies", small_copies},
            {"huge_copies", huge_copies}, {"small_fills", small_fills}, {"huge_fills", huge_fills},
            {"host_functions", host_functions}, {"capture_left_open", capture_left_open}, {"held_back", held_back},
            {"threads", threads}, {"one_stream", one_stream}};

int main(int count, char **arguments) {
    thread_count = option(count, arguments, "threads", THREADS);
    step_us = option(count, arguments, "step_us", 30);
    const char *how = option_text(count, arguments, "how", "");
    task_begin(&function, "egpu_spin_us", &stream);
    MUST(cuCtxGetCurrent(&context));
    MUST(cuStreamSynchronize(stream)); /* from here on this thread takes part in the clock */
    sleep_until(NS_PER_SECOND);
    until = NS_PER_SECOND + option(count, arguments, "until_ms", 2000) * NS_PER_MS;
    for (size_t each = 0; each < sizeof ways / sizeof *ways; each++)
        if (strcmp(ways[each].name, how) == 0) {
            ways[each].run();
            return 0;
        }
    return 2;
}
