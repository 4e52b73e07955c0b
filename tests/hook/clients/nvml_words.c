/* Uses the card and asks libnvidia-ml about it; an argument is a word, a line the answer: codes are nvmlReturn_t.
 *
 *   card:N                    what follows is done on it
 *   spin:US sleep:US alloc:BYTES
 *   work:MS                   kernels of 1 ms, each awaited, for so long
 *   info                      MiB by cuMemGetInfo (free, total), cuDeviceTotalMem and the window of BAR 1 (total, used, free)
 *   uuid                      whether both libraries name the card alike
 *   rates                     busy percent of the last second
 *   processes:VERSION:ROOM    who holds memory, in the struct of version 1, 2 or 3, into an array of ROOM
 *   details:VERSION:MODE      the same as a list with a version in front
 *   busy:ROOM busies:VERSION  who was busy
 *   samples:TYPE              the last of the samples that are kept
 *   accounts account:PID      who is in the books, and how busy; 0 is this process
 *   gpm                       whether there are counters, and what reading them says
 *   memory:VERSION            nvmlDeviceGetMemoryInfo_v2 with a struct that says VERSION
 *   name:LENGTH watts self    nvmlDeviceGetName into LENGTH bytes; power; the name of this process
 *   who:PID                   nvmlSystemGetProcessName
 *   wait                      until a line comes on stdin; prints a line with a point first */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "driver_calls.h"
#include "driver_nvml.h"

enum { ROOM_MAX = 8, MIB_BITS = 20 };

nvmlReturn_t nvmlInit_v2(void);
nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device);
nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length);
nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts);
nvmlReturn_t nvmlSystemGetProcessName(unsigned int pid, char *name, unsigned int length);
nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory);
nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(nvmlDevice_t, unsigned int *, nvmlProcessInfo_v1_t *);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v2(nvmlDevice_t, unsigned int *, nvmlProcessInfo_v2_t *);
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(nvmlDevice_t, unsigned int *, nvmlProcessInfo_t *);
nvmlReturn_t nvmlDeviceGetRunningProcessDetailList(nvmlDevice_t, nvmlProcessDetailList_t *);
nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t, nvmlProcessUtilizationSample_t *, unsigned int *,
                                             unsigned long long);
nvmlReturn_t nvmlDeviceGetProcessesUtilizationInfo(nvmlDevice_t, nvmlProcessesUtilizationInfo_t *);
nvmlReturn_t nvmlDeviceGetSamples(nvmlDevice_t, nvmlSamplingType_t, unsigned long long, nvmlValueType_t *, unsigned int *,
                                  nvmlSample_t *);
nvmlReturn_t nvmlDeviceGetAccountingPids(nvmlDevice_t, unsigned int *, unsigned int *);
nvmlReturn_t nvmlDeviceGetAccountingStats(nvmlDevice_t, unsigned int, nvmlAccountingStats_t *);
nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t, nvmlBAR1Memory_t *);
nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t, char *, unsigned int);
nvmlReturn_t nvmlGpmQueryDeviceSupport(nvmlDevice_t, nvmlGpmSupport_t *);
nvmlReturn_t nvmlGpmSampleGet(nvmlDevice_t, nvmlGpmSample_t);
nvmlReturn_t nvmlGpmMigSampleGet(nvmlDevice_t, unsigned int, nvmlGpmSample_t);

static nvmlDevice_t device;
static CUdevice card;
static CUfunction spin_function;

/* "self:512": a process as the test can foretell it. */
static void tell_process(unsigned int pid, unsigned long long number)
{
    printf(" %s:%llu", pid == (unsigned int)getpid() ? "self" : "other", number);
}

static void processes(unsigned int version, unsigned int room)
{
    nvmlProcessInfo_v1_t first[ROOM_MAX];
    nvmlProcessInfo_v2_t second[ROOM_MAX];
    unsigned int count = room;
    nvmlReturn_t result;
    if (version == 1)
        result = nvmlDeviceGetComputeRunningProcesses(device, &count, room == 0 ? NULL : first);
    else if (version == 2)
        result = nvmlDeviceGetComputeRunningProcesses_v2(device, &count, room == 0 ? NULL : second);
    else
        result = nvmlDeviceGetComputeRunningProcesses_v3(device, &count, room == 0 ? NULL : second);
    printf("%d %u", result, count);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < count; i++) {
        if (version == 1)
            tell_process(first[i].pid, first[i].usedGpuMemory >> MIB_BITS);
        else
            tell_process(second[i].pid, second[i].usedGpuMemory >> MIB_BITS);
    }
}

static void details(unsigned int version, unsigned int mode)
{
    nvmlProcessDetail_v1_t rows[ROOM_MAX];
    nvmlProcessDetailList_t list = {NVML_STRUCT_VERSION(nvmlProcessDetailList_t, version), mode, ROOM_MAX, rows};
    nvmlReturn_t result = nvmlDeviceGetRunningProcessDetailList(device, &list);
    printf("%d", result);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < list.numProcArrayEntries; i++)
        tell_process(rows[i].pid, rows[i].usedGpuMemory >> MIB_BITS);
}

static void busy(unsigned int room)
{
    nvmlProcessUtilizationSample_t rows[ROOM_MAX];
    unsigned int count = room;
    nvmlReturn_t result = nvmlDeviceGetProcessUtilization(device, room == 0 ? NULL : rows, &count, 0);
    printf("%d %u", result, count);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < count; i++)
        tell_process(rows[i].pid, rows[i].smUtil);
}

static void busies(unsigned int version)
{
    nvmlProcessUtilizationInfo_v1_t rows[ROOM_MAX];
    nvmlProcessesUtilizationInfo_t list = {NVML_STRUCT_VERSION(nvmlProcessesUtilizationInfo_t, version), ROOM_MAX, 0, rows};
    nvmlReturn_t result = nvmlDeviceGetProcessesUtilizationInfo(device, &list);
    printf("%d", result);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < list.processSamplesCount; i++)
        tell_process(rows[i].pid, rows[i].smUtil);
}

static void memory(unsigned int version)
{
    nvmlMemory_v2_t info = {.version = NVML_STRUCT_VERSION(nvmlMemory_v2_t, version)};
    nvmlReturn_t result = nvmlDeviceGetMemoryInfo_v2(device, &info);
    printf("%d", result);
    if (result == NVML_SUCCESS)
        printf(" %llu %llu %llu", info.total >> MIB_BITS, info.used >> MIB_BITS, info.free >> MIB_BITS);
}

static void samples(unsigned int type)
{
    nvmlSample_t rows[ROOM_MAX];
    unsigned int count = 0;
    nvmlValueType_t kind = 0;
    nvmlReturn_t result = nvmlDeviceGetSamples(device, (nvmlSamplingType_t)type, 0, &kind, &count, NULL);
    printf("%d", result);
    if (count > ROOM_MAX)
        count = ROOM_MAX;
    if (result == NVML_SUCCESS)
        result = nvmlDeviceGetSamples(device, (nvmlSamplingType_t)type, 0, &kind, &count, rows);
    if (result == NVML_SUCCESS)
        printf(" %u %u", (unsigned int)kind, rows[count - 1].sampleValue.uiVal);
}

static void accounts(void)
{
    unsigned int pids[ROOM_MAX], count = ROOM_MAX;
    nvmlReturn_t result = nvmlDeviceGetAccountingPids(device, &count, pids);
    printf("%d", result);
    for (unsigned int i = 0; result == NVML_SUCCESS && i < count; i++)
        tell_process(pids[i], 1);
}

static void account(unsigned int pid)
{
    nvmlAccountingStats_t stats;
    nvmlReturn_t result = nvmlDeviceGetAccountingStats(device, pid == 0 ? (unsigned int)getpid() : pid, &stats);
    printf("%d", result);
    if (result == NVML_SUCCESS)
        printf(" %u", stats.isRunning);
}

static void information(void)
{
    size_t unused = 0, total = 0, whole = 0;
    nvmlBAR1Memory_t window = {0};
    cuMemGetInfo_v2(&unused, &total);
    cuDeviceTotalMem_v2(&whole, card);
    nvmlDeviceGetBAR1MemoryInfo(device, &window);
    printf("%zu %zu %zu %llu %llu %llu", unused >> MIB_BITS, total >> MIB_BITS, whole >> MIB_BITS,
           window.bar1Total >> MIB_BITS, window.bar1Used >> MIB_BITS, window.bar1Free >> MIB_BITS);
}

static void gpm(void)
{
    nvmlGpmSupport_t support = {.version = 1};
    nvmlReturn_t result = nvmlGpmQueryDeviceSupport(device, &support);
    printf("%d %u %d %d", result, support.isSupportedDevice, nvmlGpmSampleGet(device, NULL),
           nvmlGpmMigSampleGet(device, 0, NULL));
}

static void uuid(void)
{
    CUuuid raw;
    char text[96] = "", own[96] = "";
    size_t length = 0;
    nvmlDeviceGetUUID(device, text, sizeof text);
    cuDeviceGetUuid_v2(&raw, card);
    for (const char *letter = text + strlen("GPU-"); *letter != 0; letter++)
        if (*letter != '-')
            own[length++] = *letter;
    for (unsigned int i = 0; i < sizeof raw.bytes; i++) {
        snprintf(text + 2 * i, 3, "%02x", (unsigned char)raw.bytes[i]);
    }
    printf("%d", strcmp(own, text) == 0);
}

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t simulated = egpuSimNow();
    return simulated != 0 ? simulated / 1000000 : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static CUresult spin(unsigned int microseconds)
{
    void *parameters[] = {&microseconds};
    CUresult result = cuLaunchKernel(spin_function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL);
    cuCtxSynchronize();
    return result;
}

static CUresult work(uint64_t milliseconds)
{
    uint64_t until_ms = now_ms() + milliseconds;
    CUresult result = CUDA_SUCCESS;
    while (result == CUDA_SUCCESS && now_ms() < until_ms)
        result = spin(1000);
    return result;
}

/* A card of its own context; the functions belong to it. */
static int take(unsigned int index)
{
    CUcontext context;
    CUmodule module;
    return cuDeviceGet(&card, (int)index) == CUDA_SUCCESS && cuCtxCreate_v2(&context, 0, card) == CUDA_SUCCESS &&
           nvmlDeviceGetHandleByIndex_v2(index, &device) == NVML_SUCCESS &&
           cuModuleLoadData(&module, "any") == CUDA_SUCCESS &&
           cuModuleGetFunction(&spin_function, module, "egpu_spin_us") == CUDA_SUCCESS;
}

static void next_line(void)
{
    int byte;
    egpuSimDetach();
    printf("\n.\n");
    fflush(stdout);
    while ((byte = getchar()) != '\n' && byte != EOF) {
    }
}

static void use(const char *word, unsigned long number)
{
    CUdeviceptr address;
    if (strcmp(word, "spin") == 0)
        printf("%d", spin((unsigned int)number));
    else if (strcmp(word, "work") == 0)
        printf("%d", work(number));
    else if (strcmp(word, "alloc") == 0)
        printf("%d", cuMemAlloc_v2(&address, number));
    else if (strcmp(word, "sleep") == 0)
        egpuSimSleep(number * 1000);
    else if (strcmp(word, "card") == 0)
        printf("%d", !take((unsigned int)number));
    else if (strcmp(word, "wait") == 0)
        next_line();
    else if (strcmp(word, "info") == 0)
        information();
    else if (strcmp(word, "uuid") == 0)
        uuid();
}

static void ask(const char *word, unsigned int number, unsigned int second)
{
    char text[64] = "";
    unsigned int reading = 0;
    nvmlUtilization_t rates = {0};
    nvmlReturn_t result;
    if (strcmp(word, "rates") == 0) {
        result = nvmlDeviceGetUtilizationRates(device, &rates);
        printf("%d %u", result, rates.gpu);
    }
    if (strcmp(word, "processes") == 0)
        processes(number, second);
    else if (strcmp(word, "details") == 0)
        details(number, second);
    else if (strcmp(word, "busy") == 0)
        busy(number);
    else if (strcmp(word, "busies") == 0)
        busies(number);
    else if (strcmp(word, "memory") == 0)
        memory(number);
    else if (strcmp(word, "name") == 0)
        printf("%d", nvmlDeviceGetName(device, text, number));
    else if (strcmp(word, "samples") == 0)
        samples(number);
    else if (strcmp(word, "accounts") == 0)
        accounts();
    else if (strcmp(word, "account") == 0)
        account(number);
    else if (strcmp(word, "gpm") == 0)
        gpm();
    else if (strcmp(word, "watts") == 0) {
        result = nvmlDeviceGetPowerUsage(device, &reading);
        printf("%d %u", result, reading / 1000);
    } else if (strcmp(word, "self") == 0) {
        result = nvmlSystemGetProcessName((unsigned int)getpid(), text, sizeof text);
        printf("%d %s", result, text);
    } else if (strcmp(word, "who") == 0)
        printf("%d", nvmlSystemGetProcessName(number, text, sizeof text));
}

int main(int count, char **words)
{
    if (cuInit(0) != CUDA_SUCCESS || nvmlInit_v2() != NVML_SUCCESS || !take(0))
        return 2;
    for (int i = 1; i < count; i++) {
        char word[16] = "";
        unsigned long number = 0, second = 0;
        if (sscanf(words[i], "%15[a-z]:%lu:%lu", word, &number, &second) < 1)
            return 3;
        printf("%s ", word);
        use(word, number);
        ask(word, (unsigned int)number, (unsigned int)second);
        printf("\n");
        fflush(stdout);
    }
    return 0;
}
