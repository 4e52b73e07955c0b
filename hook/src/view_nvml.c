/* Memory of a card and who holds it, through libnvidia-ml as the container sees it. */
#define _GNU_SOURCE
#include "view_nvml.h"

#include "clock.h"
#include "quota.h"
#include "real.h"
#include "region.h"
#include "route.h"
#include "seen.h"
#include "view.h"

#include <stdlib.h>
#include <unistd.h>

enum { MODE_COMPUTE = 0 };

/* CARD_NONE (-1) for cards that are no row of the limits, and without a region: those pass as they are. */
int view_card_of(nvmlDevice_t device) {
    char uuid[EGPU_UUID_BYTES_MAX + 32];
    if (region_state() != REGION_READY || real_nvml.nvmlDeviceGetUUID(device, uuid, sizeof uuid) != NVML_SUCCESS)
        return -1;
    return region_card_by_uuid(uuid);
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetMemoryInfo(device, memory);
    int card = result == NVML_SUCCESS ? view_card_of(device) : -1;
    if (card >= 0) {
        struct view_memory own = view_memory_of(card, memory->total, memory->free);
        *memory = (nvmlMemory_t){.total = own.total_bytes, .free = own.free_bytes, .used = own.used_bytes};
    }
    return result;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetMemoryInfo_v2(device, memory);
    int card = result == NVML_SUCCESS ? view_card_of(device) : -1;
    if (card >= 0) {
        struct view_memory own = view_memory_of(card, memory->total, memory->free);
        memory->total = own.total_bytes;
        memory->free = own.free_bytes;
        memory->used = own.used_bytes;
        /* What the driver keeps for itself lies outside of every quota. */
        memory->reserved = 0;
    }
    return result;
}

/* The window through which the host sees the card's memory: not larger than what there is, nor fuller than what is in use. */
nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, nvmlBAR1Memory_t *window) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetBAR1MemoryInfo(device, window);
    int card = result == NVML_SUCCESS ? view_card_of(device) : -1;
    if (card >= 0) {
        struct view_memory own = view_memory_of(card, window->bar1Total, window->bar1Total);
        window->bar1Total = own.total_bytes < window->bar1Total ? own.total_bytes : window->bar1Total;
        window->bar1Used = own.used_bytes < window->bar1Used ? own.used_bytes : window->bar1Used;
        window->bar1Free = window->bar1Total - window->bar1Used;
    }
    return result;
}

/* One process of this container with memory on a card. */
struct entry {
    unsigned int pid;
    unsigned long long bytes;
};

/* The process of a slot; 0: nobody's, or of another PID namespace, in which its number means somebody else. */
unsigned int view_pid_of(const struct egpu_slot *slot) {
    const struct egpu_slot *own = region_slot();
    uint64_t pid = __atomic_load_n(&slot->pid, __ATOMIC_ACQUIRE);
    return own != NULL && slot->pid_namespace == own->pid_namespace ? (unsigned int)pid : 0;
}

/* Built from the region and not from the driver's list: there processes have the host's numbers, and here the container's.
 * Returns how many there are, of which at most `max` are written. */
static unsigned int list_processes(int card, struct entry *entries, unsigned int max) {
    struct egpu_slot *first = region_slots();
    unsigned int count = 0;
    region_reap_sometimes();
    for (uint32_t index = 0; first != NULL && index < region_slot_count(); index++) {
        unsigned int pid = view_pid_of(&first[index]);
        uint64_t bytes = quota_charge(&first[index].cards[card]);
        if (pid == 0 || bytes == 0)
            continue;
        if (count < max)
            entries[count] = (struct entry){pid, bytes};
        count++;
    }
    return count;
}

static const struct egpu_slot *slot_of(unsigned int pid) {
    struct egpu_slot *first = region_slots();
    region_reap_sometimes();
    for (uint32_t index = 0; pid != 0 && first != NULL && index < region_slot_count(); index++)
        if (view_pid_of(&first[index]) == pid)
            return &first[index];
    return NULL;
}

typedef void (*fill)(void *infos, unsigned int index, struct entry entry);

static void fill_v1(void *infos, unsigned int index, struct entry entry) {
    ((nvmlProcessInfo_v1_t *)infos)[index] = (nvmlProcessInfo_v1_t){entry.pid, entry.bytes};
}

static void fill_v2(void *infos, unsigned int index, struct entry entry) {
    ((nvmlProcessInfo_v2_t *)infos)[index] =
        (nvmlProcessInfo_v2_t){entry.pid, entry.bytes, NVML_INSTANCE_NONE, NVML_INSTANCE_NONE};
}

static void fill_detail(void *infos, unsigned int index, struct entry entry) {
    ((nvmlProcessDetail_v1_t *)infos)[index] =
        (nvmlProcessDetail_v1_t){entry.pid, entry.bytes, NVML_INSTANCE_NONE, NVML_INSTANCE_NONE, 0};
}

static nvmlReturn_t answer(int card, unsigned int *count, void *infos, fill fill_one) {
    unsigned int room = infos == NULL ? 0 : *count;
    struct entry *entries = room == 0 ? NULL : calloc(room, sizeof *entries);
    if (room > 0 && entries == NULL)
        return NVML_ERROR_UNKNOWN;
    unsigned int found = list_processes(card, entries, room);
    for (unsigned int index = 0; index < found && index < room; index++)
        fill_one(infos, index, entries[index]);
    free(entries);
    *count = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* Lists of kinds of work a container of ours does not have. */
static nvmlReturn_t answer_none(unsigned int *count) {
    *count = 0;
    return NVML_SUCCESS;
}

/* The driver first, with no room for entries: its errors are the application's business, its list is not. */
#define COMPUTE(name, info, fill_one)                                                                                  \
    nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, info *infos) {                                         \
        int card = count == NULL ? -1 : view_card_of(device);                                                              \
        if (card < 0)                                                                                                  \
            return real_nvml.name(device, count, infos);                                                               \
        unsigned int none = 0;                                                                                         \
        nvmlReturn_t result = real_nvml.name(device, &none, NULL);                                                     \
        if (result != NVML_SUCCESS && result != NVML_ERROR_INSUFFICIENT_SIZE)                                          \
            return result;                                                                                             \
        return answer(card, count, infos, fill_one);                                                                   \
    }
#define EMPTY(name, info)                                                                                              \
    nvmlReturn_t name(nvmlDevice_t device, unsigned int *count, info *infos) {                                         \
        return count == NULL || view_card_of(device) < 0 ? real_nvml.name(device, count, infos) : answer_none(count);       \
    }

COMPUTE(nvmlDeviceGetComputeRunningProcesses, nvmlProcessInfo_v1_t, fill_v1)
COMPUTE(nvmlDeviceGetComputeRunningProcesses_v2, nvmlProcessInfo_v2_t, fill_v2)
COMPUTE(nvmlDeviceGetComputeRunningProcesses_v3, nvmlProcessInfo_t, fill_v2)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses, nvmlProcessInfo_v1_t)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses_v2, nvmlProcessInfo_v2_t)
EMPTY(nvmlDeviceGetGraphicsRunningProcesses_v3, nvmlProcessInfo_t)
EMPTY(nvmlDeviceGetMPSComputeRunningProcesses, nvmlProcessInfo_v1_t)
EMPTY(nvmlDeviceGetMPSComputeRunningProcesses_v2, nvmlProcessInfo_v2_t)
EMPTY(nvmlDeviceGetMPSComputeRunningProcesses_v3, nvmlProcessInfo_t)

nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t device, nvmlProcessDetailList_t *list) {
    int card = list == NULL ? -1 : view_card_of(device);
    if (card < 0)
        return real_nvml.nvmlDeviceGetRunningProcessDetailList(device, list);
    nvmlProcessDetailList_t none = {.version = list->version, .mode = list->mode};
    nvmlReturn_t result = real_nvml.nvmlDeviceGetRunningProcessDetailList(device, &none);
    if (result != NVML_SUCCESS && result != NVML_ERROR_INSUFFICIENT_SIZE)
        return result;
    if (list->mode != MODE_COMPUTE)
        return answer_none(&list->numProcArrayEntries);
    return answer(card, &list->numProcArrayEntries, list->procArray, fill_detail);
}

/* Whether the card keeps accounts at all is the driver's to say. Its books have other numbers, and other people. */
static nvmlReturn_t accounts(nvmlDevice_t device) {
    unsigned int none = 0;
    nvmlReturn_t result = real_nvml.nvmlDeviceGetAccountingPids(device, &none, NULL);
    return result == NVML_ERROR_INSUFFICIENT_SIZE ? NVML_SUCCESS : result;
}

/* Since the start of the process, which the kernel counts in ticks from its own. */
static uint64_t age_ns(const struct egpu_slot *slot) {
    struct timespec now;
    clock_read(CLOCK_BOOTTIME, &now);
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
    uint64_t start_ns = slot->start_time * (1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK));
    return now_ns > start_ns ? now_ns - start_ns : 0;
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid, nvmlAccountingStats_t *stats) {
    int card = stats == NULL ? -1 : view_card_of(device);
    if (card < 0)
        return real_nvml.nvmlDeviceGetAccountingStats(device, pid, stats);
    nvmlReturn_t result = accounts(device);
    const struct egpu_slot *slot = result == NVML_SUCCESS ? slot_of(pid) : NULL;
    if (slot == NULL)
        return result == NVML_SUCCESS ? NVML_ERROR_NOT_FOUND : result;
    struct timespec now;
    clock_read(CLOCK_REALTIME, &now);
    uint64_t age = age_ns(slot), busy = __atomic_load_n(&slot->cards[card].busy_ns, __ATOMIC_RELAXED);
    /* The most it ever had is kept for the container only. */
    *stats = (nvmlAccountingStats_t){.gpuUtilization = view_percent(busy, age),
                                     .maxMemoryUsage = NVML_VALUE_NOT_AVAILABLE_ULL,
                                     .startTime = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000 - age / 1000,
                                     .isRunning = 1};
    return NVML_SUCCESS;
}

static void fill_pid(void *infos, unsigned int index, struct entry entry) { ((unsigned int *)infos)[index] = entry.pid; }

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *pids) {
    int card = count == NULL ? -1 : view_card_of(device);
    if (card < 0)
        return real_nvml.nvmlDeviceGetAccountingPids(device, count, pids);
    nvmlReturn_t result = accounts(device);
    return result != NVML_SUCCESS ? result : answer(card, count, pids, fill_pid);
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int bytes) {
    if (region_state() == REGION_READY && slot_of(pid) == NULL && pid != (unsigned int)getpid())
        return NVML_ERROR_NOT_FOUND;
    return real_nvml.nvmlSystemGetProcessName(pid, name, bytes);
}

void view_nvml_after_fork(void) {
    view_utilisation_after_fork();
    seen_after_fork();
}
