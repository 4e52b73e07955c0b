/* Launches of instantiated graphs: one submission each, whatever is in them. */
#include "graph_memory.h"
#include "real.h"
#include "submissions.h"

#define GRAPH_LAUNCH(name, per_thread)                                                                               \
    CUresult name(CUgraphExec graph, CUstream stream) {                                                              \
        struct submission submission;                                                                                \
        submission_begin(&submission, submission_stream(stream, per_thread), graph, 0, 0);                           \
        return submission_end(&submission, graph_memory_launch(real.name, graph, stream));                                                \
    }
GRAPH_LAUNCH(cuGraphLaunch, false)
GRAPH_LAUNCH(cuGraphLaunch_ptsz, true)
