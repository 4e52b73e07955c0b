/* Memory of graphs. Their allocation nodes take memory of the card when the graph is launched, out of a reserve of the
 * process that grows as needed, serves all its graphs, and shrinks only when it is trimmed. So nothing is charged when a node
 * is made; a launch first takes from the quota what the reserve would have to grow by, and afterwards the charge is set to
 * what the driver says the reserve is. */
#include "graph_memory.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cards.h"
#include "charges.h"
#include "real.h"
#include "region.h"

enum { GRAPH_DEPTH_MAX = 8, DEVICE_COUNT_MAX = EGPU_CARD_COUNT_MAX };
static const uint64_t GRANULE_BYTES = 2ull << 20; /* the driver reserves whole blocks for each node */

/* What the nodes of an instantiated graph allocate on one device. */
struct demand {
    CUgraphExec graph;
    CUdevice device;
    uint64_t bytes;
    uint64_t taken_bytes; /* of the quota, by the launch that looks at this copy */
    struct demand *next;
};

/* Launches between their reservation and the moment the driver's figures have them. */
struct pending {
    uint64_t bytes, taken_bytes;
    unsigned launches;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct demand *demands;
static unsigned long demand_count; /* 0: no graph of this process allocates, and a launch need not look */
static struct pending pendings[DEVICE_COUNT_MAX];

static bool remember(struct demand **list, CUdevice device, uint64_t bytes) {
    for (struct demand *each = *list; each != NULL; each = each->next) {
        if (each->device != device) continue;
        each->bytes += bytes;
        return true;
    }
    struct demand *fresh = malloc(sizeof *fresh);
    if (fresh == NULL) return false;
    *fresh = (struct demand){.device = device, .bytes = bytes, .next = *list};
    *list = fresh;
    return true;
}

static bool collect(CUgraph graph, struct demand **list, int depth);

static bool collect_node(CUgraphNode node, struct demand **list, int depth) {
    CUgraphNodeType type;
    CUgraph child;
    CUDA_MEM_ALLOC_NODE_PARAMS parameters;
    if (real.cuGraphNodeGetType(node, &type) != CUDA_SUCCESS) return true;
    if (type == CU_GRAPH_NODE_TYPE_GRAPH && real.cuGraphChildGraphNodeGetGraph(node, &child) == CUDA_SUCCESS)
        return collect(child, list, depth + 1);
    if (type != CU_GRAPH_NODE_TYPE_MEM_ALLOC ||
        real.cuGraphMemAllocNodeGetParams(node, &parameters) != CUDA_SUCCESS)
        return true;
    const CUmemLocation *where = &parameters.poolProps.location;
    if (where->type != CU_MEM_LOCATION_TYPE_DEVICE || where->id < 0 || where->id >= DEVICE_COUNT_MAX) return true;
    uint64_t bytes = (parameters.bytesize + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES;
    return remember(list, where->id, bytes);
}

/* false: no memory of the host for the list. A graph that cannot be asked has no nodes to charge. */
static bool collect(CUgraph graph, struct demand **list, int depth) {
    size_t count = 0;
    if (depth > GRAPH_DEPTH_MAX || real.cuGraphGetNodes(graph, NULL, &count) != CUDA_SUCCESS || count == 0) return true;
    CUgraphNode *nodes = calloc(count, sizeof *nodes);
    bool complete = nodes != NULL;
    if (complete && real.cuGraphGetNodes(graph, nodes, &count) == CUDA_SUCCESS) {
        for (size_t i = 0; i < count && complete; i++) complete = collect_node(nodes[i], list, depth);
    }
    free(nodes);
    return complete;
}

static void free_list(struct demand *list) {
    while (list != NULL) {
        struct demand *next = list->next;
        free(list);
        list = next;
    }
}

/* After an instantiation: notes what the graph will allocate. */
static CUresult noted(CUresult result, const CUgraphExec *exec, CUgraph graph) {
    struct demand *list = NULL;
    CUdevice device;
    if (result != CUDA_SUCCESS || exec == NULL || real.cuCtxGetDevice(&device) != CUDA_SUCCESS ||
        card_of_device(device) == CARD_NONE)
        return result;
    if (!collect(graph, &list, 0)) {
        /* Unknown demand would go unlimited: the graph is not given out. */
        free_list(list);
        real.cuGraphExecDestroy(*exec);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    pthread_mutex_lock(&lock);
    while (list != NULL) {
        struct demand *next = list->next;
        list->graph = *exec;
        list->next = demands;
        demands = list;
        __atomic_fetch_add(&demand_count, 1, __ATOMIC_RELAXED);
        list = next;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static unsigned demands_of(CUgraphExec graph, struct demand found[DEVICE_COUNT_MAX]) {
    unsigned count = 0;
    pthread_mutex_lock(&lock);
    for (const struct demand *each = demands; each != NULL && count < DEVICE_COUNT_MAX; each = each->next) {
        if (each->graph == graph) found[count++] = *each;
    }
    pthread_mutex_unlock(&lock);
    return count;
}

static uint64_t attribute(CUdevice device, CUgraphMem_attribute which) {
    uint64_t bytes = 0;
    return real.cuDeviceGetGraphMemAttribute(device, which, &bytes) == CUDA_SUCCESS ? bytes : 0;
}

/* Takes from the quota what the reserve would have to grow by; under the lock, so that launches of several threads do not
 * count on the same free part of it. */
static CUresult begin(struct demand *demand) {
    struct pending *pending = &pendings[demand->device];
    pthread_mutex_lock(&lock);
    uint64_t wanted = attribute(demand->device, CU_GRAPH_MEM_ATTR_USED_MEM_CURRENT) + pending->bytes + demand->bytes;
    uint64_t there = attribute(demand->device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT) + pending->taken_bytes;
    demand->taken_bytes = wanted > there ? wanted - there : 0;
    CUresult result = charge_reserve(card_of_device(demand->device), EGPU_MEMORY_GRAPH, demand->taken_bytes);
    if (result == CUDA_SUCCESS) {
        pending->bytes += demand->bytes;
        pending->taken_bytes += demand->taken_bytes;
        pending->launches++;
    }
    pthread_mutex_unlock(&lock);
    return result;
}

/* The last launch under way sets the charge: before that the driver's figure may lack somebody's part. */
static void settle(CUdevice device) {
    if (pendings[device].launches == 0)
        charge_set(card_of_device(device), EGPU_MEMORY_GRAPH, attribute(device, CU_GRAPH_MEM_ATTR_RESERVED_MEM_CURRENT));
}

static void end(const struct demand *demand) {
    struct pending *pending = &pendings[demand->device];
    pthread_mutex_lock(&lock);
    pending->bytes -= demand->bytes;
    pending->taken_bytes -= demand->taken_bytes;
    pending->launches--;
    settle(demand->device);
    pthread_mutex_unlock(&lock);
}

CUresult graph_memory_launch(CUresult (*launch)(CUgraphExec, CUstream), CUgraphExec graph, CUstream stream) {
    struct demand own[DEVICE_COUNT_MAX];
    unsigned begun = 0, count = 0;
    if (__atomic_load_n(&demand_count, __ATOMIC_RELAXED) > 0) count = demands_of(graph, own);
    CUresult result = CUDA_SUCCESS;
    while (begun < count && result == CUDA_SUCCESS) {
        result = begin(&own[begun]);
        if (result == CUDA_SUCCESS) begun++;
    }
    if (result == CUDA_SUCCESS) result = launch(graph, stream);
    while (begun > 0) end(&own[--begun]);
    return result;
}

/* The child has none of the graphs, and a thread that it has not may hold the lock. */
void graph_memory_after_fork(void) {
    pthread_mutex_init(&lock, NULL);
    demands = NULL;
    demand_count = 0;
    memset(pendings, 0, sizeof pendings);
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t bytes) {
    return noted(real.cuGraphInstantiate(exec, graph, node, log, bytes), exec, graph);
}

CUresult cuGraphInstantiate_v2(CUgraphExec *exec, CUgraph graph, CUgraphNode *node, char *log, size_t bytes) {
    return noted(real.cuGraphInstantiate_v2(exec, graph, node, log, bytes), exec, graph);
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *exec, CUgraph graph, unsigned long long flags) {
    return noted(real.cuGraphInstantiateWithFlags(exec, graph, flags), exec, graph);
}

CUresult cuGraphInstantiateWithParams(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
    return noted(real.cuGraphInstantiateWithParams(exec, graph, parameters), exec, graph);
}

CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec *exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS *parameters) {
    return noted(real.cuGraphInstantiateWithParams_ptsz(exec, graph, parameters), exec, graph);
}

CUresult cuGraphUpload(CUgraphExec graph, CUstream stream) {
    return graph_memory_launch(real.cuGraphUpload, graph, stream);
}

CUresult cuGraphUpload_ptsz(CUgraphExec graph, CUstream stream) {
    return graph_memory_launch(real.cuGraphUpload_ptsz, graph, stream);
}

CUresult cuGraphExecDestroy(CUgraphExec graph) {
    CUresult result = real.cuGraphExecDestroy(graph);
    if (result != CUDA_SUCCESS || __atomic_load_n(&demand_count, __ATOMIC_RELAXED) == 0) return result;
    pthread_mutex_lock(&lock);
    for (struct demand **each = &demands; *each != NULL;) {
        struct demand *demand = *each;
        if (demand->graph != graph) {
            each = &demand->next;
            continue;
        }
        *each = demand->next;
        free(demand);
        __atomic_fetch_sub(&demand_count, 1, __ATOMIC_RELAXED);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

CUresult cuDeviceGraphMemTrim(CUdevice device) {
    CUresult result = real.cuDeviceGraphMemTrim(device);
    if (result == CUDA_SUCCESS && card_of_device(device) >= 0) {
        pthread_mutex_lock(&lock);
        settle(device);
        pthread_mutex_unlock(&lock);
    }
    return result;
}
