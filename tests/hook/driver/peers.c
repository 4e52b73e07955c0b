/* Access of one card to another's memory: allowed between all simulated cards, remembered as the driver does. */
#include "simulated.h"
#include "sim.h"

#define PEERS_MAX 256
#define ATTRIBUTE_PERFORMANCE_RANK 1 /* the interface's CU_DEVICE_P2P_ATTRIBUTE_... */
#define ATTRIBUTE_ACCESS_SUPPORTED 2
#define ATTRIBUTE_NATIVE_ATOMICS 3
#define ATTRIBUTE_ARRAYS 4

static struct {
    pthread_mutex_t mutex;
    size_t count;
    struct {
        CUcontext from, to;
    } pairs[PEERS_MAX];
} peers = {.mutex = PTHREAD_MUTEX_INITIALIZER};

static size_t find(CUcontext from, CUcontext to) {
    size_t place = 0;
    while (place < peers.count && (peers.pairs[place].from != from || peers.pairs[place].to != to))
        place++;
    return place;
}

CUresult sim_cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
    struct sim_context *context, *other;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    other = sim_context_of(peer);
    if (flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (other == NULL || other == context)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (other->card == context->card)
        return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    pthread_mutex_lock(&peers.mutex);
    if (find((CUcontext)context, peer) < peers.count)
        result = CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    else if (peers.count == PEERS_MAX)
        result = CUDA_ERROR_OUT_OF_MEMORY;
    else {
        peers.pairs[peers.count].from = (CUcontext)context;
        peers.pairs[peers.count++].to = peer;
    }
    pthread_mutex_unlock(&peers.mutex);
    return result;
}

CUresult sim_cuCtxDisablePeerAccess(CUcontext peer) {
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);
    if (result != CUDA_SUCCESS)
        return result;
    if (sim_context_of(peer) == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&peers.mutex);
    size_t place = find((CUcontext)context, peer);
    if (place < peers.count)
        peers.pairs[place] = peers.pairs[--peers.count];
    else
        result = CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
    pthread_mutex_unlock(&peers.mutex);
    return result;
}

CUresult sim_cuDeviceGetP2PAttribute(int *value, CUdevice_P2PAttribute attribute, CUdevice from, CUdevice to) {
    CUresult result = sim_enter(SIM_CALL_OTHER);
    int cards = (int)sim_state()->cards;
    if (result != CUDA_SUCCESS)
        return result;
    if (from < 0 || from >= cards || to < 0 || to >= cards || from == to)
        return CUDA_ERROR_INVALID_DEVICE;
    if (value == NULL || attribute < ATTRIBUTE_PERFORMANCE_RANK || attribute > ATTRIBUTE_ARRAYS)
        return CUDA_ERROR_INVALID_VALUE;
    *value = attribute == ATTRIBUTE_ACCESS_SUPPORTED || attribute == ATTRIBUTE_NATIVE_ATOMICS;
    return CUDA_SUCCESS;
}
