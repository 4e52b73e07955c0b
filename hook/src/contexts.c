#include "contexts.h"

#include "batches.h"
#include "cards.h"
#include "charges.h"
#include "measured.h"
#include "seen.h"
#include "oversubscription.h"
#include "real.h"
#include "region.h"

#include <pthread.h>

/* What a context takes on current cards with current drivers lies between 200 and 500 MiB; charged until the driver's own
 * figure for the process is known, or always where libnvidia-ml does not name this process. */
static const uint64_t CONTEXT_BYTES_ESTIMATE = 300ull << 20;

static uint64_t estimate(int card) {
    const struct egpu_card_limits *limits = region_limits(card);
    return limits != NULL && limits->context_bytes_estimate > 0 ? limits->context_bytes_estimate : CONTEXT_BYTES_ESTIMATE;
}

struct making {
    struct measurement measured;
    bool absent; /* the driver did not name this process before */
};

/* Refused before the driver makes it: a context that does not fit into the quota would take the neighbour's memory. */
static CUresult admit(CUdevice device, struct making *making) {
    int card = card_of_device(device);
    /* With a broken region compute goes on, and that needs contexts; what is refused then is memory. */
    if (card == CARD_NONE || region_state() == REGION_BROKEN) {
        *making = (struct making){.measured = {.card = CARD_NONE}};
        return CUDA_SUCCESS;
    }
    CUresult result = charge_reserve(card, EGPU_MEMORY_CONTEXT, card < 0 ? 0 : estimate(card));
    if (result == CUDA_SUCCESS)
        *making = (struct making){.measured = measure_begin(card), .absent = seen_is_absent(card)};
    return result;
}

/* A primary context that several threads ask for at once is one: what the larger charge of them says. */
static void note(struct holding *made) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    struct holding former;
    pthread_mutex_lock(&lock);
    if (holding_take(HOLDING_CONTEXT, made->key, &former)) {
        charge_give_back(made->card, EGPU_MEMORY_CONTEXT, former.bytes < made->bytes ? former.bytes : made->bytes);
        made->bytes = former.bytes > made->bytes ? former.bytes : made->bytes;
    }
    /* Without a note the charge stays until the process ends: too much rather than too little. */
    (void)holding_add(made);
    pthread_mutex_unlock(&lock);
}

static CUresult settle(CUresult result, const struct making *making, const CUcontext *context) {
    int card = making->measured.card;
    if (card < 0)
        return result;
    uint64_t reserved = estimate(card);
    if (result != CUDA_SUCCESS) {
        charge_give_back(card, EGPU_MEMORY_CONTEXT, reserved);
        return result;
    }
    uint64_t taken;
    if (!seen_recognise(card, making->absent, &taken))
        taken = measure_end(&making->measured, reserved);
    if (taken < reserved)
        charge_give_back(card, EGPU_MEMORY_CONTEXT, reserved - taken);
    else
        charge_anyway(card, EGPU_MEMORY_CONTEXT, taken - reserved);
    note(&(struct holding){.kind = HOLDING_CONTEXT, .key = (uint64_t)(uintptr_t)*context, .card = card,
                           .memory_class = EGPU_MEMORY_CONTEXT, .bytes = taken, .context = *context});
    return result;
}

static bool dies_with(const struct holding *holding, const void *context) {
    return holding->context == *(const CUcontext *)context;
}

static void gone_with_context(const struct holding *holding) {
    if (holding->memory_class == EGPU_MEMORY_OVERSUBSCRIBED)
        oversubscription_forget(holding->key);
    charge_release(holding);
}

void context_gone(CUcontext context) {
    if (context == NULL)
        return;
    holdings_take_all(dies_with, &context, gone_with_context);
    batches_forget_context(context);
}

CUresult cuCtxCreate(CUcontext *context, unsigned int flags, CUdevice device) {
    struct making m;
    CUresult result = admit(device, &m);
    return result != CUDA_SUCCESS ? result : settle(real.cuCtxCreate(context, flags, device), &m, context);
}

CUresult cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device) {
    struct making m;
    CUresult result = admit(device, &m);
    return result != CUDA_SUCCESS ? result : settle(real.cuCtxCreate_v2(context, flags, device), &m, context);
}

CUresult cuCtxCreate_v3(CUcontext *context, CUexecAffinityParam *affinity, int count, unsigned int flags, CUdevice device) {
    struct making m;
    CUresult result = admit(device, &m);
    if (result != CUDA_SUCCESS)
        return result;
    return settle(real.cuCtxCreate_v3(context, affinity, count, flags, device), &m, context);
}

CUresult cuCtxCreate_v4(CUcontext *context, CUctxCreateParams *parameters, unsigned int flags, CUdevice device) {
    struct making m;
    CUresult result = admit(device, &m);
    return result != CUDA_SUCCESS ? result : settle(real.cuCtxCreate_v4(context, parameters, flags, device), &m, context);
}

static CUresult destroyed(CUresult result, CUcontext context) {
    if (result == CUDA_SUCCESS)
        context_gone(context);
    return result;
}

CUresult cuCtxDestroy(CUcontext context) { return destroyed(real.cuCtxDestroy(context), context); }
CUresult cuCtxDestroy_v2(CUcontext context) { return destroyed(real.cuCtxDestroy_v2(context), context); }

/* Only the last detach ends a context, and then nobody can ask for its version any more. */
CUresult cuCtxDetach(CUcontext context) {
    unsigned int version;
    CUresult result = real.cuCtxDetach(context);
    if (result == CUDA_SUCCESS && real.cuCtxGetApiVersion(context, &version) != CUDA_SUCCESS)
        context_gone(context);
    return result;
}

/* A green context shares its device's primary one and takes next to nothing itself. */
CUresult cuGreenCtxCreate(CUgreenCtx *context, CUdevResourceDesc resources, CUdevice device, unsigned int flags) {
    int card = card_of_device(device);
    if (card == CARD_FOREIGN)
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct measurement m = measure_begin(card);
    CUresult result = real.cuGreenCtxCreate(context, resources, device, flags);
    CUcontext key = result == CUDA_SUCCESS ? (CUcontext)*context : NULL;
    uint64_t taken = result == CUDA_SUCCESS && card >= 0 ? measure_end(&m, 0) : 0;
    if (taken > 0) {
        charge_anyway(card, EGPU_MEMORY_CONTEXT, taken);
        (void)holding_add(&(struct holding){.kind = HOLDING_CONTEXT, .key = (uint64_t)(uintptr_t)key, .card = card,
                                            .memory_class = EGPU_MEMORY_CONTEXT, .bytes = taken, .context = key});
    }
    return result;
}

CUresult cuGreenCtxDestroy(CUgreenCtx context) { return destroyed(real.cuGreenCtxDestroy(context), (CUcontext)context); }

static bool is_active(CUdevice device) {
    unsigned int flags;
    int active = 0;
    return real.cuDevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS && active != 0;
}

/* Only the first retain makes it, and threads that come at the same time must not be charged for one each. A driver that
 * does not answer, as in a child of fork, is asked without the lock, which a thread that is not there any more may hold. */
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER;
    unsigned int flags;
    int active = 0;
    if (region_state() == REGION_ABSENT ||
        real.cuDevicePrimaryCtxGetState(device, &flags, &active) != CUDA_SUCCESS || active != 0)
        return real.cuDevicePrimaryCtxRetain(context, device);
    struct making m;
    pthread_mutex_lock(&first);
    bool made = is_active(device);
    CUresult result = made ? CUDA_SUCCESS : admit(device, &m);
    if (result == CUDA_SUCCESS) {
        result = real.cuDevicePrimaryCtxRetain(context, device);
        if (!made) result = settle(result, &m, context);
    }
    pthread_mutex_unlock(&first);
    return result;
}

/* The primary context's handle, which release and reset do not name: asked for while it is there, without keeping it. */
static CUcontext primary_context(CUdevice device) {
    CUcontext context = NULL;
    if (region_state() != REGION_READY || !is_active(device))
        return NULL;
    if (real.cuDevicePrimaryCtxRetain(&context, device) != CUDA_SUCCESS)
        return NULL;
    real.cuDevicePrimaryCtxRelease_v2(device);
    return context;
}

static CUresult ended(CUresult result, CUdevice device, CUcontext context) {
    if (result == CUDA_SUCCESS && context != NULL && !is_active(device))
        context_gone(context);
    return result;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
    CUcontext context = primary_context(device);
    return ended(real.cuDevicePrimaryCtxRelease(device), device, context);
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    CUcontext context = primary_context(device);
    return ended(real.cuDevicePrimaryCtxRelease_v2(device), device, context);
}

CUresult cuDevicePrimaryCtxReset(CUdevice device) {
    CUcontext context = primary_context(device);
    return ended(real.cuDevicePrimaryCtxReset(device), device, context);
}

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
    CUcontext context = primary_context(device);
    return ended(real.cuDevicePrimaryCtxReset_v2(device), device, context);
}
