/* Host functions, and what waits for memory: run in stream order on a thread of the driver, which takes part in the clock. */
#include <stdlib.h>

#include "graphs.h"
#include "memory.h"
#include "simulated.h"

/* Memory that a stream waits for may be written by a processor or by another process: nobody tells, so it is looked at. */
#define LOOK_NS UINT64_C(20000)

struct host_work {
    struct sim_point point;  /* its own entry: ends when the function has returned */
    struct sim_point before; /* what it waits for */
    CUhostFn function;
    CUstreamCallback callback; /* the older form, if function is NULL */
    CUstream stream;
    void *data;
    bool (*happen)(void *data); /* instead of a function: false = not yet; `data` is the work's own */
    struct host_work *next;
};

/* In this order: `starting`, the state's lock, `lock`. */
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t attached = PTHREAD_COND_INITIALIZER;
static struct host_work *first;
static unsigned conditions; /* among them; read without the lock */
static bool running; /* the thread is there; under `starting`, as is */
static bool ready;   /* that it takes part in the clock */

void sim_host_functions_forked(void)
{
    pthread_mutex_init(&starting, NULL);
    pthread_mutex_init(&lock, NULL);
    first = NULL;
    conditions = 0;
    running = false;
    ready = false;
}

static uint64_t look_again_ns(const struct host_work *work, bool begun)
{
    return begun ? sim_now() + LOOK_NS : sim_point_foretell(work->before);
}

/* The oldest work whose turn has come; else when to look again. What only had to happen has happened then. */
static struct host_work *take(uint64_t *wake_ns)
{
    struct host_work *found = NULL;
    uint64_t completed;
    /* Before the card's lock, as an allocation takes the two: what happens may be a word of memory. */
    bool entered = __atomic_load_n(&conditions, __ATOMIC_ACQUIRE) > 0;

    *wake_ns = SIM_NEVER;
    if (entered)
        memory_enter();
    sim_lock();
    sim_advance(sim_now());
    pthread_mutex_lock(&lock);
    for (struct host_work **link = &first; *link != NULL && found == NULL;) {
        struct host_work *work = *link;
        bool begun = sim_point_done(work->before, &completed);

        if (begun && (work->happen == NULL || (entered && work->happen(work->data)))) {
            found = work;
            *link = work->next;
        } else {
            uint64_t again_ns = look_again_ns(work, begun);

            *wake_ns = again_ns < *wake_ns ? again_ns : *wake_ns;
            link = &work->next;
        }
    }
    pthread_mutex_unlock(&lock);
    sim_unlock();
    if (entered)
        memory_leave();
    return found;
}

static uint64_t host_key(void)
{
    return SIM_KEY_HOST_WORK | sim_process_index();
}

static void run(struct host_work *work)
{
    if (work->happen != NULL) {
        free(work->data);
        __atomic_fetch_sub(&conditions, 1, __ATOMIC_RELEASE);
    } else if (work->function != NULL)
        work->function(work->data);
    else
        work->callback(work->stream, CUDA_SUCCESS, work->data);
    sim_lock();
    sim_advance(sim_now());
    sim_point_complete(work->point);
    sim_unlock();
    sim_wake_key(SIM_KEY_ENDED);
    free(work);
}

static void *serve(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&starting);
    ready = true;
    pthread_cond_broadcast(&attached);
    pthread_mutex_unlock(&starting);
    sim_participate();
    while (!sim_process_over()) {
        uint64_t wake_ns;
        struct host_work *work = take(&wake_ns);

        if (work != NULL)
            run(work);
        else
            sim_wait_until(wake_ns, host_key());
    }
    return NULL;
}

static CUresult start(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int failed;

    if (running)
        return CUDA_SUCCESS;
    egpuSimExpect(1);
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    failed = pthread_create(&thread, &attributes, serve, NULL);
    pthread_attr_destroy(&attributes);
    if (failed != 0)
        return CUDA_ERROR_OPERATING_SYSTEM;
    running = true;
    while (!ready)
        pthread_cond_wait(&attached, &starting);
    return CUDA_SUCCESS;
}

static CUresult submit(struct sim_stream *stream, struct host_work *work)
{
    struct sim_context *context = stream->context;
    struct sim_point after[2] = {{0}, {0}};
    CUresult result;

    if (work == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    sim_participate();
    pthread_mutex_lock(&starting);
    result = start();
    pthread_mutex_unlock(&starting);
    if (result != CUDA_SUCCESS) {
        if (work->happen != NULL)
            free(work->data);
        free(work);
        return result;
    }
    sim_lock_with_room(context->card, SIM_HOST);
    work->before = sim_stream_settle(stream);
    after[0] = work->before;
    work->point = sim_enqueue(context->card, SIM_HOST, 0, after);
    stream->tail = work->point;
    context->latest = work->point;
    if (work->happen != NULL)
        __atomic_fetch_add(&conditions, 1, __ATOMIC_RELEASE);
    pthread_mutex_lock(&lock);
    for (struct host_work **link = &first;; link = &(*link)->next)
        if (*link == NULL) {
            *link = work;
            break;
        }
    pthread_mutex_unlock(&lock);
    sim_unlock();
    sim_wake_key(host_key());
    return CUDA_SUCCESS;
}

CUresult sim_host_submit(struct sim_stream *stream, CUhostFn function, void *data)
{
    struct host_work *work = calloc(1, sizeof(*work));

    if (work != NULL) {
        work->function = function;
        work->data = data;
    }
    return submit(stream, work);
}

CUresult sim_host_submit_condition(struct sim_stream *stream, bool (*happen)(void *data), const void *data, size_t bytes)
{
    struct host_work *work = calloc(1, sizeof(*work));

    if (work != NULL) {
        work->happen = happen;
        work->data = sim_copied(data, bytes);
    }
    return submit(stream, work);
}

CUresult sim_cuLaunchHostFunc(CUstream handle, CUhostFn function, void *data)
{
    struct sim_operation operation = {.kind = SIM_HOST, .node_type = CU_GRAPH_NODE_TYPE_HOST};
    struct sim_stream *stream;
    CUresult result = sim_enter_stream(SIM_CALL_LAUNCH, handle, &stream);

    if (result != CUDA_SUCCESS)
        return result;
    if (function == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (!sim_capture_active(stream)) {
        result = stream == stream->context->legacy ? sim_capture_implicit(stream) : CUDA_SUCCESS;
        return result != CUDA_SUCCESS ? result : sim_host_submit(stream, function, data);
    }
    result = sim_capture_add(stream, &operation);
    if (result == CUDA_SUCCESS) {
        stream->after.nodes[0]->host = function;
        stream->after.nodes[0]->host_data = data;
    }
    return result;
}

CUresult sim_cuStreamAddCallback(CUstream handle, CUstreamCallback callback, void *data, unsigned int flags)
{
    struct sim_stream *stream;
    struct host_work *work;
    CUresult result = sim_enter_stream(SIM_CALL_LAUNCH, handle, &stream);

    if (result != CUDA_SUCCESS)
        return result;
    if (callback == NULL || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (sim_capture_active(stream))
        return sim_capture_refuse(stream, CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    work = calloc(1, sizeof(*work));
    if (work != NULL) {
        work->callback = callback;
        work->stream = handle;
        work->data = data;
    }
    return submit(stream, work);
}
