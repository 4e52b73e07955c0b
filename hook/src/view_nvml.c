#include "view_nvml.h"

#include "clock.h"
#include "seen.h"
#include "quota.h"
#include "real.h"
#include "region.h"
#include "route.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    UTILISATION_PERIOD_MS = 1000,
    PERCENT = 100,
};

/* CARD_NONE (-1) for cards that are no row of the limits, and without a region: those pass as they are. */
static int card_of(nvmlDevice_t device) {
    char uuid[EGPU_UUID_BYTES_MAX + 32];
    if (region_get() == NULL || real_nvml.nvmlDeviceGetUUID(device, uuid, sizeof uuid) != NVML_SUCCESS)
        return -1;
    return region_card_by_uuid(uuid);
}

struct memory {
    uint64_t total, used, free;
};

static struct memory memory_of(int card, uint64_t driver_total, uint64_t driver_free) {
    const struct egpu_card_limits *limits = region_limits(card);
    const struct egpu_card_usage *usage = region_card_usage(card);
    if (limits == NULL || usage == NULL)
        return (struct memory){driver_total, driver_total - driver_free, driver_free};
    region_reap_sometimes();
    uint64_t quota = limits->memory_quota_bytes;
    uint64_t total = limits->oversubscription || quota < driver_total ? quota : driver_total;
    uint64_t used = __atomic_load_n(&usage->charged_bytes, __ATOMIC_RELAXED);
    /* A quota that was lowered below what is in use shows a full card, and no free memory below zero. */
    used = used < total ? used : total;
    return (struct memory){total, used, total - used};
}

nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetMemoryInfo(device, memory);
    int card = result == NVML_SUCCESS ? card_of(device) : -1;
    if (card >= 0) {
        struct memory own = memory_of(card, memory->total, memory->free);
        *memory = (nvmlMemory_t){.total = own.total, .free = own.free, .used = own.used};
    }
    return result;
}

nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetMemoryInfo_v2(device, memory);
    int card = result == NVML_SUCCESS ? card_of(device) : -1;
    if (card >= 0) {
        struct memory own = memory_of(card, memory->total, memory->free);
        memory->total = own.total;
        memory->free = own.free;
        memory->used = own.used;
        /* What the driver keeps for itself lies outside of every quota. */
        memory->reserved = 0;
    }
    return result;
}

/* One process of this container with memory on a card. */
struct entry {
    unsigned int pid;
    unsigned long long bytes;
};

/* Built from the region and not from the driver's list: there processes have the host's numbers, and here the container's.
 * Returns how many there are, of which at most `max` are written. */
static unsigned int list_processes(int card, struct entry *entries, unsigned int max) {
    struct egpu_slot *first = region_slots();
    unsigned int count = 0;
    region_reap_sometimes();
    for (uint32_t index = 0; first != NULL && index < region_slot_count(); index++) {
        uint64_t pid = __atomic_load_n(&first[index].pid, __ATOMIC_ACQUIRE);
        uint64_t bytes = quota_charge(&first[index].cards[card]);
        if (pid == 0 || bytes == 0)
            continue;
        if (count < max)
            entries[count] = (struct entry){(unsigned int)pid, bytes};
        count++;
    }
    return count;
}

static bool is_own(unsigned int pid) {
    struct egpu_slot *first = region_slots();
    for (uint32_t index = 0; first != NULL && index < region_slot_count(); index++)
        if (__atomic_load_n(&first[index].pid, __ATOMIC_ACQUIRE) == pid)
            return true;
    return false;
}

typedef void (*fill)(void *infos, unsigned int index, struct entry entry);

static void fill_v1(void *infos, unsigned int index, struct entry entry) {
    ((nvmlProcessInfo_v1_t *)infos)[index] = (nvmlProcessInfo_v1_t){entry.pid, entry.bytes};
}

static void fill_v2(void *infos, unsigned int index, struct entry entry) {
    ((nvmlProcessInfo_v2_t *)infos)[index] =
        (nvmlProcessInfo_v2_t){entry.pid, entry.bytes, NVML_INSTANCE_NONE, NVML_INSTANCE_NONE};
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
        int card = count == NULL ? -1 : card_of(device);                                                              \
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
        return count == NULL || card_of(device) < 0 ? real_nvml.name(device, count, infos) : answer_none(count);       \
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
    int card = list == NULL ? -1 : card_of(device);
    if (card < 0)
        return real_nvml.nvmlDeviceGetRunningProcessDetailList(device, list);
    unsigned int room = list->procArray == NULL ? 0 : list->numProcArrayEntries;
    struct entry *entries = room == 0 ? NULL : calloc(room, sizeof *entries);
    if (room > 0 && entries == NULL)
        return NVML_ERROR_UNKNOWN;
    unsigned int found = list_processes(card, entries, room);
    for (unsigned int index = 0; index < found && index < room; index++)
        list->procArray[index] = (nvmlProcessDetail_v1_t){entries[index].pid, entries[index].bytes, NVML_INSTANCE_NONE,
                                                          NVML_INSTANCE_NONE, 0};
    free(entries);
    list->numProcArrayEntries = found;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

/* The part of the card's time that all processes of the container had since this one last asked. */
struct sample {
    uint64_t at_ns, busy_ns;
    unsigned int percent;
};
static struct sample samples[EGPU_CARD_COUNT_MAX];
static pthread_mutex_t sampling = PTHREAD_MUTEX_INITIALIZER;

static uint64_t busy_ns(int card) {
    struct egpu_slot *first = region_slots();
    uint64_t sum = __atomic_load_n(&region_card_usage(card)->departed_busy_ns, __ATOMIC_RELAXED);
    for (uint32_t index = 0; first != NULL && index < region_slot_count(); index++)
        sum += __atomic_load_n(&first[index].cards[card].busy_ns, __ATOMIC_RELAXED);
    return sum;
}

static unsigned int utilisation(int card, unsigned int driver_percent) {
    const struct egpu_card_limits *limits = region_limits(card);
    /* Nobody measures on a card that one container has whole; all that runs there is its own. */
    if (limits == NULL || (limits->core_quota >= EGPU_CORE_QUOTA_WHOLE && region_page(card) == NULL))
        return driver_percent;
    uint64_t now = clock_now_ns(), busy = busy_ns(card);
    pthread_mutex_lock(&sampling);
    struct sample *last = &samples[card];
    uint64_t passed = now > last->at_ns ? now - last->at_ns : 0;
    if (last->at_ns == 0) {
        /* Nothing to compare with yet: at most what the card does, and nothing when this container has done nothing. */
        *last = (struct sample){now, busy, busy > 0 ? driver_percent : 0};
    } else if (passed >= UTILISATION_PERIOD_MS * 1000000ull) {
        uint64_t used = busy > last->busy_ns ? busy - last->busy_ns : 0;
        uint64_t percent = (used * PERCENT + passed / 2) / passed;
        *last = (struct sample){now, busy, percent > PERCENT ? PERCENT : (unsigned int)percent};
    }
    unsigned int percent = last->percent;
    pthread_mutex_unlock(&sampling);
    return percent;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetUtilizationRates(device, rates);
    int card = result == NVML_SUCCESS ? card_of(device) : -1;
    if (card >= 0) {
        unsigned int percent = utilisation(card, rates->gpu);
        /* The memory's share is not measured by container: scaled as the card's. */
        rates->memory = rates->gpu == 0 ? 0 : rates->memory * percent / rates->gpu;
        rates->memory = rates->memory > PERCENT ? PERCENT : rates->memory;
        rates->gpu = percent;
    }
    return result;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *list, unsigned int *count,
                                             unsigned long long since) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetProcessUtilization(device, list, count, since);
    if (result != NVML_SUCCESS || list == NULL || card_of(device) < 0)
        return result;
    unsigned int kept = 0;
    for (unsigned int index = 0; index < *count; index++)
        if (is_own(list[index].pid))
            list[kept++] = list[index];
    *count = kept;
    return kept > 0 ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_t *list) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetProcessesUtilizationInfo(device, list);
    if (result != NVML_SUCCESS || list->procUtilArray == NULL || card_of(device) < 0)
        return result;
    unsigned int kept = 0;
    for (unsigned int index = 0; index < list->processSamplesCount; index++)
        if (is_own(list->procUtilArray[index].pid))
            list->procUtilArray[kept++] = list->procUtilArray[index];
    list->processSamplesCount = kept;
    return kept > 0 ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t device, unsigned int pid, nvmlAccountingStats_t *stats) {
    if (card_of(device) >= 0 && !is_own(pid))
        return NVML_ERROR_NOT_FOUND;
    return real_nvml.nvmlDeviceGetAccountingStats(device, pid, stats);
}

nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t device, unsigned int *count, unsigned int *pids) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetAccountingPids(device, count, pids);
    if (result != NVML_SUCCESS || pids == NULL || card_of(device) < 0)
        return result;
    unsigned int kept = 0;
    for (unsigned int index = 0; index < *count; index++)
        if (is_own(pids[index]))
            pids[kept++] = pids[index];
    *count = kept;
    return result;
}

nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int bytes) {
    if (region_get() != NULL && !is_own(pid) && pid != (unsigned int)getpid())
        return NVML_ERROR_NOT_FOUND;
    return real_nvml.nvmlSystemGetProcessName(pid, name, bytes);
}

void view_nvml_after_fork(void) {
    pthread_mutex_init(&sampling, NULL);
    memset(samples, 0, sizeof samples);
    seen_after_fork();
}
