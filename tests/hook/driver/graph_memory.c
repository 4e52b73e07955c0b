/* Memory of graphs: nodes, launches, and the card's pool that keeps what launches no longer use until it is trimmed. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "graph_memory.h"

struct graph_memory {
    uint64_t bytes; /* whole granules */
    bool live;      /* between a launch of its node and its free */
};

/* Of this process, by card. */
static struct {
    uint64_t used_bytes, used_bytes_most;
    uint64_t reserved_bytes, reserved_bytes_most;
} graph_pools[SIM_CARDS_MAX];

CUresult sim_graph_memory_make(int card, size_t bytes, CUdeviceptr *address) {
    struct sim_context *context = sim_context_current();
    struct graph_memory *memory = calloc(1, sizeof *memory);
    if (bytes == 0 || bytes > UINT64_MAX / 2 || memory == NULL) {
        free(memory);
        return bytes == 0 ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_OUT_OF_MEMORY;
    }
    memory->bytes = memory_round_up(bytes, MEMORY_GRANULE_BYTES);
    void *start = block_map(memory->bytes, true);
    if (start == NULL) {
        free(memory);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    struct memory_range range = {.address = (uint64_t)start, .bytes = bytes, .kind = MEMORY_GRAPH, .card = card,
                                 .context = MEMORY_HANDLE(context), .body = memory};
    memory_enter();
    addresses_add(&range);
    memory_leave();
    *address = range.address;
    return CUDA_SUCCESS;
}

static struct memory_range *graph_range(CUdeviceptr address) {
    struct memory_range *range = addresses_find(address);
    return range != NULL && range->kind == MEMORY_GRAPH && range->address == address ? range : NULL;
}

CUresult sim_graph_memory_allocate(CUdeviceptr address) {
    CUresult result = CUDA_SUCCESS;
    memory_enter();
    struct memory_range *range = graph_range(address);
    struct graph_memory *memory = range != NULL ? range->body : NULL;
    if (memory != NULL && !memory->live) {
        uint64_t used = graph_pools[range->card].used_bytes + memory->bytes;
        uint64_t reserved = graph_pools[range->card].reserved_bytes;
        if (used > reserved)
            result = card_memory_charge(range->card, used - reserved);
        if (result == CUDA_SUCCESS) {
            memory->live = true;
            graph_pools[range->card].used_bytes = used;
            if (used > reserved)
                graph_pools[range->card].reserved_bytes = used;
            if (used > graph_pools[range->card].used_bytes_most)
                graph_pools[range->card].used_bytes_most = used;
            if (graph_pools[range->card].reserved_bytes > graph_pools[range->card].reserved_bytes_most)
                graph_pools[range->card].reserved_bytes_most = graph_pools[range->card].reserved_bytes;
        }
    }
    memory_leave();
    return range == NULL ? CUDA_ERROR_INVALID_VALUE : result;
}

CUresult graph_memory_free(struct memory_range *range) {
    struct graph_memory *memory = range->body;
    if (!memory->live)
        return CUDA_ERROR_INVALID_VALUE;
    memory->live = false;
    graph_pools[range->card].used_bytes -= memory->bytes;
    return CUDA_SUCCESS;
}

CUresult sim_graph_memory_free(CUdeviceptr address) {
    memory_enter();
    struct memory_range *range = graph_range(address);
    CUresult result = range != NULL ? graph_memory_free(range) : CUDA_ERROR_INVALID_VALUE;
    memory_leave();
    return result;
}

void graph_memory_end(struct memory_range *range) {
    struct graph_memory *memory = range->body;
    graph_memory_free(range);
    munmap((void *)range->address, memory->bytes);
    free(memory);
}

void sim_graph_memory_end(CUdeviceptr address) {
    memory_enter();
    struct memory_range *range = graph_range(address);
    if (range != NULL)
        memory_free_range(range);
    memory_leave();
}

static void allocate_effect(void *argument) { sim_graph_memory_allocate(*(CUdeviceptr *)argument); }

static void free_effect(void *argument) { sim_graph_memory_free(*(CUdeviceptr *)argument); }

CUresult graph_memory_capture(CUdeviceptr *address, size_t bytes, int card, CUstream stream) {
    CUresult result = sim_graph_memory_make(card, bytes, address);
    if (result != CUDA_SUCCESS)
        return result;
    CUDA_MEM_ALLOC_NODE_PARAMS details = {
        .poolProps = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                      .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = card}},
        .bytesize = bytes,
        .dptr = *address,
    };
    struct sim_operation operation = {.kind = SIM_JOIN, .effect = allocate_effect, .argument = address,
                                      .argument_bytes = sizeof *address, .details = &details,
                                      .details_bytes = sizeof details, .node_type = CU_GRAPH_NODE_TYPE_MEM_ALLOC};
    result = sim_submit(stream, &operation);
    if (result != CUDA_SUCCESS)
        sim_graph_memory_end(*address);
    return result;
}

CUresult graph_memory_capture_free(CUdeviceptr address, CUstream stream) {
    memory_enter();
    bool known = graph_range(address) != NULL;
    memory_leave();
    if (!known)
        return CUDA_ERROR_INVALID_VALUE; /* A graph frees only what a graph allocated. */
    struct sim_operation operation = {.kind = SIM_JOIN, .effect = free_effect, .argument = &address,
                                      .argument_bytes = sizeof address, .details = &address,
                                      .details_bytes = sizeof address, .node_type = CU_GRAPH_NODE_TYPE_MEM_FREE};
    return sim_submit(stream, &operation);
}

CUresult sim_cuDeviceGraphMemTrim(CUdevice device) {
    CUresult result = sim_enter_card(device);
    if (result != CUDA_SUCCESS)
        return result;
    memory_enter();
    uint64_t unused = graph_pools[device].reserved_bytes - graph_pools[device].used_bytes;
    graph_pools[device].reserved_bytes -= unused;
    card_memory_discharge(device, unused);
    memory_leave();
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value) {
    CUresult result = sim_enter_card(device);
    if (result != CUDA_SUCCESS)
        return result;
    if (value == NULL || attribute > CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    uint64_t values[] = {graph_pools[device].used_bytes, graph_pools[device].used_bytes_most,
                         graph_pools[device].reserved_bytes, graph_pools[device].reserved_bytes_most};
    *(uint64_t *)value = values[attribute];
    memory_leave();
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceSetGraphMemAttribute(CUdevice device, CUgraphMem_attribute attribute, void *value) {
    CUresult result = sim_enter_card(device);
    if (result != CUDA_SUCCESS)
        return result;
    bool high = attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH || attribute == CU_GRAPH_MEM_ATTR_RESERVED_MEM_HIGH;
    if (!high || value == NULL || *(uint64_t *)value != 0)
        return CUDA_ERROR_INVALID_VALUE; /* Only the highest values can be set, and only to zero. */
    memory_enter();
    if (attribute == CU_GRAPH_MEM_ATTR_USED_MEM_HIGH)
        graph_pools[device].used_bytes_most = graph_pools[device].used_bytes;
    else
        graph_pools[device].reserved_bytes_most = graph_pools[device].reserved_bytes;
    memory_leave();
    return CUDA_SUCCESS;
}

void graph_memory_forked(void) { memset(graph_pools, 0, sizeof graph_pools); }
