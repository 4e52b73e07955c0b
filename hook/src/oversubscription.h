/* Shell of residency.c: device memory turned managed, turns at the launch path, pages moved when turns change.
 *
 * memory.c and pools.c ask oversubscription_active(card) before they allocate; launch.c, graphs.c and copies.c call
 * oversubscription_gate(card) before the throttle's gate (never for a capturing stream or inside a host callback), and
 * whoever measures a batch tells oversubscription_measured(). view.c hides what the memory really is. */
#ifndef OVERSUBSCRIPTION_H
#define OVERSUBSCRIPTION_H
#include "driver.h"

#include <stdbool.h>
#include <stdint.h>

/* New plain allocations of this container on the card become managed (the agent's `oversubscription` = 1). */
bool oversubscription_active(int card);

/* In place of the driver's call, with a context of that card current and the bytes reserved as
 * EGPU_MEMORY_OVERSUBSCRIBED. The address is freed by cuMemFree like any other. */
CUresult oversubscription_allocate(int card, CUdeviceptr *address, size_t bytes);
CUresult oversubscription_allocate_pitch(int card, CUdeviceptr *address, size_t *pitch_bytes, size_t width_bytes,
                                         size_t height, unsigned int element_bytes);
/* What the pitched form will take, to be reserved before. */
size_t oversubscription_pitch_bytes(size_t width_bytes);

/* The address lies in memory that was turned managed; if so, where it begins, how long it is, and its device (a
 * cuPointerGetAttribute of it answers IS_MANAGED = 0, MEMORY_TYPE = DEVICE, and this ordinal). Arguments may be NULL. */
bool oversubscription_owns(CUdeviceptr address, CUdeviceptr *start, size_t *bytes, CUdevice *device);
/* Before it is freed; false: none of ours. */
bool oversubscription_forget(CUdeviceptr address);

/* Memory came or went. */
void oversubscription_changed(int card);

/* Waits until it is this container's turn for the card, and brings its pages in. Two loads on a card where nobody is
 * oversubscribed. Holds no lock while it waits. */
void oversubscription_gate(int card);
/* A batch took elapsed_ns on the card, of which expected_ns were learned before (0: not known) and peers_ns belonged to
 * other containers: what is left over was spent waiting for pages. */
void oversubscription_measured(int card, uint64_t elapsed_ns, uint64_t expected_ns, uint64_t peers_ns);

#endif
