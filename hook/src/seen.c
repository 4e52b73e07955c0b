#include "seen.h"

#include "real.h"
#include "region.h"
#include "route.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PROCESS_COUNT_MAX = 4096 };

static nvmlDevice_t devices[EGPU_CARD_COUNT_MAX];
static enum { UNTRIED, USABLE, UNUSABLE } library;
static enum { UNKNOWN, RECOGNISED, SOMEBODY_ELSE } self;
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;

static bool start(void) {
    pthread_mutex_lock(&starting);
    if (library == UNTRIED)
        library = route_load(ROUTE_NVML, true) && real_nvml.nvmlInit_v2() == NVML_SUCCESS ? USABLE : UNUSABLE;
    bool usable = library == USABLE;
    pthread_mutex_unlock(&starting);
    return usable;
}

static nvmlDevice_t device_of(int card) {
    nvmlDevice_t device = __atomic_load_n(&devices[card], __ATOMIC_ACQUIRE);
    const struct egpu_card_limits *limits = region_limits(card);
    if (device == NULL && limits != NULL && real_nvml.nvmlDeviceGetHandleByUUID(limits->uuid, &device) == NVML_SUCCESS)
        __atomic_store_n(&devices[card], device, __ATOMIC_RELEASE);
    return device;
}

/* false: there is no list. */
static bool list_all(int card, struct seen *seen, unsigned int max, unsigned int *kept) {
    *kept = 0;
    if (card < 0 || card >= (int)EGPU_CARD_COUNT_MAX || !start())
        return false;
    nvmlDevice_t device = device_of(card);
    unsigned int count = PROCESS_COUNT_MAX;
    nvmlProcessInfo_t *list = device == NULL ? NULL : calloc(count, sizeof *list);
    bool listed = list != NULL && real_nvml.nvmlDeviceGetComputeRunningProcesses_v3(device, &count, list) == NVML_SUCCESS;
    for (unsigned int index = 0; listed && index < count && *kept < max; index++)
        if (list[index].usedGpuMemory != NVML_VALUE_NOT_AVAILABLE_ULL)
            seen[(*kept)++] = (struct seen){list[index].pid, list[index].usedGpuMemory};
    free(list);
    return listed;
}

enum finding { FOUND, NOT_THERE, NO_LIST };

static enum finding find_self(int card, uint64_t *bytes) {
    struct seen *list = calloc(PROCESS_COUNT_MAX, sizeof *list);
    unsigned int count = 0;
    enum finding finding = list != NULL && list_all(card, list, PROCESS_COUNT_MAX, &count) ? NOT_THERE : NO_LIST;
    *bytes = 0;
    for (unsigned int index = 0; index < count && finding == NOT_THERE; index++)
        if (list[index].pid == (uint64_t)getpid()) {
            finding = FOUND;
            *bytes = list[index].bytes;
        }
    free(list);
    return finding;
}

bool seen_is_absent(int card) {
    uint64_t bytes;
    if (card < 0 || __atomic_load_n(&self, __ATOMIC_RELAXED) != UNKNOWN)
        return false;
    bool absent = find_self(card, &bytes) != FOUND;
    if (!absent)
        __atomic_store_n(&self, SOMEBODY_ELSE, __ATOMIC_RELAXED);
    return absent;
}

bool seen_recognise(int card, bool was_absent, uint64_t *bytes) {
    if (!was_absent || find_self(card, bytes) != FOUND)
        return false;
    __atomic_store_n(&self, RECOGNISED, __ATOMIC_RELAXED);
    return true;
}

bool seen_is_recognised(void) { return __atomic_load_n(&self, __ATOMIC_RELAXED) == RECOGNISED; }

/* Who is known and not in a card's list has nothing there: no context yet, or none any more. */
bool seen_own(int card, uint64_t *bytes) { return seen_is_recognised() && find_self(card, bytes) != NO_LIST; }

unsigned int seen_all(int card, struct seen *list, unsigned int max) {
    unsigned int count = 0;
    return seen_is_recognised() && list_all(card, list, max, &count) ? count : 0;
}

void seen_after_fork(void) {
    pthread_mutex_init(&starting, NULL);
    library = UNTRIED;
    self = UNKNOWN;
    memset(devices, 0, sizeof devices);
}
