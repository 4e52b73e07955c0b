/* What this process holds: from an address or a handle to what it was charged. A hash table under one lock. */
#ifndef POINTERS_H
#define POINTERS_H
#include "driver.h"

#include <stdbool.h>

enum holding_kind {
    HOLDING_ADDRESS, /* cuMemAlloc, pitched, managed, from pools */
    HOLDING_ARRAY,
    HOLDING_MIPMAP,
    HOLDING_PHYSICAL, /* cuMemCreate */
    HOLDING_MAPPING,  /* cuMemMap: an address of a HOLDING_PHYSICAL */
    HOLDING_MODULE,
    HOLDING_LIBRARY,
    HOLDING_CONTEXT,
    HOLDING_POOL,
    HOLDING_HOST, /* page-locked: charged apart from the card's memory */
};

struct holding {
    enum holding_kind kind;
    uint64_t key;
    int card;
    uint32_t memory_class;
    uint64_t bytes;
    CUcontext context;    /* dies with it; NULL: belongs to the process */
    uint64_t owner;       /* of an address: its pool; of a mapping: its physical handle; of a context not charged yet: its device */
    uint64_t references;  /* handles and mappings of physical memory */
    uint64_t retained_bytes; /* of a pool: freed by the application, kept by the pool */
    bool shared;             /* other processes may have it too, and still have it when this one lets go */
};

/* false when the host has no memory for the note. An older note of the same key goes: the driver gave the address anew. */
bool holding_add(const struct holding *holding);
/* Copies and removes. */
bool holding_take(enum holding_kind kind, uint64_t key, struct holding *holding);
bool holding_find(enum holding_kind kind, uint64_t key, struct holding *holding);
/* Changes a note in place under the table's lock; false when there is none. */
bool holding_change(enum holding_kind kind, uint64_t key, void (*change)(struct holding *, void *), void *argument);
/* Removes all that `matches` names, one by one, calling `each` outside the lock. */
void holdings_take_all(bool (*matches)(const struct holding *, const void *), const void *argument,
                       void (*each)(const struct holding *));
/* Copies the notes of one kind, at most `max` of them; returns how many. */
size_t holdings_copy(enum holding_kind kind, struct holding *list, size_t max);
/* What is one context's becomes another's. */
void holdings_move(CUcontext from, CUcontext to);
/* A child of fork holds nothing; this is called in it before anything else is. */
void holdings_forget(void);

#endif
