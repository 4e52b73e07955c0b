/* Stream capture: what is submitted to a capturing stream becomes nodes of a graph. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "simulated.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_capture *captures;
static unsigned capture_count;
static uint64_t identities;
static __thread unsigned thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

bool sim_capture_active(const struct sim_stream *stream)
{
    return __atomic_load_n(&stream->capture, __ATOMIC_ACQUIRE) != NULL;
}

bool sim_stream_capturing(CUstream handle)
{
    struct sim_stream *stream;

    return sim_stream_of(handle, &stream) == CUDA_SUCCESS && sim_capture_active(stream);
}

CUresult sim_capture_refuse(struct sim_stream *stream, CUresult why)
{
    bool already = stream->capture->invalidated;

    stream->capture->invalidated = true;
    return already ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : why;
}

/* A stream of the context that captures, without `ignored` in its flags; under the lock. */
static struct sim_stream *capturing(const struct sim_context *context, unsigned ignored)
{
    for (struct sim_capture *capture = captures; capture != NULL; capture = capture->next)
        for (size_t index = 0; index < capture->stream_count; index++) {
            struct sim_stream *stream = capture->streams[index];

            if (stream->context == context && (stream->flags & ignored) == 0)
                return stream;
        }
    return NULL;
}

/* `why` when one does, which then is invalid or, when that was only asked, stays as it is. */
static CUresult refuse(const struct sim_context *context, unsigned ignored, CUresult why, bool asked)
{
    CUresult result = CUDA_SUCCESS;
    struct sim_stream *stream;

    if (__atomic_load_n(&capture_count, __ATOMIC_ACQUIRE) == 0)
        return CUDA_SUCCESS;
    pthread_mutex_lock(&lock); /* another thread may end its capture now */
    stream = capturing(context, ignored);
    if (stream != NULL)
        result = asked ? why : sim_capture_refuse(stream, why);
    pthread_mutex_unlock(&lock);
    return result;
}

CUresult sim_capture_implicit(struct sim_stream *legacy)
{
    return refuse(legacy->context, CU_STREAM_NON_BLOCKING, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, false);
}

CUresult sim_capture_refuse_context(const struct sim_context *context)
{
    return refuse(context, 0, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, false);
}

/* Whether a capture forbids this thread's calls that a capture cannot hold. */
static bool forbids(const struct sim_capture *capture)
{
    if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED || capture->mode == CU_STREAM_CAPTURE_MODE_RELAXED)
        return false;
    if (pthread_equal(capture->thread, pthread_self()))
        return true;
    return thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL && capture->mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
}

static bool forbidden(bool invalidate)
{
    bool any = false;

    if (__atomic_load_n(&capture_count, __ATOMIC_ACQUIRE) == 0)
        return false;
    pthread_mutex_lock(&lock);
    for (struct sim_capture *capture = captures; capture != NULL; capture = capture->next)
        if (forbids(capture)) {
            any = true;
            capture->invalidated |= invalidate;
        }
    pthread_mutex_unlock(&lock);
    return any;
}

bool sim_thread_capture_forbids(void)
{
    return forbidden(false);
}

void sim_capture_invalidate(void)
{
    forbidden(true);
}

CUresult sim_capture_add(struct sim_stream *stream, const struct sim_operation *operation)
{
    struct CUgraphNode_st *node;

    if (stream->capture->invalidated)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    node = sim_node_add(stream->capture->graph, &stream->after, (unsigned)operation->node_type, operation);
    if (node == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    sim_nodes_set(&stream->after, node);
    return CUDA_SUCCESS;
}

CUresult sim_capture_record(struct sim_stream *stream, struct CUevent_st *event)
{
    if (stream->capture->invalidated)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    sim_lock();
    sim_event_forget(event);
    sim_unlock();
    event->capture = stream->capture;
    event->capture_identity = stream->capture->identity;
    sim_nodes_clear(&event->after);
    return sim_nodes_add(&event->after, &stream->after) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

/* A stream that waits for an event of a capture joins that capture. */
CUresult sim_capture_wait(struct sim_stream *stream, struct CUevent_st *event)
{
    if (stream->capture != NULL && stream->capture->invalidated)
        return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    if (event->capture == NULL)
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
    if (stream->capture == NULL) {
        struct sim_capture *capture = NULL;

        pthread_mutex_lock(&lock);
        for (capture = captures; capture != NULL; capture = capture->next)
            if (capture == event->capture && capture->identity == event->capture_identity)
                break;
        if (capture != NULL && capture->stream_count < SIM_CAPTURE_STREAMS_MAX && stream != stream->context->legacy) {
            capture->streams[capture->stream_count++] = stream;
            __atomic_store_n(&stream->capture, capture, __ATOMIC_RELEASE);
        }
        pthread_mutex_unlock(&lock);
        if (capture == NULL)
            return CUDA_ERROR_CAPTURED_EVENT;
        if (stream->capture == NULL)
            return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    } else if (stream->capture != event->capture || stream->capture->identity != event->capture_identity) {
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_MERGE);
    }
    return sim_nodes_add(&stream->after, &event->after) ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult begin(CUstream handle, CUstreamCaptureMode mode, struct CUgraph_st *graph, struct sim_stream **begun)
{
    struct sim_stream *stream;
    struct sim_capture *capture;
    CUresult result = sim_enter_stream(SIM_CALL_OTHER, handle, &stream);

    if (result != CUDA_SUCCESS)
        return result;
    if (mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    if (stream == stream->context->legacy)
        return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    if (sim_capture_active(stream))
        return CUDA_ERROR_ILLEGAL_STATE;
    capture = calloc(1, sizeof(*capture));
    if (capture == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    capture->given_graph = graph != NULL;
    capture->graph = graph != NULL ? graph : sim_graph_make();
    capture->mode = mode;
    capture->thread = pthread_self();
    capture->origin = stream;
    capture->streams[capture->stream_count++] = stream;
    pthread_mutex_lock(&lock);
    capture->identity = ++identities;
    capture->next = captures;
    captures = capture;
    __atomic_add_fetch(&capture_count, 1, __ATOMIC_ACQ_REL);
    sim_nodes_clear(&stream->after);
    __atomic_store_n(&stream->capture, capture, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&lock);
    *begun = stream;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamBeginCapture_v2(CUstream handle, CUstreamCaptureMode mode)
{
    struct sim_stream *stream;

    return begin(handle, mode, NULL, &stream);
}

CUresult sim_cuStreamBeginCapture(CUstream handle)
{
    return sim_cuStreamBeginCapture_v2(handle, CU_STREAM_CAPTURE_MODE_GLOBAL);
}

CUresult sim_cuStreamBeginCaptureToGraph(CUstream handle, CUgraph graph, const CUgraphNode *after,
                                         const CUgraphEdgeData *edges, size_t count, CUstreamCaptureMode mode)
{
    struct sim_stream *stream;
    CUresult result;

    (void)edges;
    if (sim_graph_of(graph) == NULL || (count > 0 && after == NULL))
        return CUDA_ERROR_INVALID_VALUE;
    result = begin(handle, mode, graph, &stream);
    for (size_t index = 0; result == CUDA_SUCCESS && index < count; index++)
        sim_nodes_append(&stream->after, after[index]);
    return result;
}

static bool reaches(const struct sim_nodes *from, const struct CUgraphNode_st *node)
{
    for (size_t index = 0; index < from->count; index++)
        if (from->nodes[index] == node || reaches(&from->nodes[index]->after, node))
            return true;
    return false;
}

/* All forks have come back: the origin's end depends on every stream's last nodes. */
static bool joined(const struct sim_capture *capture)
{
    for (size_t stream = 0; stream < capture->stream_count; stream++) {
        const struct sim_nodes *after = &capture->streams[stream]->after;

        for (size_t index = 0; index < after->count; index++)
            if (!reaches(&capture->origin->after, after->nodes[index]))
                return false;
    }
    return true;
}

static void finish(struct sim_capture *capture)
{
    pthread_mutex_lock(&lock);
    for (struct sim_capture **link = &captures; *link != NULL; link = &(*link)->next)
        if (*link == capture) {
            *link = capture->next;
            break;
        }
    __atomic_sub_fetch(&capture_count, 1, __ATOMIC_ACQ_REL);
    for (size_t index = 0; index < capture->stream_count; index++) {
        sim_nodes_clear(&capture->streams[index]->after);
        __atomic_store_n(&capture->streams[index]->capture, NULL, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&lock);
    free(capture);
}

CUresult sim_cuStreamEndCapture(CUstream handle, CUgraph *graph)
{
    struct sim_stream *stream;
    struct sim_capture *capture;
    CUresult result = sim_enter_stream(SIM_CALL_OTHER, handle, &stream);

    if (result != CUDA_SUCCESS)
        return result;
    capture = stream->capture;
    if (graph != NULL)
        *graph = NULL;
    if (capture == NULL)
        return CUDA_ERROR_ILLEGAL_STATE;
    if (capture->origin != stream)
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_UNMATCHED);
    if (capture->mode != CU_STREAM_CAPTURE_MODE_RELAXED && !pthread_equal(capture->thread, pthread_self()))
        return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
    if (capture->invalidated)
        result = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    else if (!joined(capture))
        result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
    if (result == CUDA_SUCCESS && graph != NULL)
        *graph = capture->graph;
    else if (!capture->given_graph)
        sim_graph_free(capture->graph);
    finish(capture);
    return result;
}

static unsigned status_of(const struct sim_stream *stream)
{
    if (stream->capture == NULL)
        return CU_STREAM_CAPTURE_STATUS_NONE;
    return stream->capture->invalidated ? CU_STREAM_CAPTURE_STATUS_INVALIDATED : CU_STREAM_CAPTURE_STATUS_ACTIVE;
}

static CUresult status(CUstream handle, struct sim_stream **stream, CUstreamCaptureStatus *value)
{
    CUresult result = sim_enter_stream(SIM_CALL_OTHER, handle, stream);

    if (result != CUDA_SUCCESS)
        return result;
    if (value == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (*stream == (*stream)->context->legacy)
        result = refuse((*stream)->context, CU_STREAM_NON_BLOCKING, CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, true);
    if (result == CUDA_SUCCESS)
        *value = status_of(*stream);
    return result;
}

CUresult sim_cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *value)
{
    struct sim_stream *stream;

    return status(handle, &stream, value);
}

CUresult sim_cuStreamGetCaptureInfo_v2(CUstream handle, CUstreamCaptureStatus *value, uint64_t *identity,
                                       CUgraph *graph, const CUgraphNode **after, size_t *count)
{
    struct sim_stream *stream;
    CUresult result = status(handle, &stream, value);

    if (result != CUDA_SUCCESS || *value != CU_STREAM_CAPTURE_STATUS_ACTIVE)
        return result;
    if (identity != NULL)
        *identity = stream->capture->identity;
    if (graph != NULL)
        *graph = stream->capture->graph;
    if (after != NULL)
        *after = stream->after.nodes;
    if (count != NULL)
        *count = stream->after.count;
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus *value, uint64_t *identity)
{
    return sim_cuStreamGetCaptureInfo_v2(handle, value, identity, NULL, NULL, NULL);
}

CUresult sim_cuStreamGetCaptureInfo_v3(CUstream handle, CUstreamCaptureStatus *value, uint64_t *identity,
                                       CUgraph *graph, const CUgraphNode **after, const CUgraphEdgeData **edges,
                                       size_t *count)
{
    if (edges != NULL)
        *edges = NULL;
    return sim_cuStreamGetCaptureInfo_v2(handle, value, identity, graph, after, count);
}

CUresult sim_cuStreamUpdateCaptureDependencies(CUstream handle, CUgraphNode *after, size_t count, unsigned int flags)
{
    struct sim_stream *stream;
    CUstreamCaptureStatus value;
    CUresult result = status(handle, &stream, &value);

    if (result != CUDA_SUCCESS)
        return result;
    if (value != CU_STREAM_CAPTURE_STATUS_ACTIVE)
        return CUDA_ERROR_ILLEGAL_STATE;
    if (flags != 0) /* set instead of add */
        sim_nodes_clear(&stream->after);
    for (size_t index = 0; index < count; index++)
        sim_nodes_append(&stream->after, after[index]);
    return CUDA_SUCCESS;
}

CUresult sim_cuStreamUpdateCaptureDependencies_v2(CUstream handle, CUgraphNode *after, const CUgraphEdgeData *edges,
                                                  size_t count, unsigned int flags)
{
    (void)edges;
    return sim_cuStreamUpdateCaptureDependencies(handle, after, count, flags);
}

CUresult sim_cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode)
{
    unsigned before = thread_mode;

    if (mode == NULL || *mode > CU_STREAM_CAPTURE_MODE_RELAXED)
        return CUDA_ERROR_INVALID_VALUE;
    thread_mode = *mode;
    *mode = before;
    return CUDA_SUCCESS;
}
