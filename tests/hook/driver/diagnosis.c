/* Core dumps, logs and notifications: settings are kept and told; there is never anything to dump, log or tell. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "simulated.h"

#define SETTINGS 7
#define SETTING_BYTES_MAX 1024
#define CALLBACK_MAGIC UINT64_C(0x6b6361626c6c6163)

enum { CORE_FILE = 5, CORE_PIPE = 6 };

/* By CUcoredumpSettings, which begin at 1; those of the process, and of a context where it has its own. */
static struct setting {
    char value[SETTING_BYTES_MAX];
    size_t bytes;
} settings[SETTINGS + 1];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Paths are text, all others flags of one byte or, for what a dump contains, of four. */
static size_t size_of(CUcoredumpSettings which)
{
    if (which == CORE_FILE || which == CORE_PIPE)
        return settings[which].bytes > 0 ? settings[which].bytes : 1;
    return which == SETTINGS ? sizeof(int) : sizeof(bool);
}

CUresult sim_cuCoredumpGetAttributeGlobal(CUcoredumpSettings which, void *value, size_t *bytes)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), bytes);

    if (result == CUDA_SUCCESS && (which == 0 || which > SETTINGS))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&lock);
    if (value != NULL && *bytes < size_of(which))
        result = CUDA_ERROR_INVALID_VALUE;
    else if (value != NULL)
        memcpy(value, settings[which].value, size_of(which));
    *bytes = size_of(which);
    pthread_mutex_unlock(&lock);
    return result;
}

CUresult sim_cuCoredumpSetAttributeGlobal(CUcoredumpSettings which, void *value, size_t *bytes)
{
    CUresult result = sim_answer(sim_answer(sim_enter(SIM_CALL_OTHER), value), bytes);

    if (result == CUDA_SUCCESS && (which == 0 || which > SETTINGS || *bytes > SETTING_BYTES_MAX))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result != CUDA_SUCCESS)
        return result;
    pthread_mutex_lock(&lock);
    memcpy(settings[which].value, value, *bytes);
    settings[which].bytes = *bytes;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

static CUresult enter(void)
{
    struct sim_context *context;

    return sim_enter_context(SIM_CALL_OTHER, &context);
}

/* A context's own settings are the process' here: there is nothing they could make different. */
CUresult sim_cuCoredumpGetAttribute(CUcoredumpSettings which, void *value, size_t *bytes)
{
    CUresult result = enter();

    return result == CUDA_SUCCESS ? sim_cuCoredumpGetAttributeGlobal(which, value, bytes) : result;
}

CUresult sim_cuCoredumpSetAttribute(CUcoredumpSettings which, void *value, size_t *bytes)
{
    CUresult result = enter();

    return result == CUDA_SUCCESS ? sim_cuCoredumpSetAttributeGlobal(which, value, bytes) : result;
}

struct callback {
    uint64_t magic;
};

static CUresult subscribe(CUresult result, struct callback **made)
{
    if (result != CUDA_SUCCESS)
        return result;
    *made = calloc(1, sizeof(**made));
    if (*made == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    (*made)->magic = CALLBACK_MAGIC;
    return CUDA_SUCCESS;
}

static CUresult unsubscribe(CUresult result, struct callback *callback)
{
    if (result == CUDA_SUCCESS && (callback == NULL || callback->magic != CALLBACK_MAGIC))
        result = CUDA_ERROR_INVALID_VALUE;
    if (result == CUDA_SUCCESS) {
        callback->magic = 0;
        free(callback);
    }
    return result;
}

CUresult sim_cuDeviceRegisterAsyncNotification(CUdevice device, CUasyncCallback function, void *data,
                                               CUasyncCallbackHandle *made)
{
    (void)data;
    return subscribe(sim_answer(sim_answer(sim_enter_card(device), (void *)function), made), (struct callback **)(void *)made);
}

CUresult sim_cuDeviceUnregisterAsyncNotification(CUdevice device, CUasyncCallbackHandle handle)
{
    return unsubscribe(sim_enter_card(device), (struct callback *)(void *)handle);
}

CUresult sim_cuLogsRegisterCallback(CUlogsCallback function, void *data, CUlogsCallbackHandle *made)
{
    (void)data;
    return subscribe(sim_answer((void *)function != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE, made),
                     (struct callback **)(void *)made);
}

CUresult sim_cuLogsUnregisterCallback(CUlogsCallbackHandle handle)
{
    return unsubscribe(CUDA_SUCCESS, (struct callback *)(void *)handle);
}

CUresult sim_cuLogsCurrent(CUlogIterator *at, unsigned int flags)
{
    if (at == NULL || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    *at = 0;
    return CUDA_SUCCESS;
}

CUresult sim_cuLogsDumpToFile(CUlogIterator *from, const char *path, unsigned int flags)
{
    FILE *file = path != NULL && flags == 0 ? fopen(path, "w") : NULL;

    (void)from; /* NULL: from the beginning */
    return file != NULL && fclose(file) == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuLogsDumpToMemory(CUlogIterator *from, char *text, size_t *bytes, unsigned int flags)
{
    (void)from;
    if (text == NULL || bytes == NULL || *bytes == 0 || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    *text = '\0';
    *bytes = 0;
    return CUDA_SUCCESS;
}
