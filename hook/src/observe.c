/* Calls that add no work but tell something about it: waiting, asking, captures, the end of streams. */
#include "capture.h"
#include "real.h"
#include "region.h"
#include "submissions.h"

static bool watched(void) { return region_gates_launches() && !submissions_in_callback; }

/* Around a call in which the application waits for the card. */
#define SYNCHRONISE(name, parameters, arguments)                                                                     \
    CUresult name parameters {                                                                                       \
        if (!watched()) return real.name arguments;                                                                  \
        batches_block_all();                                                                                         \
        CUresult result = real.name arguments;                                                                       \
        batches_settle_all();                                                                                        \
        return result;                                                                                               \
    }
SYNCHRONISE(cuCtxSynchronize, (void), ())
SYNCHRONISE(cuCtxSynchronize_v2, (CUcontext context), (context))
SYNCHRONISE(cuStreamSynchronize, (CUstream stream), (stream))
SYNCHRONISE(cuStreamSynchronize_ptsz, (CUstream stream), (stream))
SYNCHRONISE(cuEventSynchronize, (CUevent event), (event))

#define ASK(name, type)                                                                                              \
    CUresult name(type what) {                                                                                       \
        CUresult result = real.name(what);                                                                           \
        if (watched() && result == CUDA_SUCCESS) batches_settle_all();                                               \
        return result;                                                                                               \
    }
ASK(cuStreamQuery, CUstream)
ASK(cuStreamQuery_ptsz, CUstream)
ASK(cuEventQuery, CUevent)

#define BEGIN_CAPTURE(name, per_thread, parameters, arguments)                                                       \
    CUresult name parameters {                                                                                       \
        if (watched()) batches_close_stream(submission_stream(stream, per_thread));                                  \
        CUresult result = real.name arguments;                                                                       \
        capture_began(result);                                                                                       \
        return result;                                                                                               \
    }
BEGIN_CAPTURE(cuStreamBeginCapture, false, (CUstream stream), (stream))
BEGIN_CAPTURE(cuStreamBeginCapture_ptsz, true, (CUstream stream), (stream))
BEGIN_CAPTURE(cuStreamBeginCapture_v2, false, (CUstream stream, CUstreamCaptureMode mode), (stream, mode))
BEGIN_CAPTURE(cuStreamBeginCapture_v2_ptsz, true, (CUstream stream, CUstreamCaptureMode mode), (stream, mode))
BEGIN_CAPTURE(cuStreamBeginCaptureToGraph, false,
              (CUstream stream, CUgraph graph, const CUgraphNode *nodes, const CUgraphEdgeData *edges, size_t count,
               CUstreamCaptureMode mode),
              (stream, graph, nodes, edges, count, mode))
BEGIN_CAPTURE(cuStreamBeginCaptureToGraph_ptsz, true,
              (CUstream stream, CUgraph graph, const CUgraphNode *nodes, const CUgraphEdgeData *edges, size_t count,
               CUstreamCaptureMode mode),
              (stream, graph, nodes, edges, count, mode))

#define END_CAPTURE(name)                                                                                            \
    CUresult name(CUstream stream, CUgraph *graph) {                                                                 \
        CUresult result = real.name(stream, graph);                                                                  \
        capture_ended(result);                                                                                       \
        return result;                                                                                               \
    }
END_CAPTURE(cuStreamEndCapture)
END_CAPTURE(cuStreamEndCapture_ptsz)

#define DESTROY_STREAM(name)                                                                                         \
    CUresult name(CUstream stream) {                                                                                 \
        if (watched() && stream) batches_end_stream(stream);                                                         \
        return real.name(stream);                                                                                    \
    }
DESTROY_STREAM(cuStreamDestroy)
DESTROY_STREAM(cuStreamDestroy_v2)
