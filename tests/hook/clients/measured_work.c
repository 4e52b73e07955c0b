/* Work of many shapes, a known number of launches, and a wait at the very end: what was measured of it can be compared.
 *
 * measured_work KEY=VALUE ...   launches=10000 kernel_us=10
 *                               kinds=1     so many kernels in turn, the n-th takes n times as long
 *                               streams=1   in turn; 0: the default stream of the context
 *                               graph=0     1: each launch is a graph of one kernel
 *                               burst=0 gap_us=0   a pause after so many, without waiting for them
 *                               wait=0      waits for the card after so many
 * Prints the number of launches. */
#include "task.h"

enum { KINDS_MAX = 16, STREAMS_MAX = 16 };

static CUgraphExec recorded(CUfunction function, CUstream stream, unsigned int kind, unsigned int us) {
    void *parameters[] = {&us};
    CUgraph graph;
    CUgraphExec made;
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    MUST(cuLaunchKernel(function, kind, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
    MUST(cuStreamEndCapture(stream, &graph));
    MUST(cuGraphInstantiateWithFlags(&made, graph, 0));
    return made;
}

int main(int count, char **arguments) {
    CUfunction function;
    CUstream streams[STREAMS_MAX] = {NULL};
    CUgraphExec graphs[KINDS_MAX];
    uint64_t launches = option(count, arguments, "launches", 10000), kinds = option(count, arguments, "kinds", 1);
    uint64_t stream_count = option(count, arguments, "streams", 1), graph = option(count, arguments, "graph", 0);
    uint64_t burst = option(count, arguments, "burst", 0), gap_ns = option(count, arguments, "gap_us", 0) * 1000;
    uint64_t kernel_us = option(count, arguments, "kernel_us", 10), wait = option(count, arguments, "wait", 0);
    if (kinds == 0 || kinds > KINDS_MAX || stream_count > STREAMS_MAX) return 2;
    task_begin(&function, "egpu_spin_us", &streams[0]);
    for (unsigned int kind = 0; graph && kind < kinds; kind++)
        graphs[kind] = recorded(function, streams[0], kind + 1, (unsigned int)kernel_us * (kind + 1));
    for (uint64_t each = 1; each < stream_count; each++) MUST(cuStreamCreate(&streams[each], 1));
    if (stream_count == 0) streams[0] = NULL;
    for (uint64_t each = 0; each < launches; each++) {
        unsigned int kind = (unsigned int)(each % kinds), us = (unsigned int)kernel_us * (kind + 1);
        CUstream stream = streams[stream_count ? each % stream_count : 0];
        void *parameters[] = {&us};
        if (graph) MUST(cuGraphLaunch(graphs[kind], stream));
        else MUST(cuLaunchKernel(function, kind + 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
        if (wait && (each + 1) % wait == 0) MUST(cuCtxSynchronize());
        if (burst && (each + 1) % burst == 0) rest(gap_ns);
    }
    MUST(cuCtxSynchronize());
    printf("%llu\n", (unsigned long long)launches);
    return 0;
}
