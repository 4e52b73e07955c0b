/* Initialisation, the system, and which card is which. */
#include "nvml.h"

#include <stdio.h>
#include <string.h>

struct nvmlDevice_st {
    uint32_t card;
};

static struct nvmlDevice_st devices[SIM_CARDS_MAX];
static unsigned initialised; /* nvmlInit counts: so many shutdowns are needed */

nvmlReturn_t nvml_ready(void)
{
    return __atomic_load_n(&initialised, __ATOMIC_RELAXED) > 0 ? NVML_SUCCESS : NVML_ERROR_UNINITIALIZED;
}

nvmlReturn_t nvml_enter(nvmlDevice_t device, uint32_t *card)
{
    if (nvml_ready() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (device < devices || device >= devices + sim_state()->cards)
        return NVML_ERROR_INVALID_ARGUMENT;
    *card = (uint32_t)(device - devices);
    sim_lock();
    sim_reap();
    sim_advance(sim_now());
    sim_unlock();
    return NVML_SUCCESS;
}

nvmlReturn_t nvml_text(char *target, unsigned int length, const char *text)
{
    if (target == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(target, text);
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlInitWithFlags(unsigned int flags)
{
    (void)flags;
    if (__atomic_fetch_add(&initialised, 1, __ATOMIC_RELAXED) == 0)
        nvml_utilization_begin();
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
NVML_EXPORT nvmlReturn_t nvmlInit(void) { return nvmlInitWithFlags(0); }

NVML_EXPORT nvmlReturn_t nvmlShutdown(void)
{
    if (nvml_ready() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    __atomic_fetch_sub(&initialised, 1, __ATOMIC_RELAXED);
    return NVML_SUCCESS;
}

NVML_EXPORT const char *nvmlErrorString(nvmlReturn_t result)
{
    switch (result) {
    case NVML_SUCCESS: return "Success";
    case NVML_ERROR_UNINITIALIZED: return "Uninitialized";
    case NVML_ERROR_INVALID_ARGUMENT: return "Invalid Argument";
    case NVML_ERROR_NOT_SUPPORTED: return "Not Supported";
    case NVML_ERROR_NOT_FOUND: return "Not Found";
    case NVML_ERROR_INSUFFICIENT_SIZE: return "Insufficient Size";
    default: return "Unknown Error";
    }
}

NVML_EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    if (nvml_ready() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (version == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    *version = (int)sim_state()->cuda;
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version)
{
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

/* The first public branch of either CUDA release. */
static const char *driver_branch(void) { return sim_state()->cuda >= 13000 ? "580.65.06" : "570.86.10"; }

NVML_EXPORT nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned int length)
{
    return nvml_ready() == NVML_SUCCESS ? nvml_text(version, length, driver_branch()) : NVML_ERROR_UNINITIALIZED;
}

NVML_EXPORT nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned int length)
{
    char text[32];
    snprintf(text, sizeof text, "%d.%s", (int)sim_state()->cuda / 1000, driver_branch());
    return nvml_ready() == NVML_SUCCESS ? nvml_text(version, length, text) : NVML_ERROR_UNINITIALIZED;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetCount_v2(unsigned int *count)
{
    if (nvml_ready() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (count == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    *count = sim_state()->cards;
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetCount(unsigned int *count) { return nvmlDeviceGetCount_v2(count); }

NVML_EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned int index, nvmlDevice_t *device)
{
    if (nvml_ready() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (device == NULL || index >= sim_state()->cards)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = &devices[index];
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned int index, nvmlDevice_t *device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static void uuid_text(uint32_t card, char text[96])
{
    const unsigned char *b = (const unsigned char *)sim_state()->card[card].uuid;
    snprintf(text, 96, "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1], b[2],
             b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

static nvmlReturn_t find(const char *text, nvmlDevice_t *device, void (*write)(uint32_t card, char text[96]))
{
    if (nvml_ready() != NVML_SUCCESS)
        return NVML_ERROR_UNINITIALIZED;
    if (text == NULL || device == NULL)
        return NVML_ERROR_INVALID_ARGUMENT;
    for (uint32_t card = 0; card < sim_state()->cards; card++) {
        char own[96];
        write(card, own);
        if (strcmp(own, text) == 0)
            return nvmlDeviceGetHandleByIndex_v2(card, device);
    }
    return NVML_ERROR_NOT_FOUND;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device)
{
    return find(uuid, device, uuid_text);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned int length)
{
    uint32_t card;
    char text[96];
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS)
        return result;
    uuid_text(card, text);
    return nvml_text(uuid, length, text);
}

/* As cuDeviceGetPCIBusId says. */
#define CARD_BUS_FIRST 0x10
#define BUS_FORMAT "00000000:%02X:00.0"
static void bus_text(uint32_t card, char text[96]) { snprintf(text, 96, BUS_FORMAT, CARD_BUS_FIRST + card); }

NVML_EXPORT nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device)
{
    return find(bus, device, bus_text);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *info)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || info == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    *info = (nvmlPciInfo_t){.bus = CARD_BUS_FIRST + card, .pciDeviceId = 0x233010deU, .pciSubSystemId = 0x16c110deU};
    snprintf(info->busId, sizeof info->busId, BUS_FORMAT, CARD_BUS_FIRST + card);
    snprintf(info->busIdLegacy, sizeof info->busIdLegacy, "0000:%02X:00.0", CARD_BUS_FIRST + card);
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned int length)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    return result == NVML_SUCCESS ? nvml_text(name, length, "Simulated GPU") : result;
}

static nvmlReturn_t number(nvmlDevice_t device, unsigned int *target)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || target == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    *target = card;
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned int *index) { return number(device, index); }
NVML_EXPORT nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned int *minor)
{
    return number(device, minor);
}
