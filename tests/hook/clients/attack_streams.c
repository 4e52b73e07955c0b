/* What the hook adds to a stream must not hold up others: a copy beside a long kernel is done long before it. */
#include "memory_client.h"

static void launch(CUfunction function, CUstream stream, unsigned int us) {
    void *parameters[] = {&us};
    MUST(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
}

int main(void) {
    enum { SHORT_US = 20, LONG_US = 100000, LESSONS = 40 };
    static char host[1 << 16];
    CUstream kernels, copies, apart;
    CUdeviceptr device;
    begin();
    CUfunction function = kernel("egpu_spin_us");
    MUST(cuStreamCreate(&kernels, 0));
    MUST(cuStreamCreate(&copies, 0));
    MUST(cuStreamCreate(&apart, 1));
    MUST(cuMemAlloc_v2(&device, sizeof host));
    for (int each = 0; each < LESSONS; each++) {
        launch(function, NULL, SHORT_US);
        MUST(cuCtxSynchronize());
    }
    launch(function, NULL, SHORT_US);
    launch(function, kernels, LONG_US);
    MUST(cuStreamSynchronize(apart));
    uint64_t before = egpuSimNow();
    MUST(cuMemcpyHtoDAsync_v2(device, host, sizeof host, copies));
    MUST(cuStreamSynchronize(copies));
    say("copy_us", (int64_t)(egpuSimNow() - before) / 1000);
    return 0;
}
