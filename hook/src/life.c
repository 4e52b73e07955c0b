// The life of a process under the hook begins here.
//
// Nothing happens when the library is loaded: no constructor, no call of the driver, no thread, no file. A process that
// never calls cuInit costs nothing but its lookups. Forks and the end of a process are the region's (region.c).
#include "real.h"
#include "region.h"
#include "route.h"

// The driver first: what it refuses is not our business, and files are opened only in processes that use a card. A child of
// fork cannot use CUDA before it calls exec, so it attaches again only if it asks for something.
CUresult cuInit(unsigned int flags) {
    CUresult result = real.cuInit(flags);
    if (result == CUDA_SUCCESS && region_state() == REGION_READY) route_tell_unknown();
    return result;
}
