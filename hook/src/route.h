// How the application gets our functions in place of the driver's: dlsym, dlvsym, dlmopen and cuGetProcAddress.
//
// The real lookup comes first; its answer is replaced when it is the address of a driver function the table names. So the
// driver alone says what exists and in which version; a function it lacks is never invented.
//
// `real.cuMemAlloc_v2(...)` (real.h, generated) is always callable: until the first call it points to a function that loads
// libcuda, and it answers CUDA_ERROR_NOT_SUPPORTED when the driver is too old to have it. Ask route_has(cuX) before relying
// on one of those.
#ifndef EGPU_ROUTE_H
#define EGPU_ROUTE_H

#include <stdbool.h>
#include <stdint.h>

#include "driver.h"
#include "driver_nvml.h"

enum route_flag { ROUTE_PLAIN, ROUTE_PER_THREAD };
enum route_library { ROUTE_CUDA, ROUTE_NVML };

struct route {
    const char *name, *base;
    void (**real)(void);    // The slot in `real` or `real_nvml`.
    void (*first)(void);    // What the slot holds until the driver's function is known, and for ever when it lacks it.
    void (*wrapper)(void);  // NULL: passes.
    int version;
    enum route_flag flag;
    enum route_library library;
};

// libcuda first; by base name, then version. routes_by_name holds indexes in the order of the names.
extern const struct route routes[];
extern const unsigned routes_count;
extern const unsigned short routes_by_name[];

#define route_has(function) route_present((void (*const *)(void))&real.function)
#define route_has_nvml(function) route_present((void (*const *)(void))&real_nvml.function)
bool route_present(void (*const *slot)(void));

// Fills `real` (or `real_nvml`); `force` loads the library when nobody has. Takes no lock: threads that come at the same
// time find the same addresses. false: there is no such library.
bool route_load(enum route_library library, bool force);

// Adds to the slot's unknown_call_count what was asked for and is not in the table, or has an address that is none of the
// driver's exports. From cuInit on; before that it is only counted, for asking opens no files.
void route_tell_unknown(void);

// For the generated file.
bool route_first(unsigned index);
CUresult route_absent(void);
nvmlReturn_t route_absent_nvml(void);
bool route_denied(void); // false: not a container of ours, nothing is denied.

#endif
