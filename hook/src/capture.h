/* Streams that record into a graph instead of running: nothing of ours may touch them. */
#ifndef EGPU_CAPTURE_H
#define EGPU_CAPTURE_H

#include <stdbool.h>

#include "driver.h"

void capture_began(CUresult result);
void capture_ended(CUresult result);
/* May be too high for a while (a capture that was invalidated and destroyed with its stream): then one more question per
 * launch is asked, nothing else. */
extern unsigned capture_count;
bool capture_asks(CUstream stream);
/* One load while the process captures nothing. */
static inline bool capture_holds(CUstream stream) {
    return __atomic_load_n(&capture_count, __ATOMIC_RELAXED) != 0 && capture_asks(stream);
}

/* Calls of ours on other streams would end a capture in global mode (CUDA calls them unsafe), unless this thread says
 * that it knows what it does. */
struct capture_guard {
    CUstreamCaptureMode mode;
    bool changed;
};
struct capture_guard capture_guard_begin(void);
void capture_guard_end(struct capture_guard guard);

#endif
