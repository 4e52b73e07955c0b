/* Contexts: what one takes of the card itself, and what goes with it. */
#ifndef CONTEXTS_H
#define CONTEXTS_H
#include "driver.h"

/* Everything noted as the context's is gone: its bytes go back. */
void context_gone(CUcontext context);

#endif
