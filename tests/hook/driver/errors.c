/* Names of results. */
#include <stddef.h>

#include "internal.h"
#include "simulated.h"

#define NAMED(code, says) {code, #code, says}

static const struct {
    CUresult code;
    const char *name;
    const char *says;
} errors[] = {
    NAMED(CUDA_SUCCESS, "no error"),
    NAMED(CUDA_ERROR_INVALID_VALUE, "invalid argument"),
    NAMED(CUDA_ERROR_OUT_OF_MEMORY, "out of memory"),
    NAMED(CUDA_ERROR_NOT_INITIALIZED, "initialization error"),
    NAMED(CUDA_ERROR_DEINITIALIZED, "driver shutting down"),
    NAMED(CUDA_ERROR_STUB_LIBRARY, "stub library"),
    NAMED(CUDA_ERROR_DEVICE_UNAVAILABLE, "device unavailable"),
    NAMED(CUDA_ERROR_NO_DEVICE, "no device"),
    NAMED(CUDA_ERROR_INVALID_DEVICE, "invalid device ordinal"),
    NAMED(CUDA_ERROR_INVALID_IMAGE, "invalid kernel image"),
    NAMED(CUDA_ERROR_INVALID_CONTEXT, "invalid context"),
    NAMED(CUDA_ERROR_MAP_FAILED, "mapping failed"),
    NAMED(CUDA_ERROR_UNMAP_FAILED, "unmapping failed"),
    NAMED(CUDA_ERROR_ALREADY_MAPPED, "already mapped"),
    NAMED(CUDA_ERROR_NOT_MAPPED, "not mapped"),
    NAMED(CUDA_ERROR_UNSUPPORTED_LIMIT, "unsupported limit"),
    NAMED(CUDA_ERROR_CONTEXT_ALREADY_IN_USE, "context in use"),
    NAMED(CUDA_ERROR_PEER_ACCESS_UNSUPPORTED, "no access between these cards"),
    NAMED(CUDA_ERROR_FILE_NOT_FOUND, "file not found"),
    NAMED(CUDA_ERROR_OPERATING_SYSTEM, "the operating system refused"),
    NAMED(CUDA_ERROR_INVALID_HANDLE, "invalid handle"),
    NAMED(CUDA_ERROR_ILLEGAL_STATE, "illegal state"),
    NAMED(CUDA_ERROR_NOT_FOUND, "named symbol not found"),
    NAMED(CUDA_ERROR_NOT_READY, "not ready"),
    NAMED(CUDA_ERROR_ILLEGAL_ADDRESS, "illegal address"),
    NAMED(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "too many resources asked for"),
    NAMED(CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED, "access is enabled already"),
    NAMED(CUDA_ERROR_PEER_ACCESS_NOT_ENABLED, "access is not enabled"),
    NAMED(CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE, "primary context is active"),
    NAMED(CUDA_ERROR_CONTEXT_IS_DESTROYED, "context is destroyed"),
    NAMED(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, "host memory is registered already"),
    NAMED(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, "host memory is not registered"),
    NAMED(CUDA_ERROR_LAUNCH_FAILED, "launch failure"),
    NAMED(CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "too many blocks for a cooperative launch"),
    NAMED(CUDA_ERROR_NOT_PERMITTED, "not permitted"),
    NAMED(CUDA_ERROR_NOT_SUPPORTED, "not supported"),
    NAMED(CUDA_ERROR_SYSTEM_NOT_READY, "system not ready"),
    NAMED(CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "not permitted while a stream captures"),
    NAMED(CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "an earlier error spoilt the capture"),
    NAMED(CUDA_ERROR_STREAM_CAPTURE_MERGE, "two captures would merge"),
    NAMED(CUDA_ERROR_STREAM_CAPTURE_UNMATCHED, "the capture began in another stream"),
    NAMED(CUDA_ERROR_STREAM_CAPTURE_UNJOINED, "a forked stream was not joined"),
    NAMED(CUDA_ERROR_STREAM_CAPTURE_ISOLATION, "depends on work outside the capture"),
    NAMED(CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "depends on a capture through the legacy stream"),
    NAMED(CUDA_ERROR_CAPTURED_EVENT, "event last recorded in a capture"),
    NAMED(CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD, "another thread began the capture"),
    NAMED(CUDA_ERROR_TIMEOUT, "timeout"),
    NAMED(CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE, "the graph differs too much"),
    NAMED(CUDA_ERROR_UNKNOWN, "unknown error"),
};

static size_t find(CUresult code)
{
    size_t index = 0;

    while (index < sizeof(errors) / sizeof(errors[0]) && errors[index].code != code)
        index++;
    return index;
}

CUresult sim_cuGetErrorName(CUresult code, const char **name)
{
    size_t index = find(code);

    if (name == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *name = index < sizeof(errors) / sizeof(errors[0]) ? errors[index].name : NULL;
    return *name != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuGetErrorString(CUresult code, const char **says)
{
    size_t index = find(code);

    if (says == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    *says = index < sizeof(errors) / sizeof(errors[0]) ? errors[index].says : NULL;
    return *says != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}
