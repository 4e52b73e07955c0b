// The life of a process under the hook: it begins at cuInit, forks, and ends.
//
// Nothing happens when the library is loaded: no constructor, no call of the driver, no thread. A process that never calls
// cuInit costs nothing but the lookups.
#ifndef EGPU_LIFE_H
#define EGPU_LIFE_H

#include <stdbool.h>

// A region is attached, so quotas and gates apply. Cheap: one load once attached.
bool life_attached(void);
// No region at all: every wrapper is a pure pass-through.
bool life_inert(void);

#endif
