/* cuInit, contexts, and which one is current; what nearly every call asks first. */
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "internal.h"
#include "streams.h"
#include "simulated.h"

#define CONTEXT_MAGIC UINT64_C(0x7478657463747831)
#define CONTEXT_STACK_MAX 64
#define CONTEXT_API_VERSION 3020U
#define CONTEXT_STACK_BYTES 1024
#define CONTEXT_HEAP_BYTES (8U << 20)
#define CONTEXT_FIFO_BYTES (1U << 20)

CUresult (*sim_context_made)(struct sim_context *context);
void (*sim_context_ended)(struct sim_context *context);

static bool initialised;
static bool forked_after_init; /* CUDA does not work in the child of a process that has begun to use it */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sim_context *contexts; /* all of the process, ended ones too: a handle may be asked for later */
static uint64_t identities;
static struct {
    struct sim_context *context;
    unsigned references;
    unsigned flags;
} primary[SIM_CARDS_MAX];

static __thread struct sim_context *stack[CONTEXT_STACK_MAX];
static __thread int depth;

void sim_contexts_forked(void)
{
    forked_after_init = initialised;
    initialised = false;
    pthread_mutex_init(&lock, NULL);
    depth = 0;
}

CUresult sim_cuInit(unsigned int flags)
{
    if (flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    if (forked_after_init)
        return CUDA_ERROR_NOT_INITIALIZED;
    if (sim_process_over())
        return CUDA_ERROR_DEINITIALIZED;
    sim_process();
    __atomic_store_n(&initialised, true, __ATOMIC_RELEASE);
    return sim_state()->cards > 0 ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult sim_enter(enum sim_call call)
{
    struct sim_process *process;

    if (!__atomic_load_n(&initialised, __ATOMIC_ACQUIRE))
        return CUDA_ERROR_NOT_INITIALIZED;
    if (sim_process_over())
        return CUDA_ERROR_DEINITIALIZED;
    process = sim_process();
    __atomic_add_fetch(&process->calls, 1, __ATOMIC_RELAXED);
    sim_charge(call);
    return __atomic_load_n(&process->lost, __ATOMIC_RELAXED) != 0 ? CUDA_ERROR_UNKNOWN : CUDA_SUCCESS;
}

struct sim_context *sim_context_current(void)
{
    return depth > 0 ? stack[depth - 1] : NULL;
}

CUresult sim_enter_context(enum sim_call call, struct sim_context **context)
{
    CUresult result = sim_enter(call);

    if (result != CUDA_SUCCESS)
        return result;
    *context = sim_context_current();
    if (*context == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    return (*context)->destroyed ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_SUCCESS;
}

struct sim_context *sim_context_first(void)
{
    return __atomic_load_n(&contexts, __ATOMIC_ACQUIRE);
}

struct sim_context *sim_context_of(CUcontext handle)
{
    for (struct sim_context *context = sim_context_first(); context != NULL; context = context->next)
        if ((CUcontext)(void *)context == handle)
            return context->destroyed ? NULL : context;
    return NULL;
}

static CUcontext handle_of(struct sim_context *context)
{
    return (CUcontext)(void *)context;
}

static CUresult make(int card, unsigned flags, bool is_primary, struct sim_context **made)
{
    struct sim_context *context = calloc(1, sizeof(*context));
    CUresult result;

    if (context == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    context->magic = CONTEXT_MAGIC;
    context->card = card;
    context->flags = flags;
    context->primary = is_primary;
    context->version = CONTEXT_API_VERSION;
    context->stack_bytes = CONTEXT_STACK_BYTES;
    context->heap_bytes = CONTEXT_HEAP_BYTES;
    context->fifo_bytes = CONTEXT_FIFO_BYTES;
    context->legacy = sim_stream_make(context, CU_STREAM_DEFAULT, 0);
    if (context->legacy == NULL) {
        free(context);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    result = sim_context_made != NULL ? sim_context_made(context) : CUDA_SUCCESS;
    if (result != CUDA_SUCCESS)
        return result;
    context->identity = ++identities;
    context->next = contexts;
    __atomic_store_n(&contexts, context, __ATOMIC_RELEASE);
    *made = context;
    return CUDA_SUCCESS;
}

CUresult sim_context_make(int card, struct sim_context **made)
{
    CUresult result;

    pthread_mutex_lock(&lock);
    result = make(card, 0, false, made);
    pthread_mutex_unlock(&lock);
    return result;
}

void sim_context_end(struct sim_context *context)
{
    sim_wait_context(context);
    context->destroyed = true;
    sim_modules_end(context);
    if (sim_context_ended != NULL)
        sim_context_ended(context);
    if (depth > 0 && stack[depth - 1] == context)
        depth--;
}

CUresult sim_enter_card(CUdevice device)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    return device >= 0 && (uint32_t)device < sim_state()->cards ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

static CUresult enter_live(CUcontext handle, struct sim_context **context)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    *context = sim_context_of(handle);
    return result == CUDA_SUCCESS && *context == NULL ? CUDA_ERROR_INVALID_CONTEXT : result;
}

static CUresult push(struct sim_context *context)
{
    if (depth == CONTEXT_STACK_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

static CUresult create(CUcontext *handle, unsigned flags, CUdevice device)
{
    struct sim_context *context = NULL;
    CUresult result = sim_answer(sim_enter_card(device), handle);

    if (result == CUDA_SUCCESS)
        result = sim_context_make(device, &context);
    if (result != CUDA_SUCCESS)
        return result;
    context->flags = flags;
    *handle = handle_of(context);
    return push(context);
}

CUresult sim_cuCtxCreate_v2(CUcontext *handle, unsigned int flags, CUdevice device)
{
    return create(handle, flags, device);
}

CUresult sim_cuCtxCreate(CUcontext *handle, unsigned int flags, CUdevice device)
{
    return create(handle, flags, device);
}

CUresult sim_cuCtxCreate_v3(CUcontext *handle, CUexecAffinityParam *affinities, int count, unsigned int flags,
                            CUdevice device)
{
    if (count < 0 || (count > 0 && affinities == NULL))
        return CUDA_ERROR_INVALID_VALUE;
    return create(handle, flags, device);
}

CUresult sim_cuCtxCreate_v4(CUcontext *handle, CUctxCreateParams *parameters, unsigned int flags, CUdevice device)
{
    (void)parameters; /* NULL, or affinities and CIG, which change nothing here */
    return create(handle, flags, device);
}

CUresult sim_cuCtxDestroy_v2(CUcontext handle)
{
    struct sim_context *context;
    CUresult result = enter_live(handle, &context);

    if (result == CUDA_SUCCESS && context->primary)
        result = CUDA_ERROR_INVALID_CONTEXT;
    if (result == CUDA_SUCCESS)
        sim_context_end(context);
    return result;
}

CUresult sim_cuCtxDestroy(CUcontext handle)
{
    return sim_cuCtxDestroy_v2(handle);
}

CUresult sim_cuCtxPushCurrent_v2(CUcontext handle)
{
    struct sim_context *context;
    CUresult result = enter_live(handle, &context);

    return result == CUDA_SUCCESS ? push(context) : result;
}

CUresult sim_cuCtxPopCurrent_v2(CUcontext *handle)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (depth == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    depth--;
    if (handle != NULL)
        *handle = handle_of(stack[depth]);
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxPushCurrent(CUcontext handle)
{
    return sim_cuCtxPushCurrent_v2(handle);
}

CUresult sim_cuCtxPopCurrent(CUcontext *handle)
{
    return sim_cuCtxPopCurrent_v2(handle);
}

CUresult sim_cuCtxSetCurrent(CUcontext handle)
{
    struct sim_context *context;
    CUresult result = handle == NULL ? sim_enter(SIM_CALL_OTHER) : enter_live(handle, &context);

    if (result != CUDA_SUCCESS)
        return result;
    if (handle == NULL) {
        depth -= depth > 0;
        return CUDA_SUCCESS;
    }
    if (depth == 0)
        return push(context);
    stack[depth - 1] = context;
    return CUDA_SUCCESS;
}

CUresult sim_cuCtxGetCurrent(CUcontext *handle)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), handle);

    if (result == CUDA_SUCCESS)
        *handle = handle_of(sim_context_current());
    return result;
}

CUresult sim_cuDevicePrimaryCtxRetain(CUcontext *handle, CUdevice device)
{
    CUresult result = sim_answer(sim_enter_card(device), handle);

    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&lock);
    if (primary[device].context == NULL)
        result = make(device, primary[device].flags, true, &primary[device].context);
    if (result == CUDA_SUCCESS) {
        primary[device].references++;
        *handle = handle_of(primary[device].context);
    }
    pthread_mutex_unlock(&lock);
    return result;
}

static CUresult release_primary(CUdevice device, bool wholly)
{
    struct sim_context *ended = NULL;
    CUresult result = sim_enter_card(device);

    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&lock);
    if (primary[device].references == 0 && !wholly)
        result = CUDA_ERROR_INVALID_CONTEXT;
    else if (wholly || --primary[device].references == 0) {
        ended = primary[device].context;
        primary[device].context = NULL;
        primary[device].references = 0;
    }
    pthread_mutex_unlock(&lock);
    if (ended != NULL)
        sim_context_end(ended);
    return result;
}

CUresult sim_cuDevicePrimaryCtxRelease_v2(CUdevice device)
{
    return release_primary(device, false);
}

CUresult sim_cuDevicePrimaryCtxRelease(CUdevice device)
{
    return release_primary(device, false);
}

CUresult sim_cuDevicePrimaryCtxReset_v2(CUdevice device)
{
    return release_primary(device, true);
}

CUresult sim_cuDevicePrimaryCtxReset(CUdevice device)
{
    return release_primary(device, true);
}

CUresult sim_cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active)
{
    CUresult result = sim_answer(sim_answer(sim_enter_card(device), flags), active);

    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&lock);
    *flags = primary[device].flags;
    *active = primary[device].context != NULL;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

CUresult sim_cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags)
{
    CUresult result = sim_enter_card(device);

    if (result != CUDA_SUCCESS)
        return result;
    primary[device].flags = flags;
    if (primary[device].context != NULL)
        primary[device].context->flags = flags;
    return CUDA_SUCCESS;
}

CUresult sim_cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags)
{
    return sim_cuDevicePrimaryCtxSetFlags_v2(device, flags);
}
