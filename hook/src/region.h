/* The shared files of this container (region.def): attached once, never blocking, never fatal. */
#ifndef REGION_H
#define REGION_H
#include "../include/egpu_region.h"

#include <stdbool.h>

enum region_state {
    REGION_ABSENT, /* not a container of ours: everything passes */
    REGION_READY,
    REGION_BROKEN, /* memory fails closed, compute fails open; said once on stderr */
};

/* Attaches at the first call of a process and again in a child after fork; afterwards one load. */
enum region_state region_state(void);
/* READY, or all there but a slot for this process: its memory cannot be counted, but the container's bucket is there. */
bool region_gates_launches(void);

/* A broken one may have been mended: looks again, at most once a second, never waits. true: it is READY, and this call made it
 * so. Not for the launch path. */
bool region_look_again(void);
/* A launch passes because the region is BROKEN and not only without a slot: counted for all to see, where that can be. */
void region_note_passed(void);

struct region;
/* NULL unless launches are gated. */
struct region *region_get(void);

/* Rows of `limits`: the container's cards. -1 when no row has this uuid ("GPU-..." as NVML writes it). */
int region_card_count(void);
int region_card_by_uuid(const char *uuid);

/* A consistent copy, renewed when the agent changed it: one load and one compare otherwise. NULL without a region or row. */
const struct egpu_card_limits *region_limits(int card);

/* What this process and all processes of the container use; NULL without a region. */
struct egpu_slot *region_slot(void);
struct egpu_slot_card *region_slot_card(int card);
struct egpu_card_usage *region_card_usage(int card);

/* The file as a whole, for sums over it. */
struct egpu_usage *region_usage(void);
/* All slots, for who only reads: pid 0 is a free one. NULL and 0 without a region. */
struct egpu_slot *region_slots(void);
uint32_t region_slot_count(void);

/* The container's lock over charged bytes. Short: no driver call, no waiting inside. false: the region is broken now. Who
 * died inside is cleaned up by who comes next: the totals are made anew from the slots of the living. */
bool region_lock(void);
void region_unlock(void);

/* Gives back what dead processes held; returns how many there were. Looks at them without the lock, which a thousand
 * processes would otherwise wait for, and takes it only when one is dead. */
int region_reap(void);
/* Only of this one of the slots. */
bool region_reap_slot(uint64_t index);
/* The same if nobody looked for REAP_PERIOD_NS. */
void region_reap_sometimes(void);

/* This container's page of a shared card, writable; NULL when the card is not shared. */
struct egpu_page *region_page(int card);
/* What the agent says of the card as a whole; NULL when it is not shared. Read its words by atomic loads. */
const struct egpu_card *region_card(int card);

/* One sentence on stderr, the first time only; counted in the slot, or without one for the container. */
void region_complain(const char *sentence);

#endif
