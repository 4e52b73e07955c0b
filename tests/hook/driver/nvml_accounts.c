/* What the driver keeps about processes while accounting is on (EGPU_SIM_ACCOUNTING): here of the living only. */
#include "nvml.h"

enum { PERCENT = 100 };

static nvmlReturn_t enter(nvmlDevice_t device, uint32_t *card)
{
    nvmlReturn_t result = nvml_enter(device, card);
    if (result == NVML_SUCCESS && sim_environment("EGPU_SIM_ACCOUNTING", 0) == 0)
        return NVML_ERROR_NOT_SUPPORTED;
    return result;
}

static bool is_kept(const struct sim_process *process, uint32_t card)
{
    return process->alive && process->shares[card].operations > 0;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid, nvmlAccountingStats_t *stats)
{
    uint32_t card;
    struct sim_state *state = sim_state();
    nvmlReturn_t result = enter(device, &card);
    if (result != NVML_SUCCESS || stats == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    result = NVML_ERROR_NOT_FOUND;
    sim_lock();
    for (uint32_t i = 0; i < state->processes_high; i++) {
        const struct sim_process *process = &state->processes[i];
        uint64_t age_ns = sim_now() - process->attached_ns;
        if (!is_kept(process, card) || (unsigned int)process->pid != pid)
            continue;
        *stats = (nvmlAccountingStats_t){
            .gpuUtilization = age_ns == 0 ? 0 : (unsigned int)(process->shares[card].busy_ns * PERCENT / age_ns),
            .maxMemoryUsage = process->shares[card].bytes_most,
            .startTime = process->attached_ns / 1000,
            .isRunning = 1,
        };
        result = NVML_SUCCESS;
    }
    sim_unlock();
    return result;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *pids)
{
    uint32_t card;
    struct sim_state *state = sim_state();
    nvmlReturn_t result = enter(device, &card);
    if (result != NVML_SUCCESS || count == NULL || (*count > 0 && pids == NULL))
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    unsigned int room = *count;
    *count = 0;
    sim_lock();
    for (uint32_t i = 0; i < state->processes_high; i++) {
        if (!is_kept(&state->processes[i], card))
            continue;
        if (*count < room)
            pids[*count] = (unsigned int)state->processes[i].pid;
        *count += 1;
    }
    sim_unlock();
    return *count > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}
