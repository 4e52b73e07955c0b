/* Code and global variables, and the reserves a context sets aside. No argument says what they take, so it is measured
 * where the driver names this process and estimated otherwise. Never refused: what a program needs to run at all is charged
 * above the quota, and the next allocation finds the quota used. */
#include "cards.h"
#include "charges.h"
#include "measured.h"
#include "real.h"
#include "region.h"

static const uint64_t MODULE_BYTES_ESTIMATE = 2ull << 20; /* one block of the driver's */

static void note(CUresult result, const struct measurement *m, enum holding_kind kind, const void *handle) {
    if (result != CUDA_SUCCESS || m->card < 0)
        return;
    struct holding holding = {.kind = kind, .key = (uint64_t)(uintptr_t)handle, .card = m->card,
                              .memory_class = EGPU_MEMORY_MODULE};
    holding.bytes = measure_end(m, MODULE_BYTES_ESTIMATE);
    /* Libraries belong to the process, modules to their context. */
    if (kind == HOLDING_MODULE && real.cuCtxGetCurrent(&holding.context) != CUDA_SUCCESS)
        holding.context = NULL;
    charge_anyway(holding.card, holding.memory_class, holding.bytes);
    (void)holding_add(&holding);
}

CUresult cuModuleLoad(CUmodule *module, const char *file) {
    struct measurement m = measure_begin(card_current());
    CUresult result = real.cuModuleLoad(module, file);
    note(result, &m, HOLDING_MODULE, result == CUDA_SUCCESS ? *module : NULL);
    return result;
}

CUresult cuModuleLoadData(CUmodule *module, const void *image) {
    struct measurement m = measure_begin(card_current());
    CUresult result = real.cuModuleLoadData(module, image);
    note(result, &m, HOLDING_MODULE, result == CUDA_SUCCESS ? *module : NULL);
    return result;
}

CUresult cuModuleLoadDataEx(CUmodule *module, const void *image, unsigned int count, CUjit_option *options, void **values) {
    struct measurement m = measure_begin(card_current());
    CUresult result = real.cuModuleLoadDataEx(module, image, count, options, values);
    note(result, &m, HOLDING_MODULE, result == CUDA_SUCCESS ? *module : NULL);
    return result;
}

CUresult cuModuleLoadFatBinary(CUmodule *module, const void *binary) {
    struct measurement m = measure_begin(card_current());
    CUresult result = real.cuModuleLoadFatBinary(module, binary);
    note(result, &m, HOLDING_MODULE, result == CUDA_SUCCESS ? *module : NULL);
    return result;
}

static void unloaded(CUresult result, enum holding_kind kind, const void *handle) {
    struct holding holding;
    if (result == CUDA_SUCCESS && holding_take(kind, (uint64_t)(uintptr_t)handle, &holding))
        charge_release(&holding);
}

CUresult cuModuleUnload(CUmodule module) {
    CUresult result = real.cuModuleUnload(module);
    unloaded(result, HOLDING_MODULE, module);
    return result;
}

CUresult cuLibraryLoadData(CUlibrary *library, const void *code, CUjit_option *jit_options, void **jit_values,
                           unsigned int jit_count, CUlibraryOption *options, void **values, unsigned int count) {
    struct measurement m = measure_begin(card_current());
    CUresult result = real.cuLibraryLoadData(library, code, jit_options, jit_values, jit_count, options, values, count);
    note(result, &m, HOLDING_LIBRARY, result == CUDA_SUCCESS ? *library : NULL);
    return result;
}

CUresult cuLibraryLoadFromFile(CUlibrary *library, const char *file, CUjit_option *jit_options, void **jit_values,
                               unsigned int jit_count, CUlibraryOption *options, void **values, unsigned int count) {
    struct measurement m = measure_begin(card_current());
    CUresult result = real.cuLibraryLoadFromFile(library, file, jit_options, jit_values, jit_count, options, values, count);
    note(result, &m, HOLDING_LIBRARY, result == CUDA_SUCCESS ? *library : NULL);
    return result;
}

CUresult cuLibraryUnload(CUlibrary library) {
    CUresult result = real.cuLibraryUnload(library);
    unloaded(result, HOLDING_LIBRARY, library);
    return result;
}

static void grow(struct holding *context, void *bytes) { context->bytes += *(uint64_t *)bytes; }

/* Heap, printf buffer and stacks are set aside when their limit is raised, or at the next launch; that is seen later. */
CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
    struct measurement m = measure_begin(card_current());
    CUresult result = real.cuCtxSetLimit(limit, value);
    if (result != CUDA_SUCCESS || m.card < 0)
        return result;
    CUcontext context;
    uint64_t taken = measure_end(&m, 0);
    if (taken > 0 && real.cuCtxGetCurrent(&context) == CUDA_SUCCESS &&
        holding_change(HOLDING_CONTEXT, (uint64_t)(uintptr_t)context, grow, &taken))
        charge_anyway(m.card, EGPU_MEMORY_CONTEXT, taken);
    return result;
}
