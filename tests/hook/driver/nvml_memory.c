/* Memory of a card and who holds it: the sums of the state file, in every struct version. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

NVML_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || memory == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    memory->total = sim_state()->card[card].memory_bytes;
    memory->used = sim_state()->card[card].memory_used_bytes;
    memory->free = memory->total - memory->used;
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory)
{
    nvmlMemory_t plain;
    if (memory != NULL && memory->version != NVML_STRUCT_VERSION(nvmlMemory_v2_t, 2))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = nvmlDeviceGetMemoryInfo(device, memory == NULL ? NULL : &plain);
    if (result != NVML_SUCCESS)
        return result;
    memory->total = plain.total;
    memory->reserved = 0;
    memory->used = plain.used;
    memory->free = plain.free;
    return NVML_SUCCESS;
}

/* The window is as large as the card, and all that is in use is seen through it. */
NVML_EXPORT nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *window)
{
    nvmlMemory_t plain;
    nvmlReturn_t result = nvmlDeviceGetMemoryInfo(device, window == NULL ? NULL : &plain);
    if (result == NVML_SUCCESS)
        *window = (nvmlBAR1Memory_t){.bar1Total = plain.total, .bar1Free = plain.free, .bar1Used = plain.used};
    return result;
}

/* Calls `put` for every live process with bytes on the card; returns how many there are. */
static unsigned int each_process(uint32_t card, void (*put)(void *, unsigned int, unsigned int, unsigned long long),
                                 void *target, unsigned int room)
{
    struct sim_state *state = sim_state();
    unsigned int count = 0;
    sim_lock();
    for (uint32_t i = 0; i < state->processes_high; i++) {
        const struct sim_process *process = &state->processes[i];
        if (!process->alive || process->shares[card].bytes == 0)
            continue;
        if (count < room)
            put(target, count, (unsigned int)process->pid, process->shares[card].bytes);
        count++;
    }
    sim_unlock();
    return count;
}

static void put_v1(void *target, unsigned int i, unsigned int pid, unsigned long long bytes)
{
    ((nvmlProcessInfo_v1_t *)target)[i] = (nvmlProcessInfo_v1_t){.pid = pid, .usedGpuMemory = bytes};
}

static void put_v2(void *target, unsigned int i, unsigned int pid, unsigned long long bytes)
{
    ((nvmlProcessInfo_v2_t *)target)[i] = (nvmlProcessInfo_v2_t){.pid = pid,
                                                                 .usedGpuMemory = bytes,
                                                                 .gpuInstanceId = NVML_INSTANCE_NONE,
                                                                 .computeInstanceId = NVML_INSTANCE_NONE};
}

static void put_detail(void *target, unsigned int i, unsigned int pid, unsigned long long bytes)
{
    ((nvmlProcessDetail_v1_t *)target)[i] = (nvmlProcessDetail_v1_t){.pid = pid,
                                                                     .usedGpuMemory = bytes,
                                                                     .gpuInstanceId = NVML_INSTANCE_NONE,
                                                                     .computeInstanceId = NVML_INSTANCE_NONE};
}

typedef void put_function(void *, unsigned int, unsigned int, unsigned long long);

static nvmlReturn_t processes(nvmlDevice_t device, unsigned int *count, void *infos, put_function *put)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || count == NULL || (*count > 0 && infos == NULL))
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    unsigned int room = *count;
    *count = each_process(card, put, infos, room);
    return *count > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* No simulated process draws, and none runs under MPS. */
static nvmlReturn_t none(nvmlDevice_t device, unsigned int *count)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || count == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    *count = 0;
    return NVML_SUCCESS;
}

#define PROCESSES(suffix, type, put)                                                                                   \
    NVML_EXPORT nvmlReturn_t nvmlDeviceGetComputeRunningProcesses##suffix(nvmlDevice_t device, unsigned int *count,    \
                                                                          type *infos)                                 \
    {                                                                                                                  \
        return processes(device, count, infos, put);                                                                   \
    }                                                                                                                  \
    NVML_EXPORT nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses##suffix(nvmlDevice_t device, unsigned int *count,   \
                                                                           type *infos)                                \
    {                                                                                                                  \
        (void)infos;                                                                                                   \
        return none(device, count);                                                                                    \
    }                                                                                                                  \
    NVML_EXPORT nvmlReturn_t nvmlDeviceGetMPSComputeRunningProcesses##suffix(nvmlDevice_t device, unsigned int *count, \
                                                                             type *infos)                              \
    {                                                                                                                  \
        (void)infos;                                                                                                   \
        return none(device, count);                                                                                    \
    }

PROCESSES(, nvmlProcessInfo_v1_t, put_v1)
PROCESSES(_v2, nvmlProcessInfo_v2_t, put_v2)
PROCESSES(_v3, nvmlProcessInfo_t, put_v2)

NVML_EXPORT nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *list)
{
    enum { MODE_COMPUTE = 0 };
    if (list == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (list->version != NVML_STRUCT_VERSION(nvmlProcessDetailList_t, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (list->mode != MODE_COMPUTE)
        return none(device, &list->numProcArrayEntries);
    return processes(device, &list->numProcArrayEntries, list->procArray, put_detail);
}

NVML_EXPORT nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length)
{
    char path[32], text[256];
    if (nvml_ready() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    snprintf(path, sizeof path, "/proc/%u/comm", pid);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return NVML_ERROR_NOT_FOUND;
    char *line = fgets(text, sizeof text, file);
    fclose(file);
    if (line == NULL)
        return NVML_ERROR_NOT_FOUND;
    line[strcspn(line, "\n")] = 0;
    return nvml_text(name, length, line);
}
