/* cuGetProcAddress as the typedefs of the interface imply it: the newest form of a name that is not newer than the version
 * asked for; the form for per-thread streams when that is asked for and exists. */
#include <string.h>

#include "sim.h"
#include "simulated.h"
#include "symbols.h"

static const struct sim_symbol *newest(const char *base, int version, bool per_thread, bool *known) {
    size_t count;
    const struct sim_symbol *symbols = sim_symbols(&count), *best = NULL;
    for (size_t i = 0; i < count; i++) {
        const struct sim_symbol *symbol = &symbols[i];
        if (strcmp(symbol->base, base) != 0 || symbol->per_thread != per_thread) continue;
        *known = true;
        if (symbol->version <= version && (best == NULL || symbol->version > best->version)) best = symbol;
    }
    return best;
}

static CUresult lookup(const char *base, void **function, int version, uint64_t flags, CUdriverProcAddressQueryResult *status) {
    const uint64_t both = CU_GET_PROC_ADDRESS_LEGACY_STREAM | CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM;
    if (base == NULL || function == NULL || (flags & ~both) != 0 || flags == both) return CUDA_ERROR_INVALID_VALUE;
    bool known = false;
    const struct sim_symbol *found = NULL;
    if (flags == CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) found = newest(base, version, true, &known);
    if (found == NULL) found = newest(base, version, false, &known);
    *function = found == NULL ? NULL : (void *)found->address;
    if (status != NULL) {
        *status = found != NULL ? CU_GET_PROC_ADDRESS_SUCCESS
                  : known       ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                                : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    }
    return found == NULL ? CUDA_ERROR_NOT_FOUND : CUDA_SUCCESS;
}

CUresult sim_cuGetProcAddress(const char *base, void **function, int version, uint64_t flags) {
    return lookup(base, function, version, flags, NULL);
}

CUresult sim_cuGetProcAddress_v2(const char *base, void **function, int version, uint64_t flags,
                                 CUdriverProcAddressQueryResult *status) {
    return lookup(base, function, version, flags, status);
}
