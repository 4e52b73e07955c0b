/* Work of one form until a moment of the clock: launch_forms FORM MS. Every entry point that gives the card work is a form. */
#include "driver_calls.h"
#include "memory_client.h"

CUresult cuLaunchKernel_ptsz(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int, unsigned int,
                             unsigned int, unsigned int, CUstream, void **, void **);
CUresult cuLaunchCooperativeKernel_ptsz(CUfunction, unsigned int, unsigned int, unsigned int, unsigned int,
                                        unsigned int, unsigned int, unsigned int, CUstream, void **);
CUresult cuLaunchKernelEx_ptsz(const CUlaunchConfig *, CUfunction, void **, void **);
CUresult cuGraphLaunch_ptsz(CUgraphExec, CUstream);

enum { KERNEL_US = 500, COLUMNS = 1 << 16, ROWS = 1 << 10, BYTES = COLUMNS * ROWS };

static unsigned int kernel_us = KERNEL_US;
static void *parameters[] = {&kernel_us};
static CUfunction spin;
static CUstream stream;
static CUgraphExec graph;
static CUdeviceptr memory;

static CUlaunchConfig config(CUstream on) {
    return (CUlaunchConfig){.gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1,
                            .hStream = on};
}

#define FORM(name, call) static void name(void) { MUST(call); }
FORM(plain, cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL))
FORM(plain_ptsz, cuLaunchKernel_ptsz(spin, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL))
FORM(cooperative, cuLaunchCooperativeKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream, parameters))
FORM(cooperative_ptsz, cuLaunchCooperativeKernel_ptsz(spin, 1, 1, 1, 1, 1, 1, 0, NULL, parameters))
FORM(graph_plain, cuGraphLaunch(graph, stream))
FORM(graph_ptsz, cuGraphLaunch_ptsz(graph, NULL))
FORM(old, cuLaunch(spin))
FORM(old_grid, cuLaunchGrid(spin, 1, 1))
FORM(old_grid_async, cuLaunchGridAsync(spin, 1, 1, stream))
FORM(fill_8, cuMemsetD8_v2(memory, 1, BYTES))
FORM(fill_16, cuMemsetD16_v2(memory, 1, BYTES / 2))
FORM(fill_32, cuMemsetD32_v2(memory, 1, BYTES / 4))
FORM(fill_8_async, cuMemsetD8Async(memory, 1, BYTES, stream))
FORM(fill_16_async, cuMemsetD16Async(memory, 1, BYTES / 2, stream))
FORM(fill_32_async, cuMemsetD32Async(memory, 1, BYTES / 4, stream))
FORM(fill_2d_8, cuMemsetD2D8_v2(memory, COLUMNS, 1, COLUMNS, ROWS))
FORM(fill_2d_16_async, cuMemsetD2D16Async(memory, COLUMNS, 1, COLUMNS / 2, ROWS, stream))
FORM(fill_2d_32_async, cuMemsetD2D32Async(memory, COLUMNS, 1, COLUMNS / 4, ROWS, stream))

static void ex(void) {
    CUlaunchConfig how = config(stream);
    MUST(cuLaunchKernelEx(&how, spin, parameters, NULL));
}

static void ex_ptsz(void) {
    CUlaunchConfig how = config(NULL);
    MUST(cuLaunchKernelEx_ptsz(&how, spin, parameters, NULL));
}

static void several_cards(void) {
    CUDA_LAUNCH_PARAMS one = {.function = spin, .gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1,
                              .blockDimY = 1, .blockDimZ = 1, .hStream = stream, .kernelParams = parameters};
    MUST(cuLaunchCooperativeKernelMultiDevice(&one, 1, 0));
}

static const struct memory_case forms[] = {
    {"plain", plain}, {"plain_ptsz", plain_ptsz}, {"cooperative", cooperative}, {"cooperative_ptsz", cooperative_ptsz},
    {"ex", ex}, {"ex_ptsz", ex_ptsz}, {"several_cards", several_cards}, {"graph", graph_plain},
    {"graph_ptsz", graph_ptsz}, {"old", old}, {"old_grid", old_grid}, {"old_grid_async", old_grid_async},
    {"fill_8", fill_8}, {"fill_16", fill_16}, {"fill_32", fill_32}, {"fill_8_async", fill_8_async},
    {"fill_16_async", fill_16_async}, {"fill_32_async", fill_32_async}, {"fill_2d_8", fill_2d_8},
    {"fill_2d_16_async", fill_2d_16_async}, {"fill_2d_32_async", fill_2d_32_async},
};

static void prepare(void) {
    CUgraph recorded;
    begin();
    spin = kernel("egpu_spin_us");
    MUST(cuFuncSetBlockShape(spin, 1, 1, 1));
    MUST(cuParamSetSize(spin, sizeof kernel_us));
    MUST(cuParamSetv(spin, 0, &kernel_us, sizeof kernel_us));
    MUST(cuStreamCreate(&stream, 1));
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    plain();
    MUST(cuStreamEndCapture(stream, &recorded));
    MUST(cuGraphInstantiateWithFlags(&graph, recorded, 0));
    MUST(cuMemAlloc_v2(&memory, BYTES));
    MUST(cuStreamSynchronize(stream));
}

int main(int count, char **arguments) {
    if (count != 3) return 2;
    prepare();
    uint64_t until_ns = egpuSimNow() + (uint64_t)atoi(arguments[2]) * 1000000;
    while (egpuSimNow() < until_ns)
        if (run_case(forms, sizeof forms / sizeof *forms, count, arguments) != 0) return 2;
    MUST(cuCtxSynchronize());
    return 0;
}
