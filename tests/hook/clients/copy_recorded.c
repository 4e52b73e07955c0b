/* A large copy while high priority has work: prints how long the call took in microseconds, recorded into a graph and then
 * for real. */
#include "driver_calls.h"
#include "memory_client.h"

enum { BYTES = 4 << 20, LATER_NS = 50000000 };

static int64_t copy_us(CUdeviceptr to, const void *from, CUstream stream) {
    uint64_t before_ns = egpuSimNow();
    MUST(cuMemcpyHtoDAsync_v2(to, from, BYTES, stream));
    return (int64_t)(egpuSimNow() - before_ns) / 1000;
}

int main(void) {
    static char host[BYTES];
    CUdeviceptr device;
    CUstream stream;
    CUgraph graph;
    begin();
    MUST(cuStreamCreate(&stream, 1));
    MUST(cuMemAlloc_v2(&device, BYTES));
    MUST(cuStreamSynchronize(stream));
    egpuSimSleep(LATER_NS);
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    say("inside", copy_us(device, host, stream));
    MUST(cuStreamEndCapture(stream, &graph));
    say("outside", copy_us(device, host, stream));
    MUST(cuStreamSynchronize(stream));
    return 0;
}
