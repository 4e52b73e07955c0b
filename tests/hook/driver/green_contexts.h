/* Green contexts and the parts of a card they are made of. */
#ifndef EGPU_SIM_GREEN_CONTEXTS_H
#define EGPU_SIM_GREEN_CONTEXTS_H

#include "streams.h"

struct CUgreenCtx_st {
    uint64_t magic;
    struct sim_context *context;
    CUdevResource resource;
};

CUgreenCtx sim_green_of(CUgreenCtx green); /* NULL = not a live one */
/* device_resources.c: NULL = not one that cuDevResourceGenerateDesc() made. */
const CUdevResource *sim_resource_described(CUdevResourceDesc description);

#endif
