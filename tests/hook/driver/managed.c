/* Managed memory: allocation, page-in by kernels, moves. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "managed.h"

#define HOST_PAGE_BYTES 4096
#define HOST_PAGES_OF_PAGE (MEMORY_GRANULE_BYTES / HOST_PAGE_BYTES)

static uint64_t key_last;

struct managed_page *managed_page_at(struct memory_range *range, uint64_t address, uint64_t *key) {
    struct managed *managed = range->body;
    uint64_t index = (address - range->address) / MEMORY_GRANULE_BYTES;
    *key = managed->key + index;
    return &managed->page[index];
}

bool managed_on_card(const struct managed_page *page, uint64_t key, int card) {
    return page->state == MANAGED_CARD && page->card == card && frames_holds(card, page->frame, key);
}

static double page_in_bytes_per_ns;

__attribute__((constructor)) static void read_speed(void) {
    const char *text = getenv("EGPU_SIM_PAGE_IN_GIBPS");
    double gibps = text != NULL ? atof(text) : 0;
    page_in_bytes_per_ns = (gibps > 0 ? gibps : MEMORY_PAGE_IN_GIBPS_DEFAULT) * (double)(1 << 30) / 1e9;
}

uint64_t managed_transfer_ns(uint64_t bytes) {
    return (uint64_t)((double)bytes / page_in_bytes_per_ns) * sim_fault_factor(SIM_FAULT_PAGE_IN);
}

/* The processor's writes cannot be seen; that it wrote at all shows in the pages the kernel had to give it. */
static bool host_has_touched(const struct memory_range *range, uint64_t index) {
    unsigned char present[HOST_PAGES_OF_PAGE];
    if (mincore((char *)range->address + index * MEMORY_GRANULE_BYTES, MEMORY_GRANULE_BYTES, present) != 0)
        return true;
    return memchr(present, 1, sizeof present) != NULL;
}

/* Where the page's data are, now that another process may have thrown it out. */
static void settle(struct memory_range *range, struct managed_page *page, uint64_t key) {
    struct managed *managed = range->body;
    if (page->state == MANAGED_CARD && !frames_holds(page->card, page->frame, key)) {
        page->state = MANAGED_HOST;
        page->frame = 0;
        page->duplicated = 0;
    }
    if (page->state == MANAGED_NEW && host_has_touched(range, key - managed->key))
        page->state = MANAGED_HOST;
}

static struct sim_share *my_share(int card) { return &sim_state()->processes[sim_process_index()].shares[card]; }

static void leave_card(struct managed_page *page, struct frames_moved *moved) {
    if (page->state != MANAGED_CARD)
        return;
    frames_drop(page->card, page->frame);
    if (!page->duplicated) {
        moved->out_bytes += MEMORY_GRANULE_BYTES;
        my_share(page->card)->migrated_out_bytes += MEMORY_GRANULE_BYTES;
    }
    page->state = MANAGED_HOST;
    page->frame = 0;
    page->duplicated = 0;
}

static void enter_card(struct managed_page *page, uint64_t key, int card, struct frames_moved *moved) {
    if (page->state == MANAGED_CARD && page->card == card) {
        frames_use(card, page->frame, page->duplicated);
        return;
    }
    leave_card(page, moved);
    bool duplicated = page->read_mostly && page->state == MANAGED_HOST;
    uint32_t frame = frames_claim(card, key, duplicated, moved);
    if (frame == 0)
        return; /* Plain memory fills the card: the page stays on the host and is read over the bus. */
    if (page->state == MANAGED_HOST)
        moved->in_bytes += MEMORY_GRANULE_BYTES;
    page->state = MANAGED_CARD;
    page->card = (uint8_t)card;
    page->frame = frame;
    page->duplicated = duplicated;
}

/* A page preferred elsewhere and mapped for this card is reached over the bus and stays; also one already refused. */
static bool stays_for_fault(const struct managed_page *page, int card) {
    if (page->state == MANAGED_CARD && page->card == card)
        return false;
    bool elsewhere = page->preferred != MANAGED_PREFERRED_NONE && page->preferred != card;
    return elsewhere && (page->accessed_by_cards >> card & 1);
}

struct frames_moved managed_move(struct memory_range *range, uint64_t address, uint64_t bytes, int place,
                                 bool by_fault) {
    struct frames_moved moved = {0, 0};
    uint64_t end = address + bytes;
    sim_lock();
    for (uint64_t at = address / MEMORY_GRANULE_BYTES * MEMORY_GRANULE_BYTES; at < end; at += MEMORY_GRANULE_BYTES) {
        uint64_t key;
        struct managed_page *page = managed_page_at(range, at, &key);
        settle(range, page, key);
        if (place == CU_DEVICE_CPU)
            leave_card(page, &moved);
        else if (!by_fault || !stays_for_fault(page, place))
            enter_card(page, key, place, &moved);
        else
            moved.in_bytes += MEMORY_GRANULE_BYTES; /* Over the bus, page by page, for this access only. */
    }
    if (place != CU_DEVICE_CPU)
        my_share(place)->migrated_in_bytes += moved.in_bytes;
    sim_unlock();
    return moved;
}

void managed_discard(struct memory_range *range, uint64_t address, uint64_t bytes) {
    sim_lock();
    for (uint64_t at = memory_round_up(address, MEMORY_GRANULE_BYTES); at + MEMORY_GRANULE_BYTES <= address + bytes;
         at += MEMORY_GRANULE_BYTES) {
        uint64_t key;
        struct managed_page *page = managed_page_at(range, at, &key);
        if (managed_on_card(page, key, page->card))
            frames_drop(page->card, page->frame);
        page->state = MANAGED_NEW;
        page->frame = 0;
        page->duplicated = 0;
        madvise((void *)at, MEMORY_GRANULE_BYTES, MADV_DONTNEED);
    }
    sim_unlock();
}

void managed_free(struct memory_range *range) {
    struct managed *managed = range->body;
    sim_lock();
    for (uint64_t index = 0; index < managed->pages; index++) {
        struct managed_page *page = &managed->page[index];
        if (managed_on_card(page, managed->key + index, page->card))
            frames_drop(page->card, page->frame);
    }
    sim_unlock();
    card_memory_count_managed(range->card, -(int64_t)range->bytes);
    free(managed);
    munmap((void *)range->address, memory_round_up(range->bytes, MEMORY_GRANULE_BYTES));
}

CUresult managed_add(int card, uint64_t bytes, unsigned flags, CUcontext context, CUmemoryPool pool,
                     CUdeviceptr *address) {
    if (bytes > UINT64_MAX / 2)
        return CUDA_ERROR_OUT_OF_MEMORY;
    uint64_t pages = memory_round_up(bytes, MEMORY_GRANULE_BYTES) / MEMORY_GRANULE_BYTES;
    struct managed *managed = calloc(1, sizeof *managed + pages * sizeof managed->page[0]);
    void *start = managed == NULL ? NULL : block_map(pages * MEMORY_GRANULE_BYTES, true);
    if (start == NULL) {
        free(managed);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    managed->key = key_last + 1;
    key_last += pages;
    managed->pages = pages;
    managed->attach_flags = flags;
    managed->pool = pool;
    for (uint64_t index = 0; index < pages; index++)
        managed->page[index].preferred = managed->page[index].prefetched = MANAGED_PREFERRED_NONE;
    struct memory_range range = {.address = (uint64_t)start, .bytes = bytes, .kind = MEMORY_MANAGED, .card = card,
                                 .context = context, .flags = flags, .body = managed};
    addresses_add(&range);
    card_memory_count_managed(card, (int64_t)bytes);
    *address = range.address;
    return CUDA_SUCCESS;
}

/* The cost of a kernel's touching [pointer, pointer + bytes) beyond its own time: pages that are not there come in. */
uint64_t sim_touch_managed(struct sim_context *context, CUdeviceptr pointer, uint64_t bytes) {
    uint64_t moved_bytes = 0;
    memory_enter();
    struct memory_range *range = addresses_find(pointer);
    if (range != NULL && range->kind == MEMORY_MANAGED && bytes > 0) {
        uint64_t room = range->address + range->bytes - pointer;
        struct frames_moved moved =
            managed_move(range, pointer, bytes < room ? bytes : room, context->card, true);
        moved_bytes = moved.in_bytes + moved.out_bytes;
    }
    memory_leave();
    return managed_transfer_ns(moved_bytes);
}
