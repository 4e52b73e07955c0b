/* Pieces of a card, backed by host memory that costs nothing until it is touched.
 *
 * More than 1 MiB takes whole granules of 2 MiB; less takes units of 512 bytes in a slab of one granule, which many
 * small allocations share and which goes back to the card with the last of them. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "memory.h"

#define SLAB_UNITS (MEMORY_GRANULE_BYTES / MEMORY_UNIT_BYTES)

#define HOST_PAGE_BYTES 4096

struct memory_slab {
    struct memory_slab *next;
    int card;
    int file; /* -1: no other process maps it */
    uint64_t address;
    uint32_t used_units;
    uint32_t first_free; /* no free unit lies before this one */
    bool taken[SLAB_UNITS];
};

/* Files behind whole blocks that are shared, by address; few, so a list. */
struct shared_block {
    struct shared_block *next;
    uint64_t address;
    int file;
};

static struct memory_slab *slabs;
static struct shared_block *shared_blocks;

void *block_map(uint64_t bytes, bool accessible) {
    /* Aligned to the granule as the driver's addresses are, without huge pages: one touched byte is to cost one page. */
    uint64_t room = bytes + MEMORY_GRANULE_BYTES;
    char *raw = mmap(NULL, room, accessible ? PROT_READ | PROT_WRITE : PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return NULL;
    char *start = (char *)memory_round_up((uint64_t)raw, MEMORY_GRANULE_BYTES);
    if (start > raw)
        munmap(raw, (size_t)(start - raw));
    if (raw + room > start + bytes)
        munmap(start + bytes, (size_t)(raw + room - (start + bytes)));
    madvise(start, bytes, MADV_NOHUGEPAGE);
    return start;
}

static CUresult reserve_whole(int card, uint64_t bytes, struct memory_block *block) {
    if (bytes > UINT64_MAX - MEMORY_GRANULE_BYTES)
        return CUDA_ERROR_OUT_OF_MEMORY;
    bytes = memory_round_up(bytes, MEMORY_GRANULE_BYTES);
    CUresult result = card_memory_charge(card, bytes);
    if (result != CUDA_SUCCESS)
        return result;
    void *start = block_map(bytes, true);
    if (start == NULL) {
        card_memory_discharge(card, bytes);
        return CUDA_ERROR_OUT_OF_MEMORY;
    }
    *block = (struct memory_block){.card = card, .address = (uint64_t)start, .bytes = bytes};
    return CUDA_SUCCESS;
}

/* The first run of `units` free units, or SLAB_UNITS. */
static uint32_t find_run(const struct memory_slab *slab, uint32_t units) {
    if (SLAB_UNITS - slab->used_units < units)
        return SLAB_UNITS;
    uint32_t run = 0;
    for (uint32_t unit = slab->first_free; unit < SLAB_UNITS; unit++) {
        run = slab->taken[unit] ? 0 : run + 1;
        if (run == units)
            return unit + 1 - units;
    }
    return SLAB_UNITS;
}

static struct memory_slab *add_slab(int card, CUresult *result) {
    struct memory_slab *slab = calloc(1, sizeof *slab);
    struct memory_block whole;
    *result = slab == NULL ? CUDA_ERROR_OUT_OF_MEMORY : reserve_whole(card, MEMORY_GRANULE_BYTES, &whole);
    if (*result != CUDA_SUCCESS) {
        free(slab);
        return NULL;
    }
    slab->card = card;
    slab->file = -1;
    slab->address = whole.address;
    slab->next = slabs;
    slabs = slab;
    return slab;
}

static void mark(struct memory_slab *slab, uint32_t first, uint32_t units, bool taken) {
    memset(&slab->taken[first], taken, units);
    slab->used_units += taken ? units : -units;
    if (!taken && first < slab->first_free)
        slab->first_free = first;
    while (slab->first_free < SLAB_UNITS && slab->taken[slab->first_free])
        slab->first_free++;
}

static CUresult reserve_small(int card, uint64_t bytes, struct memory_block *block) {
    uint32_t units = (uint32_t)(memory_round_up(bytes, MEMORY_UNIT_BYTES) / MEMORY_UNIT_BYTES);
    struct memory_slab *slab = slabs;
    uint32_t first = SLAB_UNITS;
    for (; slab != NULL; slab = slab->next) {
        first = slab->card == card ? find_run(slab, units) : SLAB_UNITS;
        if (first < SLAB_UNITS)
            break;
    }
    if (slab == NULL) {
        CUresult result;
        slab = add_slab(card, &result);
        if (slab == NULL)
            return result;
        first = 0;
    }
    mark(slab, first, units, true);
    *block = (struct memory_block){.card = card,
                                   .address = slab->address + first * MEMORY_UNIT_BYTES,
                                   .bytes = units * MEMORY_UNIT_BYTES,
                                   .slab = slab};
    return CUDA_SUCCESS;
}

CUresult block_reserve(int card, uint64_t bytes, struct memory_block *block) {
    return bytes <= MEMORY_SMALL_BYTES_MAX ? reserve_small(card, bytes, block) : reserve_whole(card, bytes, block);
}

static void release_whole(struct memory_block *block) {
    for (struct shared_block **link = &shared_blocks; *link != NULL; link = &(*link)->next) {
        struct shared_block *shared = *link;
        if (shared->address == block->address) {
            *link = shared->next;
            close(shared->file);
            free(shared);
            break;
        }
    }
    munmap((void *)block->address, block->bytes);
    card_memory_discharge(block->card, block->bytes);
}

void block_release(struct memory_block *block) {
    struct memory_slab *slab = block->slab;
    if (slab == NULL) {
        release_whole(block);
        return;
    }
    mark(slab, (uint32_t)((block->address - slab->address) / MEMORY_UNIT_BYTES),
         (uint32_t)(block->bytes / MEMORY_UNIT_BYTES), false);
    if (slab->used_units > 0)
        return;
    struct memory_slab **link = &slabs;
    while (*link != slab)
        link = &(*link)->next;
    *link = slab->next;
    if (slab->file >= 0)
        close(slab->file);
    struct memory_block whole = {.card = slab->card, .address = slab->address, .bytes = MEMORY_GRANULE_BYTES};
    free(slab);
    release_whole(&whole);
}

/* Pages that hold only zeros are left out: to read one costs nothing, to write one costs a page. */
static void copy_touched(char *to, const char *from, uint64_t bytes) {
    static const char zeros[HOST_PAGE_BYTES];
    for (uint64_t at = 0; at < bytes; at += HOST_PAGE_BYTES)
        if (memcmp(from + at, zeros, HOST_PAGE_BYTES) != 0)
            memcpy(to + at, from + at, HOST_PAGE_BYTES);
}

/* Moves the bytes into a file and maps it in their place, so that no pointer changes. */
static int move_into_file(uint64_t address, uint64_t bytes) {
    int file = memfd_create("egpu-sim-memory", MFD_CLOEXEC);
    if (file < 0)
        return -1;
    void *copy = MAP_FAILED;
    if (ftruncate(file, (off_t)bytes) == 0)
        copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (copy == MAP_FAILED) {
        close(file);
        return -1;
    }
    copy_touched(copy, (const char *)address, bytes);
    if (mremap(copy, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED, (void *)address) == MAP_FAILED) {
        munmap(copy, bytes);
        close(file);
        return -1;
    }
    return file;
}

static struct shared_block *shared_at(uint64_t address) {
    struct shared_block *shared = shared_blocks;
    while (shared != NULL && shared->address != address)
        shared = shared->next;
    return shared;
}

bool block_shared(const struct memory_block *block) {
    return block->slab != NULL ? block->slab->file >= 0 : shared_at(block->address) != NULL;
}

int block_share(struct memory_block *block, uint64_t *offset) {
    struct memory_slab *slab = block->slab;
    if (slab != NULL) {
        if (slab->file < 0)
            slab->file = move_into_file(slab->address, MEMORY_GRANULE_BYTES);
        *offset = block->address - slab->address;
        return slab->file;
    }
    *offset = 0;
    struct shared_block *shared = shared_at(block->address);
    if (shared != NULL)
        return shared->file;
    shared = malloc(sizeof *shared);
    int file = shared == NULL ? -1 : move_into_file(block->address, block->bytes);
    if (file < 0) {
        free(shared);
        return -1;
    }
    *shared = (struct shared_block){.next = shared_blocks, .address = block->address, .file = file};
    shared_blocks = shared;
    return file;
}

void blocks_forked(void) {
    slabs = NULL;
    shared_blocks = NULL;
}
