/* How busy the container and each of its processes were, through libnvidia-ml: measured by the hook, for the driver's figures
 * are those of all who share the card, and its processes have other numbers. */
#include "view_nvml.h"

#include "clock.h"
#include "real.h"
#include "region.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { PERCENT = 100 };
static const uint64_t PERIOD_NS = 1000000000;
/* The first answer of a process waits for so long, as there is nothing yet that it could compare with. */
static const uint64_t FIRST_PERIOD_NS = 100000000;

struct reading {
    uint64_t at_ns; /* 0: none yet */
    uint64_t stamp_us;
    uint64_t busy_ns;
    struct {
        unsigned int pid;
        uint64_t busy_ns;
    } slots[EGPU_SLOT_COUNT_MAX];
};

/* What happened between the two is what is told. */
struct history {
    struct reading from, to;
};

static struct history *histories[EGPU_CARD_COUNT_MAX];
static pthread_mutex_t sampling = PTHREAD_MUTEX_INITIALIZER;

unsigned int view_percent(uint64_t part, uint64_t whole) {
    uint64_t percent = whole == 0 ? 0 : (part * PERCENT + whole / 2) / whole;
    return percent > PERCENT ? PERCENT : (unsigned int)percent;
}

static void read_now(int card, struct reading *reading) {
    struct timespec wall;
    struct egpu_slot *first = region_slots();
    memset(reading, 0, sizeof *reading);
    /* Who leaves moves its time from one word to another. */
    bool locked = region_lock();
    reading->busy_ns = __atomic_load_n(&region_card_usage(card)->departed_busy_ns, __ATOMIC_RELAXED);
    for (uint32_t index = 0; first != NULL && index < region_slot_count(); index++) {
        reading->slots[index].pid = view_pid_of(&first[index]);
        reading->slots[index].busy_ns = __atomic_load_n(&first[index].cards[card].busy_ns, __ATOMIC_RELAXED);
        reading->busy_ns += reading->slots[index].busy_ns;
    }
    if (locked)
        region_unlock();
    clock_read(CLOCK_REALTIME, &wall);
    reading->stamp_us = (uint64_t)wall.tv_sec * 1000000 + (uint64_t)wall.tv_nsec / 1000;
    reading->at_ns = clock_now_ns();
}

/* With the lock held, which is let go while it waits. NULL: out of memory. */
static const struct history *renew(int card) {
    struct history *history = histories[card];
    if (history == NULL)
        history = histories[card] = calloc(1, sizeof *history);
    if (history == NULL)
        return NULL;
    if (history->from.at_ns == 0)
        read_now(card, &history->from);
    if (history->to.at_ns == 0) {
        uint64_t until_ns = history->from.at_ns + FIRST_PERIOD_NS;
        pthread_mutex_unlock(&sampling);
        clock_sleep_until(until_ns);
        pthread_mutex_lock(&sampling);
        if (history->to.at_ns == 0)
            read_now(card, &history->to);
    } else if (clock_now_ns() - history->to.at_ns >= PERIOD_NS) {
        history->from = history->to;
        read_now(card, &history->to);
    }
    return history;
}

static uint64_t grown(uint64_t from, uint64_t to) { return to > from ? to - from : 0; }

static uint64_t busy_ns_of(const struct history *history, uint32_t slot) {
    /* A slot that another process had before begins anew. */
    bool same = history->from.slots[slot].pid == history->to.slots[slot].pid;
    return grown(same ? history->from.slots[slot].busy_ns : 0, history->to.slots[slot].busy_ns);
}

struct busy_process {
    uint64_t stamp_us;
    unsigned int pid, percent;
};

static unsigned int list_busy(int card, struct busy_process *busy, uint64_t *stamp_us) {
    unsigned int count = 0;
    pthread_mutex_lock(&sampling);
    const struct history *history = renew(card);
    for (uint32_t slot = 0; history != NULL && slot < EGPU_SLOT_COUNT_MAX; slot++) {
        uint64_t busy_ns = busy_ns_of(history, slot);
        if (history->to.slots[slot].pid == 0 || busy_ns == 0)
            continue;
        busy[count++] = (struct busy_process){history->to.stamp_us, history->to.slots[slot].pid,
                                              view_percent(busy_ns, grown(history->from.at_ns, history->to.at_ns))};
    }
    *stamp_us = history == NULL ? 0 : history->to.stamp_us;
    pthread_mutex_unlock(&sampling);
    return count;
}

static unsigned int container_percent(int card, uint64_t *stamp_us) {
    pthread_mutex_lock(&sampling);
    const struct history *history = renew(card);
    unsigned int percent = 0;
    if (history != NULL)
        percent = view_percent(grown(history->from.busy_ns, history->to.busy_ns),
                               grown(history->from.at_ns, history->to.at_ns));
    *stamp_us = history == NULL ? 0 : history->to.stamp_us;
    pthread_mutex_unlock(&sampling);
    return percent;
}

/* The memory's share is not measured by container: scaled as the card's. */
static unsigned int memory_percent(const nvmlUtilization_t *all, unsigned int own) {
    unsigned int percent = all->gpu == 0 ? 0 : all->memory * own / all->gpu;
    return percent > PERCENT ? PERCENT : percent;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    nvmlReturn_t result = real_nvml.nvmlDeviceGetUtilizationRates(device, rates);
    int card = result == NVML_SUCCESS ? view_card_of(device) : -1;
    uint64_t stamp_us;
    if (card >= 0) {
        unsigned int percent = container_percent(card, &stamp_us);
        *rates = (nvmlUtilization_t){percent, memory_percent(rates, percent)};
    }
    return result;
}

/* Of the many samples of a second that the driver keeps, one. */
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t what, unsigned long long since_us,
                                  nvmlValueType_t *kind, unsigned int *count, nvmlSample_t *samples) {
    bool shared = what == NVML_GPU_UTILIZATION_SAMPLES || what == NVML_MEMORY_UTILIZATION_SAMPLES;
    int card = !shared || kind == NULL || count == NULL || (samples != NULL && *count == 0) ? -1 : view_card_of(device);
    if (card < 0)
        return real_nvml.nvmlDeviceGetSamples(device, what, since_us, kind, count, samples);
    unsigned int none = 0;
    nvmlReturn_t result = real_nvml.nvmlDeviceGetSamples(device, what, since_us, kind, &none, NULL);
    if (result != NVML_SUCCESS && result != NVML_ERROR_NOT_FOUND)
        return result;
    nvmlUtilization_t all = {0};
    uint64_t stamp_us;
    unsigned int percent = container_percent(card, &stamp_us);
    if (what == NVML_MEMORY_UTILIZATION_SAMPLES) {
        real_nvml.nvmlDeviceGetUtilizationRates(device, &all);
        percent = memory_percent(&all, percent);
    }
    *kind = NVML_VALUE_TYPE_UNSIGNED_INT;
    *count = stamp_us > since_us;
    if (samples != NULL && *count > 0)
        samples[0] = (nvmlSample_t){stamp_us, {.uiVal = percent}};
    return *count > 0 ? NVML_SUCCESS : NVML_ERROR_NOT_FOUND;
}

typedef void (*put)(void *list, unsigned int index, struct busy_process one);

static void put_sample(void *list, unsigned int index, struct busy_process one) {
    ((nvmlProcessUtilizationSample_t *)list)[index] =
        (nvmlProcessUtilizationSample_t){.pid = one.pid, .timeStamp = one.stamp_us, .smUtil = one.percent};
}

static void put_information(void *list, unsigned int index, struct busy_process one) {
    ((nvmlProcessUtilizationInfo_v1_t *)list)[index] =
        (nvmlProcessUtilizationInfo_v1_t){.timeStamp = one.stamp_us, .pid = one.pid, .smUtil = one.percent};
}

static nvmlReturn_t answer_busy(int card, unsigned long long since_us, unsigned int *count, void *list, put put_one) {
    unsigned int room = list == NULL ? 0 : *count;
    struct busy_process *busy = calloc(EGPU_SLOT_COUNT_MAX, sizeof *busy);
    uint64_t stamp_us = 0;
    if (busy == NULL)
        return NVML_ERROR_UNKNOWN;
    unsigned int found = list_busy(card, busy, &stamp_us);
    if (stamp_us <= since_us)
        found = 0;
    for (unsigned int index = 0; index < found && index < room; index++)
        put_one(list, index, busy[index]);
    free(busy);
    *count = found;
    if (found == 0)
        return NVML_ERROR_NOT_FOUND;
    return found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

static bool is_an_error(nvmlReturn_t result) {
    return result != NVML_SUCCESS && result != NVML_ERROR_INSUFFICIENT_SIZE && result != NVML_ERROR_NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *list, unsigned int *count,
                                             unsigned long long since_us) {
    int card = count == NULL ? -1 : view_card_of(device);
    if (card < 0)
        return real_nvml.nvmlDeviceGetProcessUtilization(device, list, count, since_us);
    unsigned int none = 0;
    nvmlReturn_t result = real_nvml.nvmlDeviceGetProcessUtilization(device, NULL, &none, since_us);
    return is_an_error(result) ? result : answer_busy(card, since_us, count, list, put_sample);
}

nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device, nvmlProcessesUtilizationInfo_t *list) {
    int card = list == NULL ? -1 : view_card_of(device);
    if (card < 0)
        return real_nvml.nvmlDeviceGetProcessesUtilizationInfo(device, list);
    nvmlProcessesUtilizationInfo_t none = {.version = list->version, .lastSeenTimeStamp = list->lastSeenTimeStamp};
    nvmlReturn_t result = real_nvml.nvmlDeviceGetProcessesUtilizationInfo(device, &none);
    if (is_an_error(result))
        return result;
    return answer_busy(card, list->lastSeenTimeStamp, &list->processSamplesCount, list->procUtilArray, put_information);
}

/* Counters of the whole card, which nobody can divide: a card without them is one that programs know. */
nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support) {
    nvmlReturn_t result = real_nvml.nvmlGpmQueryDeviceSupport(device, support);
    if (result == NVML_SUCCESS && view_card_of(device) >= 0)
        support->isSupportedDevice = 0;
    return result;
}

nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample) {
    return view_card_of(device) >= 0 ? NVML_ERROR_NOT_SUPPORTED : real_nvml.nvmlGpmSampleGet(device, sample);
}

nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned int instance, nvmlGpmSample_t sample) {
    return view_card_of(device) >= 0 ? NVML_ERROR_NOT_SUPPORTED : real_nvml.nvmlGpmMigSampleGet(device, instance, sample);
}

void view_utilisation_after_fork(void) { pthread_mutex_init(&sampling, NULL); }
