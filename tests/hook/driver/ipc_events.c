/* Events of several processes: a place in the shared state that says what the latest record waits for. */
#include <string.h>

#include "simulated.h"
#include "streams.h"

#define HANDLE_MAGIC UINT64_C(0x746e6576655f4350)

struct handle {
    uint64_t magic;
    uint64_t place;
    uint64_t identity;
};
_Static_assert(sizeof(struct handle) <= sizeof(CUipcEventHandle), "the interface's handle has 64 bytes");

static bool hold(struct sim_shared_event *shared)
{
    if (shared->holders_count == SIM_EVENT_HOLDERS_MAX)
        return false;
    shared->holders[shared->holders_count++] = sim_process_index();
    return true;
}

static bool let_go(struct sim_shared_event *shared, uint32_t process)
{
    for (uint32_t holder = 0; holder < shared->holders_count; holder++)
        if (shared->holders[holder] == process) {
            shared->holders[holder] = shared->holders[--shared->holders_count];
            return true;
        }
    return false;
}

/* The queues of a process end with it: what it recorded has happened then. */
static void end_process(uint32_t process)
{
    for (size_t place = 0; place < SIM_SHARED_EVENTS_MAX; place++) {
        struct sim_shared_event *shared = &sim_state()->events[place];

        if (shared->holders_count > 0 && shared->process == process)
            shared->point.ticket = 0;
        while (let_go(shared, process)) {
        }
    }
}

static __attribute__((constructor)) void begin(void)
{
    sim_end_hook(end_process);
}

void sim_event_publish(struct CUevent_st *event)
{
    struct sim_shared_event *shared = event->shared;

    if (shared == NULL)
        return;
    shared->point = event->point;
    shared->recorded_ns = event->recorded_ns;
    shared->process = sim_process_index();
    event->shared_records = ++shared->records;
}

void sim_event_learn(struct CUevent_st *event)
{
    const struct sim_shared_event *shared = event->shared;

    if (shared == NULL || shared->records == event->shared_records)
        return;
    sim_event_forget(event);
    event->point = shared->point;
    event->recorded_ns = shared->recorded_ns;
    event->shared_records = shared->records;
    event->recorded = true;
    event->completed_ns = 0;
}

void sim_event_leave(struct CUevent_st *event)
{
    if (event->shared != NULL)
        let_go(event->shared, sim_process_index());
    event->shared = NULL;
}

static struct sim_shared_event *take_place(void)
{
    for (size_t place = 0; place < SIM_SHARED_EVENTS_MAX; place++) {
        struct sim_shared_event *shared = &sim_state()->events[place];

        if (shared->holders_count > 0)
            continue;
        memset(shared, 0, sizeof(*shared));
        hold(shared);
        shared->identity = ++sim_state()->sequence;
        return shared;
    }
    return NULL;
}

CUresult sim_cuIpcGetEventHandle(CUipcEventHandle *told, CUevent event)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), told);
    struct handle handle = {.magic = HANDLE_MAGIC};

    if (result == CUDA_SUCCESS && (event == NULL || event->magic != SIM_EVENT_MAGIC))
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS && (event->flags & CU_EVENT_INTERPROCESS) == 0)
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    sim_lock();
    if (event->shared == NULL) {
        event->shared = take_place();
        if (event->shared != NULL && event->recorded)
            sim_event_publish(event);
    }
    if (event->shared != NULL) {
        handle.place = (uint64_t)(event->shared - sim_state()->events);
        handle.identity = event->shared->identity;
    }
    sim_unlock();
    if (event->shared == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    memset(told, 0, sizeof(*told));
    memcpy(told, &handle, sizeof(handle));
    return CUDA_SUCCESS;
}

CUresult sim_cuIpcOpenEventHandle(CUevent *made, CUipcEventHandle told)
{
    struct sim_shared_event *shared = NULL;
    struct handle handle;
    CUresult result;

    memcpy(&handle, &told, sizeof(handle));
    if (made == NULL || handle.magic != HANDLE_MAGIC || handle.place >= SIM_SHARED_EVENTS_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    result = sim_cuEventCreate(made, CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS);
    if (result != CUDA_SUCCESS)
        return result;
    sim_lock();
    shared = &sim_state()->events[handle.place];
    if (shared->holders_count > 0 && shared->identity == handle.identity && hold(shared))
        (*made)->shared = shared;
    else
        shared = NULL;
    sim_unlock();
    if (shared != NULL)
        return CUDA_SUCCESS;
    sim_cuEventDestroy_v2(*made);
    *made = NULL;
    return CUDA_ERROR_INVALID_HANDLE;
}
