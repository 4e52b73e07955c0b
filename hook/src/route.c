#define _GNU_SOURCE
#include "route.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "loader.h"
#include "real.h"
#include "region.h"
#include "route_names.h"

static const char *const LIBRARY_FILES[] = {[ROUTE_CUDA] = "libcuda.so.1", [ROUTE_NVML] = "libnvidia-ml.so.1"};

static int loaded[2];
static uint64_t unknown_untold;
static int telling;  // The process has begun to use the card.

void route_tell_unknown(void) {
    __atomic_store_n(&telling, 1, __ATOMIC_RELAXED);
    if (__atomic_load_n(&unknown_untold, __ATOMIC_RELAXED) == 0) return;
    struct egpu_slot *slot = region_slot();
    if (slot != NULL)
        __atomic_fetch_add(&slot->unknown_call_count, __atomic_exchange_n(&unknown_untold, 0, __ATOMIC_RELAXED),
                           __ATOMIC_RELAXED);
}

// Others read the slot without an atomic load, which costs nothing but is a race by the letter: an aligned pointer is read
// whole on both machines, and the old value serves as well as the new one. So a thread sanitizer is not told.
__attribute__((no_sanitize("thread"))) static void publish(const struct route *route, void *address) {
    *(void *volatile *)route->real = address;
}

bool route_load(enum route_library library, bool force) {
    if (__atomic_load_n(&loaded[library], __ATOMIC_ACQUIRE)) return true;
    void *handle = dlopen(LIBRARY_FILES[library], RTLD_LAZY | RTLD_NOLOAD);
    if (handle == NULL && force) handle = dlopen(LIBRARY_FILES[library], RTLD_LAZY);
    if (handle == NULL) return false;
    for (unsigned i = 0; i < routes_count; i++) {
        if (routes[i].library != library) continue;
        void *address = loader_get()->dlsym(handle, routes[i].name);
        if (address != NULL) publish(&routes[i], address);
    }
    // The handle is kept: the addresses stay valid even when the application closes its own.
    __atomic_store_n(&loaded[library], 1, __ATOMIC_RELEASE);
    return true;
}

static void count_unknown(void) {
    __atomic_fetch_add(&unknown_untold, 1, __ATOMIC_RELAXED);
    if (__atomic_load_n(&telling, __ATOMIC_RELAXED)) route_tell_unknown();
}

// The slots are in the order of the routes.
static const struct route *route_of_slot(void (*const *slot)(void)) {
    void (*const *const cuda)(void) = (void (*const *)(void))&real;
    void (*const *const nvml)(void) = (void (*const *)(void))&real_nvml;
    const size_t cuda_count = sizeof real / sizeof *cuda;
    return slot >= cuda && slot < cuda + cuda_count ? &routes[slot - cuda] : &routes[cuda_count + (size_t)(slot - nvml)];
}

static bool present(const struct route *route) {
    return __atomic_load_n((void **)route->real, __ATOMIC_ACQUIRE) != (void *)route->first;
}

bool route_present(void (*const *slot)(void)) {
    const struct route *route = route_of_slot(slot);
    return route_load(route->library, true) && present(route);
}

bool route_first(unsigned index) { return route_load(routes[index].library, true) && present(&routes[index]); }

CUresult route_absent(void) { return loaded[ROUTE_CUDA] ? CUDA_ERROR_NOT_SUPPORTED : CUDA_ERROR_STUB_LIBRARY; }

nvmlReturn_t route_absent_nvml(void) {
    return loaded[ROUTE_NVML] ? NVML_ERROR_FUNCTION_NOT_FOUND : NVML_ERROR_LIBRARY_NOT_FOUND;
}

bool route_denied(void) {
    return region_state() != REGION_ABSENT;
}

// Said when asked for (EGPU_HOOK_LOG=1): an application probes hundreds of names, most of which nobody misses.
static void say_unknown(const char *name) {
    count_unknown();
    const char *wanted = getenv("EGPU_HOOK_LOG");
    if (wanted != NULL && wanted[0] == '1') fprintf(stderr, "egpu: passed a function this version does not know: %s\n", name);
}

static const struct route *route_by_name(const char *name) {
    unsigned low = 0, high = routes_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        const struct route *route = &routes[routes_by_name[middle]];
        int order = strcmp(name, route->name);
        if (order == 0) return route;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

// The first row with this base name; the others follow it.
static unsigned first_of_base(const char *base) {
    unsigned low = 0, high = routes_count;
    while (low < high) {
        unsigned middle = (low + high) / 2;
        if (strcmp(routes[middle].base, base) < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

void *route_substitute_name(const char *name, void *address) {
    const struct route *route = route_by_name(name);
    if (route == NULL) {
        if (address != NULL) say_unknown(name);
        return address;
    }
    if (route->wrapper == NULL || address == NULL) return address;
    if (!route_load(route->library, false) || !present(route)) {
        // Our own export was found by RTLD_DEFAULT, but the driver has no such function.
        return address == (void *)route->wrapper ? NULL : address;
    }
    if (address == *(void **)route->real) return (void *)route->wrapper;
    if (address != (void *)route->wrapper) count_unknown();
    return address;
}

// The wrapper of a function whose address is not an exported one: chosen as the driver chooses, never beyond the versions
// this table knows, because a later form may take other arguments.
static const struct route *route_by_version(unsigned first, const char *base, int version, bool per_thread) {
    const struct route *best = NULL;
    for (unsigned i = first; i < routes_count && strcmp(routes[i].base, base) == 0; i++) {
        const struct route *route = &routes[i];
        if (route->version > version || !present(route) || (route->flag == ROUTE_PER_THREAD && !per_thread)) continue;
        if (best == NULL || route->flag > best->flag || (route->flag == best->flag && route->version >= best->version)) {
            best = route;
        }
    }
    return best;
}

static void *substitute_base(const char *base, void *address, int version, uint64_t flags) {
    const bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
    const unsigned first = first_of_base(base);
    if (first == routes_count || strcmp(routes[first].base, base) != 0) {
        if (route_name_is_driver(base)) say_unknown(base);
        return address;
    }
    const struct route *found = NULL;
    for (unsigned i = first; i < routes_count && strcmp(routes[i].base, base) == 0; i++) {
        if (*(void **)routes[i].real != address) continue;
        // Two forms may share one address; then the one that was asked for.
        if (found == NULL || (routes[i].flag == ROUTE_PER_THREAD) == per_thread) found = &routes[i];
    }
    if (found == NULL && version <= CUDA_VERSION_NEWEST) {
        count_unknown();
        found = route_by_version(first, base, version, per_thread);
    } else if (found == NULL) {
        say_unknown(base);
    }
    return found != NULL && found->wrapper != NULL ? (void *)found->wrapper : address;
}

CUresult cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    CUresult result = real.cuGetProcAddress(symbol, function, version, flags);
    if (result == CUDA_SUCCESS && symbol != NULL && function != NULL && *function != NULL) {
        *function = substitute_base(symbol, *function, version, flags);
    }
    return result;
}

CUresult cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags,
                             CUdriverProcAddressQueryResult *status) {
    CUresult result = real.cuGetProcAddress_v2(symbol, function, version, flags, status);
    if (result == CUDA_SUCCESS && symbol != NULL && function != NULL && *function != NULL) {
        *function = substitute_base(symbol, *function, version, flags);
    }
    return result;
}
