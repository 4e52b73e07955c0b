/* Programs whose work is easily measured wrong.
 *
 * attack_measured MODE MS   per_thread: on the default stream of its thread, while another thread asks for something
 *                           context: the same on a stream, and the other thread has another context
 *                           streams: more streams than are kept apart, and every kernel a new one
 *                           plain: kernels one after the other, with gaps
 * Ends after MS of the card's clock; what it really used is in the driver's books. */
#include <pthread.h>
#include <stdbool.h>

#include "memory_client.h"

CUresult cuLaunchKernel_ptsz(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                             unsigned int, unsigned int, CUstream, void **, void **);
void egpuSimSleep(uint64_t);

enum { KERNEL_US = 50, LONG_US = 5000, STREAMS = 6000, LOOK_NS = 20000, GAP_NS = 60000 };

static uint64_t until_ns;
static bool other_context, per_thread;

static void launch(CUfunction function, CUstream stream, unsigned int us, unsigned int grid) {
    void *parameters[] = {&us};
    MUST((per_thread ? cuLaunchKernel_ptsz : cuLaunchKernel)(function, grid, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

static void *disturb(void *context) {
    CUcontext own;
    CUstream stream;
    if (other_context) MUST(cuCtxCreate_v2(&own, 0, 0));
    else MUST(cuCtxSetCurrent(context));
    MUST(cuStreamCreate(&stream, 1));
    while (egpuSimNow() < until_ns) {
        MUST(cuStreamSynchronize(stream));
        egpuSimSleep(LOOK_NS);
    }
    egpuSimDetach();
    return NULL;
}

static void many_streams(CUfunction function) {
    static CUstream streams[STREAMS];
    for (unsigned int each = 0; each < STREAMS; each++) {
        MUST(cuStreamCreate(&streams[each], 1));
        launch(function, streams[each], 0, 1);
    }
    MUST(cuCtxSynchronize());
    until_ns += egpuSimNow();
    for (unsigned int grid = 2; egpuSimNow() < until_ns; grid++) launch(function, streams[STREAMS - 1], LONG_US, grid);
}

static void rows(CUfunction function, CUstream stream) {
    until_ns += egpuSimNow();
    while (egpuSimNow() < until_ns) {
        launch(function, stream, KERNEL_US, 1);
        egpuSimSleep(GAP_NS);
    }
}

int main(int count, char **arguments) {
    CUcontext context = begin();
    CUfunction function = kernel("egpu_spin_us");
    CUstream stream = NULL;
    pthread_t thread;
    if (count != 3) return 2;
    const char *mode = arguments[1];
    bool disturbed = strcmp(mode, "per_thread") == 0 || strcmp(mode, "context") == 0;
    MUST(cuCtxSynchronize());
    until_ns = (uint64_t)atoi(arguments[2]) * 1000000;
    per_thread = strcmp(mode, "per_thread") == 0;
    other_context = strcmp(mode, "context") == 0;
    if (strcmp(mode, "streams") == 0) {
        many_streams(function);
        return 0;
    }
    if (!per_thread) MUST(cuStreamCreate(&stream, 1));
    if (disturbed) pthread_create(&thread, NULL, disturb, context);
    rows(function, stream);
    egpuSimDetach();
    if (disturbed) pthread_join(thread, NULL);
    return 0;
}
