/* A host function recorded into a graph is the program's own when the program asks for it. */
#include "memory_client.h"

CUresult cuLaunchHostFunc(CUstream, CUhostFn, void *);
CUresult cuGraphGetNodes(CUgraph, CUgraphNode *, size_t *);
CUresult cuGraphHostNodeGetParams(CUgraphNode, CUDA_HOST_NODE_PARAMS *);

static void function(void *data) { ++*(int *)data; }

int main(void) {
    CUstream stream;
    CUgraph graph;
    CUgraphNode node;
    CUDA_HOST_NODE_PARAMS recorded;
    size_t count = 1;
    int calls = 0;
    begin();
    MUST(cuStreamCreate(&stream, 1));
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
    MUST(cuLaunchHostFunc(stream, function, &calls));
    MUST(cuStreamEndCapture(stream, &graph));
    MUST(cuGraphGetNodes(graph, &node, &count));
    MUST(cuGraphHostNodeGetParams(node, &recorded));
    say("own", recorded.fn == function && recorded.userData == &calls);
    return 0;
}
