#include "life.h"

#include "driver.h"
#include "real.h"
#include "region.h"

bool life_attached(void) { return region_state() == REGION_READY; }

bool life_inert(void) { return region_state() == REGION_ABSENT; }

// The driver first: what it refuses is not our business, and files are opened only in processes that use a card. A child of
// fork cannot use CUDA before it calls exec, so it attaches again only if it asks for something.
CUresult cuInit(unsigned int flags) {
    CUresult result = real.cuInit(flags);
    if (result == CUDA_SUCCESS) region_state();
    return result;
}
