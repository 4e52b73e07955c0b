/* Kernel launches in all their forms. */
#include "real.h"
#include "submissions.h"

static uint64_t shape(unsigned int x, unsigned int y, unsigned int z) {
    return (uint64_t)x * 0x100000001ull ^ (uint64_t)y << 40 ^ (uint64_t)z << 20;
}

#define LAUNCH_KERNEL(name, per_thread)                                                                              \
    CUresult name(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,                \
                  unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,       \
                  CUstream stream, void **parameters, void **extra) {                                                \
        struct submission submission;                                                                                \
        submission_begin(&submission, submission_stream(stream, per_thread), function,                               \
                         shape(grid_x, grid_y, grid_z), shape(block_x, block_y, block_z));                           \
        return submission_end(&submission, real.name(function, grid_x, grid_y, grid_z, block_x, block_y, block_z,    \
                                                     shared_bytes, stream, parameters, extra));                      \
    }
LAUNCH_KERNEL(cuLaunchKernel, false)
LAUNCH_KERNEL(cuLaunchKernel_ptsz, true)

#define LAUNCH_EX(name, per_thread)                                                                                  \
    CUresult name(const CUlaunchConfig *config, CUfunction function, void **parameters, void **extra) {              \
        struct submission submission = {0};                                                                          \
        if (config)                                                                                                  \
            submission_begin(&submission, submission_stream(config->hStream, per_thread), function,                  \
                             shape(config->gridDimX, config->gridDimY, config->gridDimZ),                            \
                             shape(config->blockDimX, config->blockDimY, config->blockDimZ));                        \
        return submission_end(&submission, real.name(config, function, parameters, extra));                          \
    }
LAUNCH_EX(cuLaunchKernelEx, false)
LAUNCH_EX(cuLaunchKernelEx_ptsz, true)

#define LAUNCH_COOPERATIVE(name, per_thread)                                                                         \
    CUresult name(CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,                \
                  unsigned int block_x, unsigned int block_y, unsigned int block_z, unsigned int shared_bytes,       \
                  CUstream stream, void **parameters) {                                                              \
        struct submission submission;                                                                                \
        submission_begin(&submission, submission_stream(stream, per_thread), function,                               \
                         shape(grid_x, grid_y, grid_z), shape(block_x, block_y, block_z));                           \
        return submission_end(&submission, real.name(function, grid_x, grid_y, grid_z, block_x, block_y, block_z,    \
                                                     shared_bytes, stream, parameters));                             \
    }
LAUNCH_COOPERATIVE(cuLaunchCooperativeKernel, false)
LAUNCH_COOPERATIVE(cuLaunchCooperativeKernel_ptsz, true)

/* One launch on several cards: each of them asks its own gate, one after the other; the waits are bounded. */
CUresult cuLaunchCooperativeKernelMultiDevice(CUDA_LAUNCH_PARAMS *launches, unsigned int count, unsigned int flags) {
    enum { CARDS_MAX = 16 };
    struct submission submissions[CARDS_MAX];
    unsigned int gated = launches ? (count < CARDS_MAX ? count : CARDS_MAX) : 0;
    for (unsigned int each = 0; each < gated; each++)
        submission_begin(&submissions[each], submission_stream(launches[each].hStream, false), launches[each].function,
                         shape(launches[each].gridDimX, launches[each].gridDimY, launches[each].gridDimZ),
                         shape(launches[each].blockDimX, launches[each].blockDimY, launches[each].blockDimZ));
    CUresult result = real.cuLaunchCooperativeKernelMultiDevice(launches, count, flags);
    for (unsigned int each = 0; each < gated; each++) submission_end(&submissions[each], result);
    return result;
}

CUresult cuLaunch(CUfunction function) {
    struct submission submission;
    submission_begin(&submission, CU_STREAM_LEGACY, function, 1, 0);
    return submission_end(&submission, real.cuLaunch(function));
}

CUresult cuLaunchGrid(CUfunction function, int width, int height) {
    struct submission submission;
    submission_begin(&submission, CU_STREAM_LEGACY, function, shape((unsigned)width, (unsigned)height, 1), 0);
    return submission_end(&submission, real.cuLaunchGrid(function, width, height));
}

CUresult cuLaunchGridAsync(CUfunction function, int width, int height, CUstream stream) {
    struct submission submission;
    submission_begin(&submission, submission_stream(stream, false), function,
                     shape((unsigned)width, (unsigned)height, 1), 0);
    return submission_end(&submission, real.cuLaunchGridAsync(function, width, height, stream));
}
