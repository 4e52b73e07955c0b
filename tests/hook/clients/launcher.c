/* Submits kernels of a declared time until a moment of the clock, and says what it saw.
 *
 * launcher KEY=VALUE ...   kernel_us=1000 mode=plain|graph|cooperative|ex until_ms=5000 wait=0|1 gap_us=0 from_ms=0
 *                          streams=1         in turn
 *                          kinds=1           so many kernels in turn, the n-th takes n times as long (plain, ex and cooperative)
 *                          burst=0           without waiting: a pause of gap_us after so many
 *                          observe_ms=1000   launches nothing: prints the busy time of every process now and at the end
 * One line of JSON on standard output: launches, and with wait=1 the latencies in ns. */
#include <fcntl.h>
#include <sys/mman.h>

#include "sim.h"
#include "task.h"

#define STREAMS_MAX 16
#define LATENCIES_MAX 1000000u

/* Pauses differ, from half to one and a half, or they would fall into step with the others' kernels. */
static uint64_t varied(uint64_t limit) {
    static uint64_t random = 88172645463325252ull;
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    return random % limit;
}

struct work {
    CUfunction function;
    CUgraphExec graph;
    CUstream stream;
    unsigned int kernel_us, kind;
    char mode;
};

static CUresult submit(struct work *work) {
    unsigned int us = work->kernel_us * work->kind;
    void *parameters[] = {&us};
    CUlaunchConfig config = {.gridDimX = work->kind, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1,
                             .blockDimZ = 1, .hStream = work->stream};
    switch (work->mode) {
    case 'g': return cuGraphLaunch(work->graph, work->stream);
    case 'c': return cuLaunchCooperativeKernel(work->function, work->kind, 1, 1, 1, 1, 1, 0, work->stream, parameters);
    case 'e': return cuLaunchKernelEx(&config, work->function, parameters, NULL);
    default: return cuLaunchKernel(work->function, work->kind, 1, 1, 1, 1, 1, 0, work->stream, parameters, NULL);
    }
}

static void record_graph(struct work *work) {
    CUgraph graph;
    MUST(cuStreamBeginCapture_v2(work->stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    char mode = work->mode;
    work->mode = 'p';
    MUST(submit(work));
    work->mode = mode;
    MUST(cuStreamEndCapture(work->stream, &graph));
    MUST(cuGraphInstantiateWithFlags(&work->graph, graph, 0));
}

static void print_busy(const struct sim_state *state) {
    /* Any call that asks the card brings it forward to now; on a busy machine that is later than was asked for. */
    MUST(cuCtxSynchronize());
    uint64_t at = now_ns();
    printf("{\"at_ns\": %llu", (unsigned long long)at);
    for (uint32_t each = 0; each < state->processes_high; each++)
        printf(", \"%d\": %llu", state->processes[each].pid,
               (unsigned long long)state->processes[each].shares[0].busy_ns);
    printf("}\n");
    fflush(stdout);
}

static void observe(uint64_t first, uint64_t last) {
    int file = open(getenv("EGPU_SIM_STATE"), O_RDONLY);
    const struct sim_state *state = mmap(NULL, sizeof *state, PROT_READ, MAP_SHARED, file, 0);
    if (state == MAP_FAILED) exit(1);
    sleep_until(first);
    print_busy(state);
    sleep_until(last);
    print_busy(state);
}

static void print_latencies(const uint64_t *latencies, uint64_t count, uint64_t launches) {
    printf("{\"launches\": %llu, \"latencies_ns\": [", (unsigned long long)launches);
    for (uint64_t each = 0; each < count; each++) printf("%s%llu", each ? ", " : "", (unsigned long long)latencies[each]);
    printf("]}\n");
}

int main(int count, char **arguments) {
    static uint64_t latencies[LATENCIES_MAX];
    struct work work = {.kernel_us = (unsigned int)option(count, arguments, "kernel_us", 1000),
                        .kind = 1,
                        .mode = option_text(count, arguments, "mode", "plain")[0]};
    task_begin(&work.function, "egpu_spin_us", &work.stream);
    MUST(cuStreamSynchronize(work.stream)); /* from here on this thread takes part in the clock */
    uint64_t start = egpuSimNow() ? NS_PER_SECOND : now_ns();
    uint64_t until = start + option(count, arguments, "until_ms", 5000) * NS_PER_MS;
    uint64_t observe_ms = option(count, arguments, "observe_ms", 0);
    if (observe_ms) {
        observe(start + observe_ms * NS_PER_MS, until);
        return 0;
    }
    if (work.mode == 'g') record_graph(&work);
    bool wait = option(count, arguments, "wait", 0) != 0;
    uint64_t gap_ns = option(count, arguments, "gap_us", 0) * 1000, launches = 0, kept = 0;
    sleep_until(start + option(count, arguments, "from_ms", 0) * NS_PER_MS);
    CUstream streams[STREAMS_MAX] = {work.stream};
    uint64_t burst = option(count, arguments, "burst", 0);
    uint64_t kinds = option(count, arguments, "kinds", 1);
    uint64_t stream_count = option(count, arguments, "streams", 1);
    for (uint64_t each = 1; each < stream_count && each < STREAMS_MAX; each++) MUST(cuStreamCreate(&streams[each], 1));
    for (uint64_t before = now_ns(); before < until; before = now_ns()) {
        work.stream = streams[launches % stream_count];
        work.kind = 1 + (unsigned int)(launches / stream_count % kinds);
        MUST(submit(&work));
        launches++;
        if (wait) {
            MUST(cuStreamSynchronize(work.stream));
            if (kept < LATENCIES_MAX) latencies[kept++] = now_ns() - before;
        }
        if (gap_ns && (wait || (burst && launches % burst == 0))) sleep_until(now_ns() + gap_ns / 2 + varied(gap_ns));
    }
    print_latencies(latencies, kept, launches);
    return 0;
}
