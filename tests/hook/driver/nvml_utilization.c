/* How busy a card was: the compute engine's busy time over a sliding second, as seen by the process that asks.
 *
 * The real library keeps a second of samples taken by the driver, a sixth of a second apart. Here each call takes one, and
 * the first is taken when the library is initialised. */
#include "nvml.h"

#include <string.h>

#define WINDOW_NS UINT64_C(1000000000)
#define SAMPLE_NS UINT64_C(166666667)
enum { SAMPLES = 8, PERCENT = 100 };

struct sample {
    uint64_t at_ns, busy_ns, copy_ns;
};

struct history {
    struct sample samples[SAMPLES]; /* a ring */
    unsigned next;
};

static struct history cards[SIM_CARDS_MAX];
static struct history processes[SIM_CARDS_MAX][SIM_PROCESSES_MAX];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void fill(struct history *history, struct sample begin)
{
    for (unsigned i = 0; i < SAMPLES; i++)
        history->samples[i] = begin;
}

static struct sample card_sample(uint32_t card)
{
    const struct sim_engine *engines = &sim_state()->engines[card * SIM_ENGINES_PER_CARD];
    return (struct sample){sim_now(), engines[SIM_ENGINE_COMPUTE].busy_ns, engines[SIM_ENGINE_COPY].busy_ns};
}

static struct sample process_sample(uint32_t card, const struct sim_process *process)
{
    return (struct sample){sim_now(), process->shares[card].busy_ns, process->shares[card].copy_ns};
}

void nvml_utilization_begin(void)
{
    struct sim_state *state = sim_state();
    sim_lock();
    sim_advance(sim_now());
    for (uint32_t card = 0; card < state->cards; card++) {
        fill(&cards[card], card_sample(card));
        for (uint32_t i = 0; i < state->processes_high; i++)
            fill(&processes[card][i], process_sample(card, &state->processes[i]));
    }
    sim_unlock();
}

/* Takes a sample; returns the one the window begins with. */
static struct sample window(struct history *history, struct sample now)
{
    struct sample *latest = &history->samples[(history->next + SAMPLES - 1) % SAMPLES];
    struct sample begin = history->samples[history->next];
    for (unsigned i = 0; i < SAMPLES; i++) {
        const struct sample *each = &history->samples[(history->next + i) % SAMPLES];
        if (now.at_ns - each->at_ns >= WINDOW_NS && each->at_ns >= begin.at_ns)
            begin = *each;
    }
    if (now.at_ns - latest->at_ns >= SAMPLE_NS) {
        history->samples[history->next] = now;
        history->next = (history->next + 1) % SAMPLES;
    }
    return begin;
}

static unsigned int percent(uint64_t part, uint64_t whole)
{
    uint64_t value = whole == 0 ? 0 : (part * PERCENT + whole / 2) / whole;
    return value > PERCENT ? PERCENT : (unsigned int)value;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || rates == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    struct sample now = card_sample(card);
    pthread_mutex_lock(&lock);
    struct sample begin = window(&cards[card], now);
    pthread_mutex_unlock(&lock);
    rates->gpu = percent(now.busy_ns - begin.busy_ns, now.at_ns - begin.at_ns);
    rates->memory = percent(now.copy_ns - begin.copy_ns, now.at_ns - begin.at_ns);
    return NVML_SUCCESS;
}

typedef void put_function(void *, unsigned int, unsigned int, struct sample, struct sample);

static unsigned int each_busy(uint32_t card, put_function *put, void *target, unsigned int room)
{
    struct sim_state *state = sim_state();
    unsigned int count = 0;
    sim_lock();
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < state->processes_high; i++) {
        const struct sim_process *process = &state->processes[i];
        struct sample now = process_sample(card, process);
        if (processes[card][i].samples[0].at_ns < process->attached_ns)
            fill(&processes[card][i], (struct sample){process->attached_ns, 0, 0}); /* It came later. */
        struct sample begin = window(&processes[card][i], now);
        if (!process->alive || now.busy_ns + now.copy_ns == begin.busy_ns + begin.copy_ns)
            continue;
        if (count < room)
            put(target, count, (unsigned int)process->pid, begin, now);
        count++;
    }
    pthread_mutex_unlock(&lock);
    sim_unlock();
    return count;
}

static void put_sample(void *target, unsigned int i, unsigned int pid, struct sample begin, struct sample now)
{
    ((nvmlProcessUtilizationSample_t *)target)[i] = (nvmlProcessUtilizationSample_t){
        .pid = pid,
        .timeStamp = now.at_ns / 1000,
        .smUtil = percent(now.busy_ns - begin.busy_ns, now.at_ns - begin.at_ns),
        .memUtil = percent(now.copy_ns - begin.copy_ns, now.at_ns - begin.at_ns),
    };
}

static void put_information(void *target, unsigned int i, unsigned int pid, struct sample begin, struct sample now)
{
    ((nvmlProcessUtilizationInfo_v1_t *)target)[i] = (nvmlProcessUtilizationInfo_v1_t){
        .timeStamp = now.at_ns / 1000,
        .pid = pid,
        .smUtil = percent(now.busy_ns - begin.busy_ns, now.at_ns - begin.at_ns),
        .memUtil = percent(now.copy_ns - begin.copy_ns, now.at_ns - begin.at_ns),
    };
}

static nvmlReturn_t utilization(nvmlDevice_t device, unsigned int *count, void *target, put_function *put)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || count == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    unsigned int room = target == NULL ? 0 : *count;
    *count = each_busy(card, put, target, room);
    if (*count == 0)
        return NVML_ERROR_NOT_FOUND; /* nobody was busy */
    return *count > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device, nvmlProcessUtilizationSample_t *samples,
                                                         unsigned int *count, unsigned long long since)
{
    (void)since; /* one sample a process: always newer than the last one seen */
    return utilization(device, count, samples, put_sample);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t device,
                                                               nvmlProcessesUtilizationInfo_t *information)
{
    if (information == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (information->version != NVML_STRUCT_VERSION(nvmlProcessesUtilizationInfo_t, 1))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return utilization(device, &information->processSamplesCount, information->procUtilArray, put_information);
}

/* One sample, of now; of power and clocks none are kept. */
NVML_EXPORT nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t device, nvmlSamplingType_t what, unsigned long long since,
                                              nvmlValueType_t *kind, unsigned int *count, nvmlSample_t *samples)
{
    nvmlUtilization_t rates;
    nvmlReturn_t result = nvmlDeviceGetUtilizationRates(device, &rates);
    (void)since;
    if (result != NVML_SUCCESS)
        return result;
    if (kind == NULL || count == NULL || (samples != NULL && *count == 0))
        return NVML_ERROR_INVALID_ARGUMENT;
    if (what != NVML_GPU_UTILIZATION_SAMPLES && what != NVML_MEMORY_UTILIZATION_SAMPLES)
        return NVML_ERROR_NOT_SUPPORTED;
    *kind = NVML_VALUE_TYPE_UNSIGNED_INT;
    *count = 1;
    if (samples != NULL)
        samples[0] = (nvmlSample_t){sim_now() / 1000,
                                    {.uiVal = what == NVML_GPU_UTILIZATION_SAMPLES ? rates.gpu : rates.memory}};
    return NVML_SUCCESS;
}

/* There are counters to be read, but nothing that they say. */
NVML_EXPORT nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t device, nvmlGpmSupport_t *support)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || support == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    support->isSupportedDevice = 1;
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t device, nvmlGpmSample_t sample)
{
    uint32_t card;
    (void)sample;
    return nvml_enter(device, &card);
}

NVML_EXPORT nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t device, unsigned int instance, nvmlGpmSample_t sample)
{
    (void)instance;
    return nvmlGpmSampleGet(device, sample);
}
