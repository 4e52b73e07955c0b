/* Memory quota as arithmetic over the words of `usage`: no lock, no driver, no clock. The caller holds the lock. */
#ifndef QUOTA_H
#define QUOTA_H
#include "../include/egpu_region.h"

#include <stdbool.h>

enum quota_answer { QUOTA_GRANTED, QUOTA_REFUSED };

/* What a process is charged on a card: the sum of its classes. Saturates. */
uint64_t quota_charge(const struct egpu_slot_card *slot);

/* Takes bytes out of the quota for a process, or leaves everything as it was. */
enum quota_answer quota_reserve(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class,
                                uint64_t bytes, uint64_t quota_bytes);
/* As reserve, but never refused: what already exists is charged even above the quota. */
void quota_charge_anyway(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class,
                         uint64_t bytes);
/* Gives bytes back; at most what the class holds. */
void quota_give_back(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class, uint64_t bytes);
/* As reserve, where `seen_bytes` of them exist and may be charged as unaccounted: what is becomes the class's. */
enum quota_answer quota_reserve_seen(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class,
                                     uint64_t bytes, uint64_t seen_bytes, uint64_t quota_bytes);
/* Sets a class to what was measured: from then on the charge is max(counted, seen). */
void quota_true_up(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint64_t seen_bytes);
/* A process is gone: its charge returns to the quota, its counters go on in the container's. */
void quota_depart(struct egpu_card_usage *card, struct egpu_slot_card *slot);
/* The total as the sum of the slots in use. */
void quota_recompute(struct egpu_usage *usage, uint32_t card);

/* Host memory of all processes together: what is page-locked, and room for what may be moved out. A host quota of 0 is no
 * limit. */
enum quota_answer quota_reserve_host(struct egpu_usage *usage, uint32_t card, struct egpu_slot_card *slot, uint64_t bytes,
                                     const struct egpu_card_limits *limits);
/* Whether so much more that can be moved out would still find room there, all of it at once. */
bool quota_host_has_room(const struct egpu_usage *usage, uint32_t card, uint64_t movable_bytes,
                         const struct egpu_card_limits *limits);
void quota_give_back_host(struct egpu_slot_card *slot, uint64_t bytes);

/* What an application may see as free: never more than the driver has. */
uint64_t quota_free(uint64_t quota_bytes, uint64_t charged_bytes, uint64_t driver_free_bytes);

#endif
