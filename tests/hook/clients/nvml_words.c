/* Uses the card and asks libnvidia-ml about it; an argument is a word, a line the answer: codes are nvmlReturn_t.
 *
 *   spin:US sleep:US alloc:BYTES
 *   rates                     busy percent of the last second
 *   processes:VERSION:ROOM    who holds memory, in the struct of version 1, 2 or 3, into an array of ROOM
 *   details:VERSION           the same as a list with a version in front
 *   busy:ROOM busies:VERSION  who was busy
 *   memory:VERSION            nvmlDeviceGetMemoryInfo_v2 with a struct that says VERSION
 *   name:LENGTH watts self    nvmlDeviceGetName into LENGTH bytes; power; the name of this process */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static nvmlDevice_t device;
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

static void details(unsigned int version)
{
    nvmlProcessDetail_v1_t rows[ROOM_MAX];
    nvmlProcessDetailList_t list = {NVML_STRUCT_VERSION(nvmlProcessDetailList_t, version), 0, ROOM_MAX, rows};
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

static void use(const char *word, unsigned long number)
{
    CUdeviceptr address;
    unsigned int microseconds = (unsigned int)number;
    void *parameters[] = {&microseconds};
    if (strcmp(word, "spin") == 0) {
        printf("%d", cuLaunchKernel(spin_function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL));
        cuCtxSynchronize();
    } else if (strcmp(word, "alloc") == 0) {
        printf("%d", cuMemAlloc_v2(&address, number));
    } else if (strcmp(word, "sleep") == 0) {
        egpuSimSleep(number * 1000);
    }
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
        details(number);
    else if (strcmp(word, "busy") == 0)
        busy(number);
    else if (strcmp(word, "busies") == 0)
        busies(number);
    else if (strcmp(word, "memory") == 0)
        memory(number);
    else if (strcmp(word, "name") == 0)
        printf("%d", nvmlDeviceGetName(device, text, number));
    if (strcmp(word, "watts") == 0) {
        result = nvmlDeviceGetPowerUsage(device, &reading);
        printf("%d %u", result, reading / 1000);
    }
    if (strcmp(word, "self") == 0) {
        result = nvmlSystemGetProcessName((unsigned int)getpid(), text, sizeof text);
        printf("%d %s", result, text);
    }
}

int main(int count, char **words)
{
    CUcontext context;
    CUmodule module;
    if (cuInit(0) != CUDA_SUCCESS || cuCtxCreate_v2(&context, 0, 0) != CUDA_SUCCESS || nvmlInit_v2() != NVML_SUCCESS ||
        nvmlDeviceGetHandleByIndex_v2(0, &device) != NVML_SUCCESS || cuModuleLoadData(&module, "any") != CUDA_SUCCESS ||
        cuModuleGetFunction(&spin_function, module, "egpu_spin_us") != CUDA_SUCCESS)
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
