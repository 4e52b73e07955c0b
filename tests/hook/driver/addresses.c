/* The ranges of this process in order of address: an array, found by halving. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"

#define ADDRESSES_FIRST 64

static struct {
    struct memory_range **items;
    size_t count;
    size_t room;
    uint64_t buffer_id_last;
} addresses;

static pthread_mutex_t memory_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t memory_once = PTHREAD_ONCE_INIT;

static void forked_child(void) {
    pthread_mutex_init(&memory_mutex, NULL);
    addresses.count = 0;
    arrays_forked();
    blocks_forked();
    pools_forked();
    graph_memory_forked();
    physical_memory_forked();
    virtual_memory_forked();
}

static void register_fork(void) { pthread_atfork(NULL, NULL, forked_child); }

void memory_enter(void) {
    pthread_once(&memory_once, register_fork);
    pthread_mutex_lock(&memory_mutex);
}

void memory_leave(void) { pthread_mutex_unlock(&memory_mutex); }

uint64_t memory_round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

/* The first range that starts after `address`. */
static size_t upper_bound(uint64_t address) {
    size_t low = 0, high = addresses.count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (addresses.items[middle]->address <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct memory_range *addresses_at(size_t index) { return index < addresses.count ? addresses.items[index] : NULL; }

struct memory_range *addresses_find(uint64_t address) {
    size_t next = upper_bound(address);
    if (next == 0)
        return NULL;
    struct memory_range *range = addresses.items[next - 1];
    return address - range->address < range->bytes ? range : NULL;
}

bool addresses_overlap(uint64_t address, uint64_t bytes) {
    size_t next = upper_bound(address);
    if (next > 0 && address - addresses.items[next - 1]->address < addresses.items[next - 1]->bytes)
        return true;
    return next < addresses.count && addresses.items[next]->address - address < bytes;
}

struct memory_range *addresses_add(const struct memory_range *range) {
    if (addresses.count == addresses.room) {
        size_t room = addresses.room ? addresses.room * 2 : ADDRESSES_FIRST;
        struct memory_range **items = realloc(addresses.items, room * sizeof *items);
        if (items == NULL)
            return NULL;
        addresses.items = items;
        addresses.room = room;
    }
    struct memory_range *copy = malloc(sizeof *copy);
    if (copy == NULL)
        return NULL;
    *copy = *range;
    copy->buffer_id = ++addresses.buffer_id_last;
    size_t place = upper_bound(range->address);
    memmove(&addresses.items[place + 1], &addresses.items[place],
            (addresses.count - place) * sizeof(struct memory_range *));
    addresses.items[place] = copy;
    addresses.count++;
    return copy;
}

void addresses_remove(struct memory_range *range) {
    size_t place = upper_bound(range->address) - 1;
    memmove(&addresses.items[place], &addresses.items[place + 1],
            (addresses.count - place - 1) * sizeof(struct memory_range *));
    addresses.count--;
    free(range);
}

uint64_t addresses_reach(uint64_t address) {
    struct memory_range *range = addresses_find(address);
    uint64_t end = address;
    while (range != NULL && !range->closed) {
        end = range->address + range->bytes;
        /* Neighbouring mappings of one reserved range are one to a copy (the pattern of growing segments). */
        range = range->kind == MEMORY_MAPPED ? addresses_find(end) : NULL;
        if (range != NULL && range->kind != MEMORY_MAPPED)
            break;
    }
    return end - address;
}
