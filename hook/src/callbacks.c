/* Functions of the application that the driver calls in the order of a stream: their thread is marked while they run. */
#include <stdlib.h>

#include "capture.h"
#include "real.h"
#include "region.h"
#include "submissions.h"

struct wrapped {
    CUhostFn function;
    CUstreamCallback callback;
    void *data;
};

static void run_function(void *data) {
    struct wrapped wrapped = *(struct wrapped *)data;
    free(data);
    submissions_in_callback++;
    wrapped.function(wrapped.data);
    submissions_in_callback--;
}

static void run_callback(CUstream stream, CUresult status, void *data) {
    struct wrapped wrapped = *(struct wrapped *)data;
    free(data);
    submissions_in_callback++;
    wrapped.callback(stream, status, wrapped.data);
    submissions_in_callback--;
}

static struct wrapped *wrap(struct wrapped what) {
    if (!region_gates_launches()) return NULL;
    struct wrapped *wrapped = malloc(sizeof *wrapped);
    if (wrapped) *wrapped = what;
    return wrapped;
}

static CUresult settle(CUresult result, struct wrapped *wrapped) {
    if (result != CUDA_SUCCESS) free(wrapped);
    return result;
}

/* What is recorded into a graph stays as it is: the program may ask the graph for it, and the graph may run it again. */
#define LAUNCH_HOST(name, per_thread)                                                                                \
    CUresult name(CUstream stream, CUhostFn function, void *data) {                                                  \
        submission_interrupt(submission_stream(stream, per_thread));                                                 \
        bool plain = function && !capture_holds(submission_stream(stream, per_thread));                              \
        struct wrapped *wrapped = plain ? wrap((struct wrapped){function, NULL, data}) : NULL;                       \
        if (!wrapped) return real.name(stream, function, data);                                                      \
        return settle(real.name(stream, run_function, wrapped), wrapped);                                            \
    }
LAUNCH_HOST(cuLaunchHostFunc, false)
LAUNCH_HOST(cuLaunchHostFunc_ptsz, true)

#define ADD_CALLBACK(name, per_thread)                                                                               \
    CUresult name(CUstream stream, CUstreamCallback callback, void *data, unsigned int flags) {                      \
        submission_interrupt(submission_stream(stream, per_thread));                                                 \
        struct wrapped *wrapped = callback ? wrap((struct wrapped){NULL, callback, data}) : NULL;                    \
        if (!wrapped) return real.name(stream, callback, data, flags);                                               \
        return settle(real.name(stream, run_callback, wrapped, flags), wrapped);                                     \
    }
ADD_CALLBACK(cuStreamAddCallback, false)
ADD_CALLBACK(cuStreamAddCallback_ptsz, true)
