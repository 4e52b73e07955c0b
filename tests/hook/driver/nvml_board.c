/* Readings of the board: plausible numbers that follow the load, so that a reader of telemetry has something to read. */
#include "nvml.h"

enum {
    TEMPERATURE_IDLE = 34,
    TEMPERATURE_BUSY = 71,
    POWER_IDLE_MILLIWATTS = 68000,
    POWER_BUSY_MILLIWATTS = 640000,
    POWER_LIMIT_MILLIWATTS = 700000,
    CLOCK_MHZ = 1980,
    COMPUTE_MAJOR = 9,
    COMPUTE_MINOR = 0,
};

static nvmlReturn_t reading(nvmlDevice_t device, unsigned int *target, unsigned int idle, unsigned int busy)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || target == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    const struct sim_engine *engine = &sim_state()->engines[card * SIM_ENGINES_PER_CARD + SIM_ENGINE_COMPUTE];
    *target = engine->active_count > 0 ? busy : idle;
    return NVML_SUCCESS;
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, unsigned int sensor, unsigned int *celsius)
{
    return sensor == 0 ? reading(device, celsius, TEMPERATURE_IDLE, TEMPERATURE_BUSY) : NVML_ERROR_INVALID_ARGUMENT;
}

/* The form that replaces it in CUDA 13: a version, the sensor, the answer. */
NVML_EXPORT nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, unsigned int *given)
{
    return given == NULL ? NVML_ERROR_INVALID_ARGUMENT : nvmlDeviceGetTemperature(device, given[1], &given[2]);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetPowerUsage(nvmlDevice_t device, unsigned int *milliwatts)
{
    return reading(device, milliwatts, POWER_IDLE_MILLIWATTS, POWER_BUSY_MILLIWATTS);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(nvmlDevice_t device, unsigned int *milliwatts)
{
    return reading(device, milliwatts, POWER_LIMIT_MILLIWATTS, POWER_LIMIT_MILLIWATTS);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetPowerManagementLimit(nvmlDevice_t device, unsigned int *milliwatts)
{
    return reading(device, milliwatts, POWER_LIMIT_MILLIWATTS, POWER_LIMIT_MILLIWATTS);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, unsigned int type, unsigned int *megahertz)
{
    (void)type;
    return reading(device, megahertz, CLOCK_MHZ, CLOCK_MHZ);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, unsigned int type, unsigned int *megahertz)
{
    return nvmlDeviceGetClockInfo(device, type, megahertz);
}

NVML_EXPORT nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor)
{
    uint32_t card;
    nvmlReturn_t result = nvml_enter(device, &card);
    if (result != NVML_SUCCESS || major == NULL || minor == NULL)
        return result != NVML_SUCCESS ? result : NVML_ERROR_INVALID_ARGUMENT;
    *major = COMPUTE_MAJOR;
    *minor = COMPUTE_MINOR;
    return NVML_SUCCESS;
}

/* The card cannot be divided. */
NVML_EXPORT nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned int *current, unsigned int *pending)
{
    uint32_t card;
    (void)current;
    (void)pending;
    nvmlReturn_t result = nvml_enter(device, &card);
    return result == NVML_SUCCESS ? NVML_ERROR_NOT_SUPPORTED : result;
}
