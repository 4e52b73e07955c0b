/* What an allocation does before and after the driver's call: quota under the lock, and a note of what was taken. */
#ifndef CHARGES_H
#define CHARGES_H
#include "driver.h"
#include "pointers.h"

/* CUDA_SUCCESS or CUDA_ERROR_OUT_OF_MEMORY, never anything else. With CARD_NONE everything is granted and nothing noted;
 * with CARD_FOREIGN everything is refused. A refusal first gives back what dead processes held. */
CUresult charge_reserve(int card, uint32_t memory_class, uint64_t bytes);
/* As reserve, out of a pool from whose kept memory `taken_bytes` come besides; 0: a pool nobody knows. */
CUresult charge_reserve_of_pool(int card, uint64_t bytes, uint64_t pool, uint64_t taken_bytes);
/* What this process was seen to have beyond what it counted. */
uint64_t charge_unaccounted(int card);
/* What exists already, above the quota too. */
void charge_anyway(int card, uint32_t memory_class, uint64_t bytes);
void charge_give_back(int card, uint32_t memory_class, uint64_t bytes);
/* Page-locked memory of the host, for which there is a quota of its own, or none. */
CUresult charge_reserve_host(int card, uint64_t bytes);
void charge_give_back_host(int card, uint64_t bytes);
/* A holding that was taken from the table: its bytes go back, or stay with its pool as far as that keeps them. */
void charge_release(const struct holding *holding);
/* Sets a class to what was measured, above the quota too. */
void charge_set(int card, uint32_t memory_class, uint64_t bytes);
/* The end of an allocation: on success the holding is noted, otherwise its bytes go back. Returns `result`, or
 * CUDA_ERROR_OUT_OF_MEMORY when the note could not be made and `undo` took the allocation back. */
CUresult charge_settle(CUresult result, const struct holding *holding, CUresult (*undo)(uint64_t key));

#endif
