/* Managed memory: pages of 2 MiB that live on the host or on a card, and move.
 *
 * A page knows the frame of the card it was put into; whether it still is there, the frame says (frames.c): any process
 * may have thrown it out since. So nobody writes into another process' tables, and a killed process leaves only frames. */
#ifndef EGPU_SIM_MANAGED_H
#define EGPU_SIM_MANAGED_H

#include "memory.h"

#define MANAGED_PREFERRED_NONE (-2)
#define MANAGED_CARDS_MAX 16

enum managed_state {
    MANAGED_NEW,  /* never written by a card: nothing to move when a card touches it first */
    MANAGED_HOST, /* its data are on the host */
    MANAGED_CARD, /* its data are on the card, if its frame still says so */
};

struct managed_page {
    uint32_t frame; /* of `card`; 0: none */
    uint8_t state;
    uint8_t card;
    uint8_t read_mostly;
    uint8_t duplicated; /* read-mostly and on the card: the host's copy is as good, to leave costs nothing */
    int8_t preferred;   /* a card, CU_DEVICE_CPU or MANAGED_PREFERRED_NONE */
    int8_t prefetched;  /* likewise */
    uint16_t accessed_by_cards;
    uint8_t accessed_by_host;
};

struct managed {
    uint64_t key; /* of the first page; the following pages count on; unique in the process */
    uint64_t pages;
    unsigned attach_flags;
    CUmemoryPool pool; /* of whose managed pool it is; NULL: of cuMemAllocManaged */
    struct managed_page page[];
};

/* frames.c: the frames of the cards in the shared state, in order of last use. Inside sim_lock(). */
struct frames_moved {
    uint64_t in_bytes;
    uint64_t out_bytes;
};
/* A frame for the page, if need be out of the least recently used one's. 0 when plain memory fills the card. */
uint32_t frames_claim(int card, uint64_t key, bool clean, struct frames_moved *moved);
bool frames_holds(int card, uint32_t frame, uint64_t key);
void frames_use(int card, uint32_t frame, bool clean);
void frames_drop(int card, uint32_t frame);
uint64_t frames_bytes(int card);
/* Throws out pages until `bytes` are free beside them; false when there are not so many. */
bool frames_make_room(int card, uint64_t bytes, struct frames_moved *moved);
/* What a process that is gone leaves. */
void frames_forget_process(uint32_t process);

/* managed.c */
struct managed_page *managed_page_at(struct memory_range *range, uint64_t address, uint64_t *key);
bool managed_on_card(const struct managed_page *page, uint64_t key, int card);
/* Moves the pages of [address, address + bytes) to the card or to the host; what was moved. Under memory_enter(). */
struct frames_moved managed_move(struct memory_range *range, uint64_t address, uint64_t bytes, int place, bool by_fault);
/* The pages' data are worth nothing from now on: what is on the card goes without traffic. */
void managed_discard(struct memory_range *range, uint64_t address, uint64_t bytes);
CUresult managed_add(int card, uint64_t bytes, unsigned flags, CUcontext context, CUmemoryPool pool, CUdeviceptr *address);
void managed_free(struct memory_range *range);
uint64_t managed_transfer_ns(uint64_t bytes);

#endif
