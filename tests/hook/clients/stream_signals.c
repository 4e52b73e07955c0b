/* Streams that wait for memory and for semaphores, also in graphs: who goes on when. Prints what differs. */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "spin.h"

enum { GREATER_OR_EQUAL, EQUAL, AND, NOR, FLUSH = 1 << 30 };
enum { WAIT_32 = 1, WRITE_32 = 2, WAIT_64 = 4, WRITE_64 = 5, BARRIER = 6 };
enum { OPAQUE_FILE = 1, TIMELINE_FILE = 9, WINDOWS = 2 };
enum { LONG_US = 100, SHORT_US = 30, LATE_US = 500, LOOK_US = 20, HELD_US_MAX = 2000 };

static CUstream one, other;
static CUdeviceptr words;

/* Behind a hook it may be later: that holds launches while others' work is outstanding. */
static void ends_after(uint64_t began, long us) {
    DO(cuCtxSynchronize());
    long took_us = (long)((egpuSimNow() - began) / 1000U);
    EXPECT(getenv("LD_PRELOAD") == NULL ? took_us == us : took_us >= us && took_us < us + HELD_US_MAX, 1);
}

static uint32_t word(void) {
    uint32_t value = 0;
    DO(cuMemcpyDtoH_v2(&value, words, sizeof value));
    return value;
}

static void clear(uint32_t value) {
    DO(cuMemsetD32_v2(words, value, 4));
    DO(cuCtxSynchronize());
}

/* One stream writes when its kernel has ended; the other goes on from then. */
static void streams_wait_for_each_other(void) {
    clear(0);
    uint64_t began = egpuSimNow();
    DO(cuStreamWaitValue32_v2(other, words, 7, EQUAL));
    launch(other, SHORT_US);
    launch(one, LONG_US);
    DO(cuStreamWriteValue32_v2(one, words, 7, 0));
    EXPECT(cuStreamQuery(other), CUDA_ERROR_NOT_READY);
    ends_after(began, LONG_US + SHORT_US);
    EXPECT(word(), 7);
}

static void passes(uint32_t now, uint32_t value, unsigned int mode, int wanted) {
    clear(now);
    DO(cuStreamWaitValue32_v2(one, words, value, mode));
    egpuSimSleep(LATE_US * 1000);
    EXPECT(cuStreamQuery(one), wanted ? CUDA_SUCCESS : CUDA_ERROR_NOT_READY);
    clear(mode == NOR ? 0 : value); /* whoever still waits goes on */
    DO(cuStreamSynchronize(one));
}

static void every_comparison(void) {
    passes(5, 5, GREATER_OR_EQUAL, 1);
    passes(4, 5, GREATER_OR_EQUAL, 0);
    passes(3, UINT32_MAX, GREATER_OR_EQUAL, 1); /* cyclic: 3 comes after the greatest number */
    passes(5, 4, EQUAL, 0);
    passes(6, 3, AND, 1);
    passes(4, 3, AND, 0);
    passes(0xffff0000, 0x0000fff0, NOR, 1);
    passes(0xffff0000, 0x0000ffff, NOR, 0);
}

static void *store_late(void *shared) {
    egpuSimSleep(LATE_US * 1000);
    __atomic_store_n((uint64_t *)shared, 9, __ATOMIC_RELEASE);
    return NULL;
}

/* Memory of the host, written by a processor: seen at the next look. */
static void processors_write_too(void) {
    uint64_t *shared;
    pthread_t thread;
    DO(cuMemHostAlloc((void **)&shared, sizeof *shared, 0));
    *shared = 0;
    uint64_t began = egpuSimNow();
    DO(cuStreamWaitValue64_v2(one, (CUdeviceptr)(uintptr_t)shared, 9, EQUAL));
    egpuSimExpect(1);
    pthread_create(&thread, NULL, store_late, shared);
    DO(cuStreamSynchronize(one));
    long us = (long)((egpuSimNow() - began) / 1000U);
    EXPECT(us >= LATE_US && us <= LATE_US + LOOK_US, 1);
    egpuSimDetach();
    pthread_join(thread, NULL);
    DO(cuMemFreeHost(shared));
}

static void what_is_refused(void) {
    CUstreamBatchMemOpParams none = {.operation = 9};
    EXPECT(cuStreamWaitValue32_v2(one, words + 2, 0, EQUAL), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuStreamWaitValue64_v2(one, words + 4, 0, EQUAL), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuStreamWaitValue32_v2(one, words, 0, 8), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuStreamWaitValue32_v2(one, words, 0, FLUSH), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuStreamWriteValue32_v2(one, 4, 0, 0), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuStreamBatchMemOp_v2(one, 1, &none, 0), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuStreamBatchMemOp_v2(one, 0, &none, 0), CUDA_ERROR_INVALID_VALUE);
}

/* Captured and added by hand, a memory operation is the same node, and each launch does it anew. */
static void graphs_write_and_wait(void) {
    CUstreamBatchMemOpParams operations[] = {
        {.writeValue = {WRITE_32, words, 1, 0, 0}}, {.memoryBarrier = {BARRIER, 0}}, {.waitValue = {WAIT_32, words, 1, EQUAL, 0}}};
    CUDA_BATCH_MEM_OP_NODE_PARAMS parameters = {.count = 3, .paramArray = operations}, told;
    CUgraphNodeParams form = {.type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP};
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode node, after;
    CUgraphNodeType type;
    size_t count = 1;
    clear(0);
    DO(cuStreamBeginCapture_v2(one, CU_STREAM_CAPTURE_MODE_GLOBAL));
    DO(cuStreamWriteValue32_v2(one, words, 4, 0));
    DO(cuStreamEndCapture(one, &graph));
    DO(cuGraphGetNodes(graph, &node, &count));
    DO(cuGraphNodeGetType(node, &type));
    EXPECT(type, CU_GRAPH_NODE_TYPE_BATCH_MEM_OP);
    DO(cuGraphAddBatchMemOpNode(&after, graph, &node, 1, &parameters));
    DO(cuGraphBatchMemOpNodeGetParams(after, &told));
    EXPECT(told.count, 3);
    EXPECT(told.paramArray[2].waitValue.value64, 1);
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    EXPECT(word(), 0);
    for (int each = 0; each < 2; each++) {
        DO(cuGraphLaunch(exec, one));
        DO(cuStreamSynchronize(one));
        EXPECT(word(), 1);
        clear(0);
    }
    operations[0].writeValue.value64 = operations[2].waitValue.value64 = 6;
    DO(cuGraphExecBatchMemOpNodeSetParams(exec, after, &parameters));
    DO(cuGraphLaunch(exec, one));
    DO(cuStreamSynchronize(one));
    EXPECT(word(), 6);
    DO(cuGraphAddNode(&node, graph, NULL, 0, &(CUgraphNodeParams){.type = CU_GRAPH_NODE_TYPE_EMPTY}));
    EXPECT(cuGraphAddNode(&node, graph, NULL, 0, &form), CUDA_ERROR_INVALID_VALUE); /* no operations */
}

static CUexternalSemaphore imported(unsigned int type) {
    CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC handle = {.type = type, .handle = {.fd = open("/dev/null", O_RDWR)}};
    CUexternalSemaphore semaphore = NULL;
    DO(cuImportExternalSemaphore(&semaphore, &handle));
    EXPECT(fcntl(handle.handle.fd, F_GETFD), -1); /* the driver has taken it over */
    return semaphore;
}

static void semaphores_hold_streams(void) {
    CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS at = {.params = {.fence = {3}}};
    CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC unknown = {.type = WINDOWS};
    CUexternalSemaphore semaphores[] = {imported(OPAQUE_FILE), imported(TIMELINE_FILE)}, none;
    for (int each = 0; each < 2; each++) {
        uint64_t began = egpuSimNow();
        DO(cuWaitExternalSemaphoresAsync(&semaphores[each], &at, 1, other));
        launch(other, SHORT_US);
        launch(one, LONG_US);
        DO(cuSignalExternalSemaphoresAsync(&semaphores[each], &at, 1, one));
        ends_after(began, LONG_US + SHORT_US);
    }
    DO(cuWaitExternalSemaphoresAsync(&semaphores[0], &at, 1, other)); /* one signal lets one pass */
    egpuSimSleep(LATE_US * 1000);
    EXPECT(cuStreamQuery(other), CUDA_ERROR_NOT_READY);
    DO(cuSignalExternalSemaphoresAsync(&semaphores[0], &at, 1, one));
    DO(cuWaitExternalSemaphoresAsync(&semaphores[1], &at, 1, other)); /* a timeline stays where it is */
    DO(cuStreamSynchronize(other));
    EXPECT(cuImportExternalSemaphore(&none, &unknown), CUDA_ERROR_NOT_SUPPORTED);
    DO(cuDestroyExternalSemaphore(semaphores[0]));
    EXPECT(cuSignalExternalSemaphoresAsync(semaphores, &at, 1, one), CUDA_ERROR_INVALID_HANDLE);
}

static void graphs_use_semaphores(void) {
    CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS at = {.params = {.fence = {8}}};
    CUexternalSemaphore semaphore = imported(TIMELINE_FILE);
    CUDA_EXT_SEM_SIGNAL_NODE_PARAMS parameters = {&semaphore, &at, 1}, told;
    CUgraph graph;
    CUgraphExec exec;
    CUgraphNode signal, wait;
    DO(cuGraphCreate(&graph, 0));
    DO(cuGraphAddExternalSemaphoresSignalNode(&signal, graph, NULL, 0, &parameters));
    DO(cuGraphAddExternalSemaphoresWaitNode(&wait, graph, &signal, 1, &parameters));
    DO(cuGraphExternalSemaphoresWaitNodeGetParams(wait, &told));
    EXPECT(told.numExtSems == 1 && told.extSemArray[0] == semaphore && told.paramsArray[0].params.fence.value == 8, 1);
    DO(cuGraphInstantiateWithFlags(&exec, graph, 0));
    DO(cuGraphLaunch(exec, one));
    DO(cuStreamSynchronize(one));
    at.params.fence.value = 9;
    DO(cuGraphExecExternalSemaphoresWaitNodeSetParams(exec, wait, &parameters));
    DO(cuGraphLaunch(exec, one));
    egpuSimSleep(LATE_US * 1000);
    EXPECT(cuStreamQuery(one), CUDA_ERROR_NOT_READY); /* the signal is still 8 */
    DO(cuSignalExternalSemaphoresAsync(&semaphore, &at, 1, other));
    DO(cuStreamSynchronize(one));
}

int main(void) {
    open_card();
    DO(cuStreamCreate(&one, CU_STREAM_NON_BLOCKING));
    DO(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    DO(cuMemAlloc_v2(&words, 64));
    streams_wait_for_each_other();
    every_comparison();
    processors_write_too();
    what_is_refused();
    graphs_write_and_wait();
    semaphores_hold_streams();
    graphs_use_semaphores();
    return failures != 0;
}
