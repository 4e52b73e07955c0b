/* What a card says about itself, and what the driver says about its errors. */
#include <stdio.h>
#include <string.h>

#include "internal.h"
#include "simulated.h"

#define NAME_FORM "Simulated GPU"
#define CARD_BUS_FIRST 0x10

/* Attributes that clients decide by; all others are 0. Numbers are of the interface, values of a made-up card. */
static const struct {
    unsigned attribute;
    int value;
} attributes[] = {
    {1, 1024},     {2, 1024},       {3, 1024},   {4, 64},     {5, 2147483647}, {6, 65535},  {7, 65535},
    {8, 49152},    {9, 65536},      {10, 32},    {11, 2147483647}, {12, 65536}, {13, 1400000}, {14, 512},
    {15, 1},       {16, 100},       {18, 0},     {19, 1},     {20, 0},         {31, 1},     {35, 0},
    {36, 1600000}, {37, 5120},      {38, 41943040}, {39, 2048}, {40, 3},       {41, 1},     {75, 9},
    {76, 0},       {78, 1},         {79, 1},     {81, 233472}, {82, 65536},    {83, 1},     {84, 0},
    {85, 0},       {88, 1},         {89, 1},     {90, 1},     {91, 1},         {95, 1},     {97, 232448},
    {99, 1},       {100, 1},        {102, 1},    {103, 1},    {106, 32},       {107, 1},    {115, 1},
    {119, 1},      {120, 1},        {121, 1},
};

CUresult sim_cuDriverGetVersion(int *version)
{
    if (version == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *version = (int)sim_state()->cuda;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetCount(int *count)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), count);

    if (result == CUDA_SUCCESS)
        *count = (int)sim_state()->cards;
    return result;
}

CUresult sim_cuDeviceGet(CUdevice *device, int ordinal)
{
    CUresult result = sim_answer(sim_enter_card(ordinal), device);

    if (result == CUDA_SUCCESS)
        *device = ordinal;
    return result;
}

CUresult sim_cuDeviceGetName(char *name, int bytes, CUdevice device)
{
    CUresult result = sim_enter_card(device);

    if (result == CUDA_SUCCESS && (name == NULL || bytes <= 0))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        snprintf(name, (size_t)bytes, NAME_FORM);
    return result;
}

CUresult sim_cuDeviceGetUuid_v2(CUuuid *uuid, CUdevice device)
{
    CUresult result = sim_answer(sim_enter_card(device), uuid);

    if (result == CUDA_SUCCESS)
        memcpy(uuid->bytes, sim_state()->card[device].uuid, sizeof(uuid->bytes));
    return result;
}

CUresult sim_cuDeviceGetUuid(CUuuid *uuid, CUdevice device)
{
    return sim_cuDeviceGetUuid_v2(uuid, device);
}

CUresult sim_cuDeviceGetAttribute(int *value, CUdevice_attribute attribute, CUdevice device)
{
    CUresult result = sim_enter_card(device);

    if (result != CUDA_SUCCESS)
        return result;
    if (value == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *value = attribute == 33 ? CARD_BUS_FIRST + device : 0; /* 33: PCI bus */
    for (size_t index = 0; index < sizeof(attributes) / sizeof(attributes[0]); index++)
        if (attributes[index].attribute == attribute)
            *value = attributes[index].value;
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceComputeCapability(int *major, int *minor, CUdevice device)
{
    CUresult result = sim_answer(sim_answer(sim_enter_card(device), major), minor);

    if (result == CUDA_SUCCESS) {
        *major = 9;
        *minor = 0;
    }
    return result;
}

CUresult sim_cuDeviceGetPCIBusId(char *text, int bytes, CUdevice device)
{
    CUresult result = sim_enter_card(device);

    if (result == CUDA_SUCCESS && (text == NULL || bytes <= 0))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS)
        snprintf(text, (size_t)bytes, "0000:%02x:00.0", CARD_BUS_FIRST + device);
    return result;
}

CUresult sim_cuDeviceGetByPCIBusId(CUdevice *device, const char *text)
{
    unsigned domain;
    unsigned bus;
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (device == NULL || text == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (sscanf(text, "%x:%x", &domain, &bus) != 2 || bus < CARD_BUS_FIRST
        || bus >= CARD_BUS_FIRST + sim_state()->cards)
        return CUDA_ERROR_INVALID_DEVICE;
    *device = (CUdevice)(bus - CARD_BUS_FIRST);
    return CUDA_SUCCESS;
}

CUresult sim_cuDeviceGetExecAffinitySupport(int *supported, CUexecAffinityType type, CUdevice device)
{
    CUresult result = sim_answer(sim_enter_card(device), supported);

    (void)type;
    if (result == CUDA_SUCCESS)
        *supported = 0;
    return result;
}

CUresult sim_cuDeviceCanAccessPeer(int *can, CUdevice device, CUdevice peer)
{
    CUresult result = sim_answer(sim_enter_card(device), can);

    if (result == CUDA_SUCCESS)
        result = sim_enter_card(peer);
    if (result == CUDA_SUCCESS)
        *can = device != peer;
    return result;
}
