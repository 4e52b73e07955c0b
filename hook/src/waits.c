/* What makes a stream wait for something that is not the card: the time is nobody's, and no batch spans it. */
#include "real.h"
#include "submissions.h"

#define WAIT(name, per_thread, parameters, arguments)                                                                \
    CUresult name parameters {                                                                                       \
        submission_interrupt(submission_stream(stream, per_thread));                                                 \
        return real.name arguments;                                                                                  \
    }
#define WAITS(name, other, parameters, arguments)                                                                    \
    WAIT(name, false, parameters, arguments)                                                                         \
    WAIT(other, true, parameters, arguments)

WAITS(cuStreamWaitEvent, cuStreamWaitEvent_ptsz, (CUstream stream, CUevent event, unsigned int flags),
      (stream, event, flags))
WAITS(cuWaitExternalSemaphoresAsync, cuWaitExternalSemaphoresAsync_ptsz,
      (const CUexternalSemaphore *semaphores, const CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS *parameters, unsigned int count,
       CUstream stream),
      (semaphores, parameters, count, stream))

#define WAITS_FOR_VALUE(name, other, type)                                                                           \
    WAITS(name, other, (CUstream stream, CUdeviceptr address, type value, unsigned int flags),                       \
          (stream, address, value, flags))
WAITS_FOR_VALUE(cuStreamWaitValue32, cuStreamWaitValue32_ptsz, uint32_t)
WAITS_FOR_VALUE(cuStreamWaitValue32_v2, cuStreamWaitValue32_v2_ptsz, uint32_t)
WAITS_FOR_VALUE(cuStreamWaitValue64, cuStreamWaitValue64_ptsz, uint64_t)
WAITS_FOR_VALUE(cuStreamWaitValue64_v2, cuStreamWaitValue64_v2_ptsz, uint64_t)

/* Some of the operations may be such waits. */
#define OPERATIONS(name, other)                                                                                      \
    WAITS(name, other,                                                                                               \
          (CUstream stream, unsigned int count, CUstreamBatchMemOpParams *operations, unsigned int flags),           \
          (stream, count, operations, flags))
OPERATIONS(cuStreamBatchMemOp, cuStreamBatchMemOp_ptsz)
OPERATIONS(cuStreamBatchMemOp_v2, cuStreamBatchMemOp_v2_ptsz)
