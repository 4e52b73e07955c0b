/* Code: any image is accepted, and any function is found in it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "functions.h"
#include "simulated.h"

#define MODULE_MAGIC UINT64_C(0x656c75646f6d6d31)
#define GLOBAL_BYTES 4096
#define NAME_BYTES_MAX 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct sim_function *sim_function_of(const void *handle)
{
    struct sim_function *function = (struct sim_function *)(uintptr_t)handle;

    return function != NULL && function->magic == SIM_FUNCTION_MAGIC ? function : NULL;
}

struct sim_module *sim_module_of(const void *handle)
{
    struct sim_module *module = (struct sim_module *)(uintptr_t)handle;

    return module != NULL && module->magic == MODULE_MAGIC ? module : NULL;
}

static void join_context(struct sim_module *module)
{
    pthread_mutex_lock(&lock);
    module->next = module->context->modules;
    module->link = &module->context->modules;
    if (module->next != NULL)
        module->next->link = &module->next;
    module->context->modules = module;
    pthread_mutex_unlock(&lock);
}

static void leave_context(struct sim_module *module)
{
    pthread_mutex_lock(&lock);
    *module->link = module->next;
    if (module->next != NULL)
        module->next->link = module->link;
    pthread_mutex_unlock(&lock);
}

void sim_modules_end(struct sim_context *context)
{
    pthread_mutex_lock(&lock);
    for (struct sim_module *module = context->modules; module != NULL; module = module->next) {
        for (struct sim_function *function = module->functions; function != NULL; function = function->next)
            function->magic = 0;
        module->magic = 0;
    }
    pthread_mutex_unlock(&lock);
}

static CUresult load(void **handle, struct sim_context *context)
{
    struct sim_module *module;
    CUresult result;

    if (handle == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    module = calloc(1, sizeof(*module));
    if (module == NULL)
        return CUDA_ERROR_OUT_OF_MEMORY;
    module->magic = MODULE_MAGIC;
    module->context = context;
    result = sim_code_make(context, &module->code);
    if (result != CUDA_SUCCESS) {
        free(module);
        return result;
    }
    if (context != NULL)
        join_context(module);
    *handle = module;
    return CUDA_SUCCESS;
}

static CUresult load_in_context(CUmodule *handle, const void *image)
{
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);

    if (result != CUDA_SUCCESS)
        return result;
    return image != NULL ? load((void **)handle, context) : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuModuleLoadData(CUmodule *handle, const void *image)
{
    return load_in_context(handle, image);
}

CUresult sim_cuModuleLoadDataEx(CUmodule *handle, const void *image, unsigned int count, CUjit_option *options,
                                void **values)
{
    return count == 0 || (options != NULL && values != NULL) ? load_in_context(handle, image)
                                                             : CUDA_ERROR_INVALID_VALUE;
}

CUresult sim_cuModuleLoadFatBinary(CUmodule *handle, const void *image)
{
    return load_in_context(handle, image);
}

CUresult sim_file_readable(const char *path)
{
    FILE *file = path != NULL ? fopen(path, "rb") : NULL;

    if (path == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (file == NULL)
        return CUDA_ERROR_FILE_NOT_FOUND;
    fclose(file);
    return CUDA_SUCCESS;
}

CUresult sim_cuModuleLoad(CUmodule *handle, const char *path)
{
    CUresult result = sim_file_readable(path);

    return result != CUDA_SUCCESS ? result : load_in_context(handle, path);
}

static CUresult unload(void *handle)
{
    struct sim_module *module;
    struct sim_function *next;
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    module = sim_module_of(handle);
    if (module == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (module->memory != 0)
        sim_cuMemFree_v2(module->memory);
    if (module->managed != 0)
        sim_cuMemFree_v2(module->managed);
    sim_code_end(module->code);
    for (struct sim_function *function = module->functions; function != NULL; function = next) {
        next = function->next;
        function->magic = 0;
        free(function);
    }
    if (module->context != NULL)
        leave_context(module);
    module->magic = 0;
    free(module);
    return CUDA_SUCCESS;
}

CUresult sim_cuModuleUnload(CUmodule handle)
{
    return unload(handle);
}

CUresult sim_cuLibraryUnload(CUlibrary handle)
{
    return unload(handle);
}

CUresult sim_cuLibraryLoadData(CUlibrary *handle, const void *code, CUjit_option *jit_options, void **jit_values,
                               unsigned int jit_count, CUlibraryOption *options, void **values, unsigned int count)
{
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (code == NULL || (jit_count > 0 && (jit_options == NULL || jit_values == NULL))
        || (count > 0 && (options == NULL || values == NULL)))
        return CUDA_ERROR_INVALID_VALUE;
    return load((void **)handle, NULL);
}

CUresult sim_cuLibraryLoadFromFile(CUlibrary *handle, const char *path, CUjit_option *jit_options, void **jit_values,
                                   unsigned int jit_count, CUlibraryOption *options, void **values,
                                   unsigned int count)
{
    CUresult result = sim_file_readable(path);

    return result != CUDA_SUCCESS ? result
                                  : sim_cuLibraryLoadData(handle, path, jit_options, jit_values, jit_count, options,
                                                          values, count);
}

static struct sim_function *make_function(struct sim_module *module, const char *name)
{
    size_t bytes = strlen(name) + 1;
    struct sim_function *function = calloc(1, sizeof(*function) + bytes);

    if (function == NULL)
        return NULL;
    function->magic = SIM_FUNCTION_MAGIC;
    function->module = module;
    function->kernel = sim_kernel_find(name);
    function->block[0] = function->block[1] = function->block[2] = 1;
    memcpy(function->name, name, bytes);
    function->next = module->functions;
    module->functions = function;
    return function;
}

static CUresult get(void **handle, struct sim_module *module, const char *name)
{
    struct sim_function *function;
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (module == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (handle == NULL || name == NULL || strlen(name) >= NAME_BYTES_MAX)
        return CUDA_ERROR_INVALID_VALUE;
    if (*name == '\0')
        return CUDA_ERROR_NOT_FOUND;
    pthread_mutex_lock(&lock);
    for (function = module->functions; function != NULL; function = function->next)
        if (strcmp(function->name, name) == 0)
            break;
    if (function == NULL)
        function = make_function(module, name);
    pthread_mutex_unlock(&lock);
    *handle = function;
    return function != NULL ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult sim_cuModuleGetFunction(CUfunction *function, CUmodule handle, const char *name)
{
    return get((void **)function, sim_module_of(handle), name);
}

CUresult sim_cuLibraryGetKernel(CUkernel *kernel, CUlibrary handle, const char *name)
{
    return get((void **)kernel, sim_module_of(handle), name);
}

CUresult sim_cuLibraryGetModule(CUmodule *module, CUlibrary handle)
{
    struct sim_context *context;
    CUresult result = sim_enter_context(SIM_CALL_OTHER, &context);

    if (result != CUDA_SUCCESS)
        return result;
    if (module == NULL || sim_module_of(handle) == NULL)
        return module == NULL ? CUDA_ERROR_INVALID_VALUE : CUDA_ERROR_INVALID_HANDLE;
    *module = (CUmodule)(void *)handle;
    return CUDA_SUCCESS;
}

CUresult sim_cuModuleGetLoadingMode(CUmoduleLoadingMode *mode)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), mode);

    if (result == CUDA_SUCCESS)
        *mode = 2; /* lazy */
    return result;
}

static unsigned functions_in(const struct sim_module *module)
{
    unsigned count = 0;

    for (const struct sim_function *function = module->functions; function != NULL; function = function->next)
        count++;
    return count;
}

CUresult sim_cuModuleGetFunctionCount(unsigned int *count, CUmodule handle)
{
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), count);

    if (result != CUDA_SUCCESS)
        return result;
    if (sim_module_of(handle) == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    *count = functions_in(sim_module_of(handle));
    return CUDA_SUCCESS;
}

CUresult sim_cuLibraryGetKernelCount(unsigned int *count, CUlibrary handle)
{
    return sim_cuModuleGetFunctionCount(count, (CUmodule)(void *)handle);
}

/* A module's global variable of any name: one small piece of device memory for each module. */
CUresult sim_cuModuleGetGlobal_v2(CUdeviceptr *pointer, size_t *bytes, CUmodule handle, const char *name)
{
    struct sim_module *module = sim_module_of(handle);
    CUresult result = sim_enter(SIM_CALL_OTHER);

    if (result != CUDA_SUCCESS)
        return result;
    if (module == NULL)
        return CUDA_ERROR_INVALID_HANDLE;
    if (name == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (module->memory == 0)
        result = sim_cuMemAlloc_v2(&module->memory, GLOBAL_BYTES);
    if (pointer != NULL)
        *pointer = module->memory;
    if (bytes != NULL)
        *bytes = GLOBAL_BYTES;
    return result;
}

CUresult sim_cuLibraryGetGlobal(CUdeviceptr *pointer, size_t *bytes, CUlibrary handle, const char *name)
{
    return sim_cuModuleGetGlobal_v2(pointer, bytes, (CUmodule)(void *)handle, name);
}

/* Likewise, in managed memory. */
CUresult sim_cuLibraryGetManaged(CUdeviceptr *pointer, size_t *bytes, CUlibrary handle, const char *name)
{
    struct sim_module *module = sim_module_of(handle);
    CUresult result = sim_answer(sim_enter(SIM_CALL_OTHER), name);

    if (result == CUDA_SUCCESS && module == NULL)
        result = CUDA_ERROR_INVALID_HANDLE;
    if (result == CUDA_SUCCESS && module->managed == 0)
        result = sim_cuMemAllocManaged(&module->managed, GLOBAL_BYTES, CU_MEM_ATTACH_GLOBAL);
    if (result != CUDA_SUCCESS)
        return result;
    if (pointer != NULL)
        *pointer = module->managed;
    if (bytes != NULL)
        *bytes = GLOBAL_BYTES;
    return CUDA_SUCCESS;
}
