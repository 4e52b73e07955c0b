/* Memory that moves or comes in stream order: managed pages, pools, memory of graphs; with the times it takes. */
#include <time.h>

#include "memory_client.h"

/* The virtual clock, or the wall's where that is the clock of the run. */
static uint64_t now_ns(void) {
    uint64_t virtual_ns = egpuSimNow();
    struct timespec wall;
    clock_gettime(CLOCK_MONOTONIC, &wall);
    return virtual_ns != 0 ? virtual_ns : (uint64_t)wall.tv_sec * 1000000000 + (uint64_t)wall.tv_nsec;
}

static uint64_t elapsed_us(uint64_t since_ns) { return (now_ns() - since_ns) / 1000; }

static CUstream stream;
static CUfunction touch_kernel;

/* A kernel of 100 us that touches the range; how much longer it took, in us. */
static int64_t touch_cost_us(CUdeviceptr address, uint64_t bytes) {
    unsigned us = 100;
    void *parameters[] = {&address, &bytes, &us};
    uint64_t began = now_ns();
    MUST(cuLaunchKernel(touch_kernel, 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
    MUST(cuStreamSynchronize(stream));
    int64_t took = (int64_t)elapsed_us(began) - us;
    return took / 10 * 10; /* Calls cost a few microseconds themselves. */
}

static void begin_kernels(void) {
    begin();
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    touch_kernel = kernel("egpu_touch");
}

/* On a card of 1,024 MiB with 24 MiB of context: 1,000 MiB are left, at 10 GiB/s 2 MiB take 195 us. */
static void managed(void) {
    CUdeviceptr one, two, plain;
    begin_kernels();
    MUST(cuMemAllocManaged(&one, 600 * MIB, CU_MEM_ATTACH_GLOBAL));
    MUST(cuMemAllocManaged(&two, 600 * MIB, CU_MEM_ATTACH_GLOBAL));
    say("allocated", (int64_t)used_mib());
    say("new pages us", touch_cost_us(one, 600 * MIB));
    say("one is there", (int64_t)used_mib());
    say("again us", touch_cost_us(one, 600 * MIB));
    say("second pushes 200 out us", touch_cost_us(two, 600 * MIB));
    say("full", (int64_t)used_mib());
    say("oldest are back us", touch_cost_us(one, 200 * MIB));
    say("plain pushes too", (int)cuMemAlloc_v2(&plain, 900 * MIB));
    say("still full", (int64_t)used_mib());
    say("no room beside plain", (int)cuMemAlloc_v2(&plain, 200 * MIB));
    MUST(cuMemFree_v2(one));
    MUST(cuMemFree_v2(two));
    say("left", (int64_t)used_mib());
}

static void advice(void) {
    CUdeviceptr address;
    int value = 0, both[2];
    begin_kernels();
    MUST(cuMemAllocManaged(&address, 8 * MIB, CU_MEM_ATTACH_GLOBAL));
    memset((void *)address, 1, 8 * MIB);
    say("written by the host us", touch_cost_us(address, 8 * MIB));
    MUST(cuMemPrefetchAsync(address, 8 * MIB, CU_DEVICE_CPU, stream));
    MUST(cuStreamSynchronize(stream));
    say("prefetched out", (int64_t)used_mib());
    MUST(cuMemRangeGetAttribute(&value, sizeof value, CU_MEM_RANGE_ATTRIBUTE_LAST_PREFETCH_LOCATION, address, 8 * MIB));
    say("last place", value);
    uint64_t began = now_ns();
    MUST(cuMemPrefetchAsync_v2(address, 4 * MIB, (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, 0}, 0, stream));
    MUST(cuStreamSynchronize(stream));
    say("prefetch of half us", (int64_t)elapsed_us(began) / 10 * 10);
    say("half is there us", touch_cost_us(address, 8 * MIB));
    MUST(cuMemPrefetchAsync(address, 8 * MIB, CU_DEVICE_CPU, stream));
    MUST(cuMemAdvise(address, 8 * MIB, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CU_DEVICE_CPU));
    MUST(cuMemAdvise(address, 8 * MIB, CU_MEM_ADVISE_SET_ACCESSED_BY, 0));
    say("over the bus us", touch_cost_us(address, 8 * MIB) > 700);
    say("stays on the host", (int64_t)used_mib());
    MUST(cuMemRangeGetAttribute(both, sizeof both, CU_MEM_RANGE_ATTRIBUTE_ACCESSED_BY, address, 8 * MIB));
    printf("accessed by %d %d\n", both[0], both[1]);
    MUST(cuMemAdvise_v2(address, 2 * MIB, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, (CUmemLocation){CU_MEM_LOCATION_TYPE_DEVICE, 0}));
    MUST(cuMemRangeGetAttribute(&value, sizeof value, CU_MEM_RANGE_ATTRIBUTE_PREFERRED_LOCATION, address, 8 * MIB));
    say("not one place", value);
    say("unknown card", (int)cuMemAdvise(address, 8 * MIB, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, 7));
    say("beyond the end", (int)cuMemPrefetchAsync(address, 9 * MIB, 0, stream));
    say("bad flags", (int)cuMemAllocManaged(&address, 1, 3));
}

/* Read-mostly pages are on the card and on the host: to throw them out moves nothing. */
static void read_mostly(void) {
    CUdeviceptr one, two;
    begin_kernels();
    MUST(cuMemAllocManaged(&one, 600 * MIB, CU_MEM_ATTACH_GLOBAL));
    MUST(cuMemAllocManaged(&two, 600 * MIB, CU_MEM_ATTACH_GLOBAL));
    MUST(cuMemAdvise(one, 600 * MIB, CU_MEM_ADVISE_SET_READ_MOSTLY, 0));
    for (uint64_t page = 0; page < 300; page++)
        *(volatile char *)(one + page * 2 * MIB) = 1;
    say("copied in us", touch_cost_us(one, 600 * MIB));
    say("nothing goes out us", touch_cost_us(two, 600 * MIB));
}

static uint64_t pool_value(CUmemoryPool pool, CUmemPool_attribute attribute) {
    uint64_t value;
    MUST(cuMemPoolGetAttribute(pool, attribute, &value));
    return value;
}

static void pools(void) {
    CUdeviceptr one, two, three;
    CUstream other;
    CUmemoryPool pool, own;
    uint64_t threshold = 64 * MIB;
    begin_kernels();
    MUST(cuStreamCreate(&other, CU_STREAM_NON_BLOCKING));
    uint64_t before = used_mib();
    MUST(cuDeviceGetDefaultMemPool(&pool, 0));
    MUST(cuMemAllocAsync(&one, 10 * MIB, stream));
    say("in use", (int64_t)(used_mib() - before));
    touch_cost_us(one, MIB);
    unsigned us = 5000;
    uint64_t bytes = MIB;
    void *parameters[] = {&one, &bytes, &us};
    MUST(cuLaunchKernel(touch_kernel, 1, 1, 1, 32, 1, 1, 0, stream, parameters, NULL));
    MUST(cuMemFreeAsync(one, stream));
    MUST(cuMemAllocAsync(&two, 10 * MIB, other));
    say("not yet free for another stream", two != one);
    MUST(cuMemAllocAsync(&three, 10 * MIB, stream));
    say("free in its own stream", three == one);
    say("reserved", (int64_t)(pool_value(pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT) / MIB));
    MUST(cuMemFreeAsync(two, other));
    MUST(cuMemFreeAsync(three, stream));
    say("used", (int64_t)pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT));
    say("most used", (int64_t)(pool_value(pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH) / MIB));
    say("kept until then", (int64_t)(used_mib() - before));
    MUST(cuCtxSynchronize());
    say("given back by the wait", (int64_t)(used_mib() - before));
    MUST(cuMemPoolSetAttribute(pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &threshold));
    MUST(cuMemAllocAsync(&one, 10 * MIB, stream));
    MUST(cuMemFreeAsync(one, stream));
    MUST(cuCtxSynchronize());
    say("kept below the threshold", (int64_t)(used_mib() - before));
    MUST(cuMemPoolTrimTo(pool, 0));
    say("trimmed", (int64_t)(used_mib() - before));
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    MUST(cuMemPoolCreate(&own, &properties));
    MUST(cuMemAllocFromPoolAsync(&one, 100, own, stream));
    MUST(cuMemAllocFromPoolAsync(&two, 100, own, stream));
    say("two in a granule", (int64_t)(used_mib() - before));
    MUST(cuMemPoolDestroy(own));
    say("used after destroy", (int)cuMemAllocFromPoolAsync(&three, 100, own, stream));
    MUST(cuMemFreeAsync(one, stream));
    MUST(cuMemFree_v2(two));
    MUST(cuCtxSynchronize());
    say("gone with its last", (int64_t)(used_mib() - before));
    say("freed twice", (int)cuMemFreeAsync(one, stream));
    MUST(cuMemAlloc_v2(&one, 100));
    say("plain memory in stream order", (int)cuMemFreeAsync(one, stream));
    say("too much", (int)cuMemAllocAsync(&one, 2048 * MIB, stream));
}

static void graphs(void) {
    CUdeviceptr address;
    CUgraph graph;
    CUgraphExec run;
    uint64_t bytes;
    begin_kernels();
    uint64_t before = used_mib();
    MUST(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    MUST(cuMemAllocAsync(&address, 10 * MIB, stream));
    MUST(cuMemsetD8Async(address, 5, 10 * MIB, stream));
    MUST(cuMemFreeAsync(address, stream));
    MUST(cuStreamEndCapture(stream, &graph));
    MUST(cuGraphInstantiateWithFlags(&run, graph, 0));
    say("captured", (int64_t)(used_mib() - before));
    MUST(cuGraphLaunch(run, stream));
    MUST(cuStreamSynchronize(stream));
    say("launched", (int64_t)(used_mib() - before));
    MUST(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT, &bytes));
    say("used", (int64_t)bytes);
    MUST(cuDeviceGetGraphMemAttribute(0, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT, &bytes));
    say("reserved", (int64_t)(bytes / MIB));
    MUST(cuGraphLaunch(run, stream));
    MUST(cuStreamSynchronize(stream));
    say("launched again", (int64_t)(used_mib() - before));
    MUST(cuDeviceGraphMemTrim(0));
    say("trimmed", (int64_t)(used_mib() - before));
}

/* Nodes made by hand; what a launch allocated may be freed by the application, and a full card refuses the launch. */
static void graph_nodes(void) {
    CUDA_MEM_ALLOC_NODE_PARAMS kept = {.poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                                     .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}},
                                       .bytesize = 30 * MIB};
    CUDA_MEM_ALLOC_NODE_PARAMS freed = kept, huge = kept;
    CUgraphNode nodes[3];
    CUgraph graph, too_much;
    CUgraphExec run;
    unsigned value = 0;
    begin_kernels();
    uint64_t before = used_mib();
    MUST(cuGraphCreate(&graph, 0));
    MUST(cuGraphAddMemAllocNode(&nodes[0], graph, NULL, 0, &kept));
    MUST(cuGraphAddMemAllocNode(&nodes[1], graph, &nodes[0], 1, &freed));
    MUST(cuGraphAddMemFreeNode(&nodes[2], graph, &nodes[1], 1, freed.dptr));
    MUST(cuGraphInstantiateWithFlags(&run, graph, 0));
    say("made", (int64_t)(used_mib() - before));
    MUST(cuGraphLaunch(run, stream));
    MUST(cuStreamSynchronize(stream));
    say("launched", (int64_t)(used_mib() - before));
    MUST(cuMemsetD32_v2(kept.dptr, 47, 1));
    MUST(cuMemcpyDtoH_v2(&value, kept.dptr, sizeof value));
    say("usable outside", value);
    MUST(cuDeviceGraphMemTrim(0));
    say("trimmed to what lives", (int64_t)(used_mib() - before));
    MUST(cuMemFreeAsync(kept.dptr, stream));
    say("freed twice", (int)cuMemFreeAsync(kept.dptr, stream));
    MUST(cuDeviceGraphMemTrim(0));
    say("trimmed", (int64_t)(used_mib() - before));
    huge.bytesize = 2048 * MIB;
    MUST(cuGraphCreate(&too_much, 0));
    MUST(cuGraphAddMemAllocNode(&nodes[0], too_much, NULL, 0, &huge));
    MUST(cuGraphInstantiateWithFlags(&run, too_much, 0));
    say("more than the card", (int)cuGraphLaunch(run, stream));
    say("nothing taken", (int64_t)(used_mib() - before));
}

/* 512 MiB at 20 GiB/s take 25 ms; a pinned copy does not hold the caller. */
static void copy_time(void) {
    CUdeviceptr address;
    void *host;
    begin_kernels();
    MUST(cuMemAlloc_v2(&address, 512 * MIB));
    MUST(cuMemHostAlloc(&host, 512 * MIB, 0));
    uint64_t began = now_ns();
    MUST(cuMemcpyHtoDAsync_v2(address, host, 512 * MIB, stream));
    say("call ms", (int64_t)elapsed_us(began) / 1000);
    MUST(cuStreamSynchronize(stream));
    say("copy ms", (int64_t)elapsed_us(began) / 1000);
    began = now_ns();
    MUST(cuMemcpyDtoH_v2(host, address, 512 * MIB));
    say("waits ms", (int64_t)elapsed_us(began) / 1000);
}

/* Two cards: each has its own memory, and a page is on one of them. */
static void two_cards(void) {
    CUdeviceptr shared, second_only;
    CUcontext first = begin(), second;
    begin_kernels();
    MUST(cuMemAllocManaged(&shared, 10 * MIB, CU_MEM_ATTACH_GLOBAL));
    say("first touch us", touch_cost_us(shared, 10 * MIB));
    say("on the first", (int64_t)used_mib());
    MUST(cuDevicePrimaryCtxRetain(&second, 1));
    MUST(cuCtxSetCurrent(second));
    MUST(cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING));
    touch_kernel = kernel("egpu_touch");
    MUST(cuMemAlloc_v2(&second_only, 100 * MIB));
    say("out of one, into the other us", touch_cost_us(shared, 10 * MIB));
    say("on the second", (int64_t)used_mib());
    say("twice to the same card", (int)cuCtxEnablePeerAccess(second, 0));
    MUST(cuCtxEnablePeerAccess(first, 0));
    say("again", (int)cuCtxEnablePeerAccess(first, 0));
    MUST(cuCtxDisablePeerAccess(first));
    say("not enabled", (int)cuCtxDisablePeerAccess(first));
    MUST(cuCtxSetCurrent(first));
    say("left on the first", (int64_t)used_mib());
    MUST(cuMemFree_v2(second_only));
    MUST(cuCtxSetCurrent(second));
    say("freed from elsewhere", (int64_t)used_mib());
}

int main(int argc, char **argv) {
    static const struct memory_case cases[] = {
        {"managed", managed}, {"advice", advice}, {"read_mostly", read_mostly},
        {"pools", pools},     {"graphs", graphs}, {"copy_time", copy_time},
        {"two_cards", two_cards},
        {"graph_nodes", graph_nodes},
    };
    return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
