/* Failures on demand: EGPU_SIM_FAULT="launch:N", "lost:N", "oom:N", "slow_page_in:FACTOR", several by comma. */
#include <stdlib.h>
#include <string.h>

#include "functions.h"

#define NAMES_MAX 4

static const char *const names[NAMES_MAX] = {SIM_FAULT_LAUNCH, SIM_FAULT_LOST, SIM_FAULT_MEMORY, SIM_FAULT_PAGE_IN};
static uint64_t counts[NAMES_MAX];

/* The number after `name:`; 0 when the fault is not asked for. */
static uint64_t asked(const char *name)
{
    const char *text = getenv("EGPU_SIM_FAULT");
    size_t length = strlen(name);

    while (text != NULL && *text != '\0') {
        if (strncmp(text, name, length) == 0 && text[length] == ':')
            return strtoull(text + length + 1, NULL, 0);
        text = strchr(text, ',');
        text = text != NULL ? text + 1 : NULL;
    }
    return 0;
}

static uint64_t wanted[NAMES_MAX];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void read_all(void)
{
    for (int index = 0; index < NAMES_MAX; index++)
        wanted[index] = asked(names[index]);
}

bool sim_fault(const char *name)
{
    pthread_once(&once, read_all);
    for (int index = 0; index < NAMES_MAX; index++)
        if (wanted[index] > 0 && strcmp(names[index], name) == 0)
            return __atomic_add_fetch(&counts[index], 1, __ATOMIC_RELAXED) == wanted[index];
    return false;
}

uint64_t sim_fault_factor(const char *name)
{
    uint64_t factor = asked(name);

    return factor > 0 ? factor : 1;
}

/* launch:N: the n-th launch is refused. lost:N: with it the device is lost, for this process and for good. */
CUresult sim_fault_launch(void)
{
    if (sim_fault(SIM_FAULT_LOST)) {
        sim_lock();
        sim_advance(sim_now());
        __atomic_store_n(&sim_process()->lost, 1, __ATOMIC_RELAXED);
        sim_end_lanes(sim_process_index());
        sim_wake_all();
        sim_unlock();
        return CUDA_ERROR_UNKNOWN;
    }
    return sim_fault(SIM_FAULT_LAUNCH) ? CUDA_ERROR_LAUNCH_FAILED : CUDA_SUCCESS;
}
