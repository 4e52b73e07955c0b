#include "contexts.h"

#include "batches.h"
#include "cards.h"
#include "charges.h"
#include "clock.h"
#include "measured.h"
#include "seen.h"
#include "oversubscription.h"
#include "real.h"
#include "region.h"
#include "route.h"
#include "throttle.h"

#include <pthread.h>

/* What a context takes on current cards with current drivers lies between 200 and 500 MiB; charged until the driver's own
 * figure for the process is known, or always where libnvidia-ml does not name this process. */
static const uint64_t CONTEXT_BYTES_ESTIMATE = 300ull << 20;

static uint64_t estimate(int card) {
    const struct egpu_card_limits *limits = region_limits(card);
    return limits != NULL && limits->context_bytes_estimate > 0 ? limits->context_bytes_estimate : CONTEXT_BYTES_ESTIMATE;
}

enum { LATE_CONTEXTS_MAX = 64 }; /* programs have one for a card */

struct making {
    struct measurement measured;
    CUdevice device;
    bool late; /* the region is broken: charged if it is ever mended */
    bool absent; /* the driver did not name this process before */
};

/* Refused before the driver makes it: a context that does not fit into the quota would take the neighbour's memory. */
static CUresult admit(CUdevice device, struct making *making) {
    int card = card_of_device(device);
    /* With a broken region compute goes on, and that needs contexts; what is refused then is memory. */
    if (card == CARD_NONE || region_state() == REGION_BROKEN) {
        *making = (struct making){.measured = {.card = CARD_NONE}, .device = device, .late = card != CARD_NONE};
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
    if (card < 0) {
        if (result == CUDA_SUCCESS && making->late)
            (void)holding_add(&(struct holding){.kind = HOLDING_CONTEXT, .key = (uint64_t)(uintptr_t)*context,
                                                .card = CARD_FOREIGN, .memory_class = EGPU_MEMORY_CONTEXT,
                                                .context = *context, .owner = (uint64_t)making->device});
        return result;
    }
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

static void be_charged(struct holding *context, void *charged) {
    context->card = ((const struct holding *)charged)->card;
    context->bytes = ((const struct holding *)charged)->bytes;
}

void contexts_count_late(void) {
    struct holding contexts[LATE_CONTEXTS_MAX];
    size_t count = holdings_copy(HOLDING_CONTEXT, contexts, LATE_CONTEXTS_MAX);
    for (size_t each = 0; each < count; each++) {
        struct holding *late = &contexts[each];
        int card = late->card == CARD_FOREIGN ? card_of_device((CUdevice)late->owner) : CARD_NONE;
        if (card < 0)
            continue;
        late->card = card;
        late->bytes = estimate(card);
        charge_anyway(card, EGPU_MEMORY_CONTEXT, late->bytes);
        if (!holding_change(HOLDING_CONTEXT, late->key, be_charged, late))
            charge_give_back(card, EGPU_MEMORY_CONTEXT, late->bytes);
    }
}

static bool dies_with(const struct holding *holding, const void *context) {
    return holding->context == *(const CUcontext *)context;
}

static void gone_with_context(const struct holding *holding) {
    if (holding->memory_class == EGPU_MEMORY_OVERSUBSCRIBED)
        oversubscription_forget(holding->key);
    charge_release(holding);
}

/* While a context ends, what was noted as its own is noted under this struct's address: as soon as the driver has its handle
 * back another thread may be given it. */
struct ending {
    CUcontext notes, streams; /* the context, as notes and streams name it; NULL: none */
};

static void ending_begin(struct ending *ending, CUcontext notes, CUcontext streams) {
    *ending = (struct ending){notes, streams};
    if (streams != NULL) batches_hold_context(streams);
    if (notes != NULL) holdings_move(notes, (CUcontext)ending);
}

static void ending_settle(struct ending *ending, bool gone) {
    CUcontext mark = (CUcontext)ending;
    if (ending->notes != NULL && gone) holdings_take_all(dies_with, &mark, gone_with_context);
    else if (ending->notes != NULL) holdings_move(mark, ending->notes);
    if (ending->streams != NULL) batches_release_context(ending->streams, gone);
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

#define DESTROY_CONTEXT(name)                                                                                        \
    CUresult name(CUcontext context) {                                                                               \
        struct ending ending;                                                                                        \
        ending_begin(&ending, context, context);                                                                     \
        CUresult result = real.name(context);                                                                        \
        ending_settle(&ending, result == CUDA_SUCCESS);                                                              \
        return result;                                                                                               \
    }
DESTROY_CONTEXT(cuCtxDestroy)
DESTROY_CONTEXT(cuCtxDestroy_v2)

/* Only the last detach ends a context, and then nobody can ask for its version any more. */
CUresult cuCtxDetach(CUcontext context) {
    unsigned int version;
    struct ending ending;
    ending_begin(&ending, context, context);
    CUresult result = real.cuCtxDetach(context);
    ending_settle(&ending, result == CUDA_SUCCESS && real.cuCtxGetApiVersion(context, &version) != CUDA_SUCCESS);
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

/* Its streams name the context that it is converted to. */
CUresult cuGreenCtxDestroy(CUgreenCtx context) {
    CUcontext converted = NULL;
    struct ending ending;
    if (region_state() == REGION_READY && real.cuCtxFromGreenCtx(&converted, context) != CUDA_SUCCESS) converted = NULL;
    ending_begin(&ending, (CUcontext)context, converted);
    CUresult result = real.cuGreenCtxDestroy(context);
    ending_settle(&ending, result == CUDA_SUCCESS);
    return result;
}

static bool is_active(CUdevice device) {
    unsigned int flags;
    int active = 0;
    return real.cuDevicePrimaryCtxGetState(device, &flags, &active) == CUDA_SUCCESS && active != 0;
}

/* Primary contexts begin at the first retain and end at the last release, which only the driver counts: so one thread at a
 * time does either on a device, and the others look again and again, for the driver may wait for the card meanwhile. A
 * driver that does not answer, as in a child of fork, is asked without a turn, which a thread that is not there any more may
 * have. */
static uint32_t *turn_of(CUdevice device) {
    static uint32_t taken[EGPU_CARD_COUNT_MAX];
    return &taken[(unsigned)device % EGPU_CARD_COUNT_MAX];
}

static void take_turn(CUdevice device) {
    while (__atomic_exchange_n(turn_of(device), 1, __ATOMIC_ACQUIRE) != 0)
        clock_sleep_until(clock_now_ns() + THROTTLE_POLL_NS);
}

static void give_turn(CUdevice device) { __atomic_store_n(turn_of(device), 0, __ATOMIC_RELEASE); }

/* Threads that come at the same time must not be charged for one each. */
CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    unsigned int flags;
    int active = 0;
    if (region_state() == REGION_ABSENT ||
        real.cuDevicePrimaryCtxGetState(device, &flags, &active) != CUDA_SUCCESS || active != 0)
        return real.cuDevicePrimaryCtxRetain(context, device);
    struct making m;
    take_turn(device);
    bool made = is_active(device);
    CUresult result = made ? CUDA_SUCCESS : admit(device, &m);
    if (result == CUDA_SUCCESS) {
        result = real.cuDevicePrimaryCtxRetain(context, device);
        if (!made) result = settle(result, &m, context);
    }
    give_turn(device);
    return result;
}

/* The primary context's handle, which release and reset do not name: asked for while it is there, without keeping it, which
 * would be its end if it were somebody else's turn. */
static CUcontext primary_context(CUdevice device) {
    CUcontext context = NULL;
    if (!is_active(device) || real.cuDevicePrimaryCtxRetain(&context, device) != CUDA_SUCCESS)
        return NULL;
    if (route_has(cuDevicePrimaryCtxRelease_v2)) real.cuDevicePrimaryCtxRelease_v2(device);
    else real.cuDevicePrimaryCtxRelease(device);
    return context;
}

static CUresult end_primary(CUdevice device, CUresult (*call)(CUdevice)) {
    struct ending ending;
    if (region_state() != REGION_READY || !is_active(device))
        return call(device);
    take_turn(device);
    CUcontext context = primary_context(device);
    ending_begin(&ending, context, context);
    CUresult result = call(device);
    ending_settle(&ending, result == CUDA_SUCCESS && !is_active(device));
    give_turn(device);
    return result;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return end_primary(device, real.cuDevicePrimaryCtxRelease); }
CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) { return end_primary(device, real.cuDevicePrimaryCtxRelease_v2); }
CUresult cuDevicePrimaryCtxReset(CUdevice device) { return end_primary(device, real.cuDevicePrimaryCtxReset); }
CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) { return end_primary(device, real.cuDevicePrimaryCtxReset_v2); }
