#include "movable.h"

#include "capture.h"
#include "clock.h"
#include "pointers.h"
#include "real.h"
#include "region.h"
#include "route.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct movable *movables; /* by start */
static size_t count, room;
static uint64_t sums_bytes[EGPU_CARD_COUNT_MAX]; /* of each card */

/* The driver gives memory of the card in pieces of this size. */
#define GRANULE_BYTES (UINT64_C(2) << 20)

static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* With the lock held: how many begin at or before the address. */
static size_t begun(CUdeviceptr address) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (movables[middle].start <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

bool movable_add(const struct movable *movable) {
    pthread_mutex_lock(&lock);
    if (count == room) {
        size_t more = room == 0 ? 64 : 2 * room;
        struct movable *grown = realloc(movables, more * sizeof *movables);
        if (grown == NULL) {
            pthread_mutex_unlock(&lock);
            return false;
        }
        movables = grown;
        room = more;
    }
    size_t place = begun(movable->start);
    sums_bytes[movable->card] += movable->bytes;
    if (place > 0 && movables[place - 1].start == movable->start) {
        sums_bytes[movables[place - 1].card] -= movables[place - 1].bytes;
        movables[place - 1] = *movable; /* its context was destroyed, and the driver gave the address anew */
    } else {
        memmove(&movables[place + 1], &movables[place], (count - place) * sizeof *movables);
        movables[place] = *movable;
        __atomic_store_n(&count, count + 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&lock);
    return true;
}

bool movable_remove(CUdeviceptr start) {
    if (__atomic_load_n(&count, __ATOMIC_ACQUIRE) == 0)
        return false;
    pthread_mutex_lock(&lock);
    size_t place = begun(start);
    bool found = place > 0 && movables[place - 1].start == start;
    if (found) {
        sums_bytes[movables[place - 1].card] -= movables[place - 1].bytes;
        memmove(&movables[place - 1], &movables[place], (count - place) * sizeof *movables);
        __atomic_store_n(&count, count - 1, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&lock);
    return found;
}

bool movable_find(CUdeviceptr address, struct movable *found) {
    if (__atomic_load_n(&count, __ATOMIC_ACQUIRE) == 0)
        return false;
    pthread_mutex_lock(&lock);
    size_t place = begun(address);
    bool inside = place > 0 && address - movables[place - 1].start < movables[place - 1].bytes;
    if (inside)
        *found = movables[place - 1];
    pthread_mutex_unlock(&lock);
    return inside;
}

uint64_t movable_sum_bytes(int card) {
    pthread_mutex_lock(&lock);
    uint64_t sum_bytes = sums_bytes[card];
    pthread_mutex_unlock(&lock);
    return sum_bytes;
}

/* Those that went with their context are still in the list. */
static bool still_there(const struct movable *movable) {
    struct holding holding;
    return holding_find(HOLDING_ADDRESS, movable->start, &holding) && holding.memory_class == EGPU_MEMORY_OVERSUBSCRIBED;
}

/* A copy to work from: allocations may come and go while pages move, and the driver refuses what is gone. */
static struct movable *copy_of_card(int card, size_t *copied) {
    pthread_mutex_lock(&lock);
    struct movable *copy = malloc((count + 1) * sizeof *copy);
    *copied = 0;
    for (size_t i = 0; copy != NULL && i < count; i++)
        if (movables[i].card == card && still_there(&movables[i]))
            copy[(*copied)++] = movables[i];
    pthread_mutex_unlock(&lock);
    return copy;
}

static void note_kept(CUdeviceptr start, uint64_t kept_bytes) {
    pthread_mutex_lock(&lock);
    size_t place = begun(start);
    if (place > 0 && movables[place - 1].start == start)
        movables[place - 1].kept_bytes = kept_bytes;
    pthread_mutex_unlock(&lock);
}

/* The form of CUDA 8 is exported by all drivers so far. */
static void prefetch(CUdeviceptr start, uint64_t bytes, CUdevice place, CUstream stream) {
    if (bytes > 0 && route_has(cuMemPrefetchAsync))
        real.cuMemPrefetchAsync(start, bytes, place, stream);
}

static void advise(CUdeviceptr start, uint64_t bytes, CUmem_advise advice, CUdevice place) {
    if (bytes > 0 && route_has(cuMemAdvise))
        real.cuMemAdvise(start, bytes, advice, place);
}

static void keep_on_card(const struct movable *movable, uint64_t from, uint64_t to) {
    advise(movable->start + from, to - from, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, movable->device);
    advise(movable->start + from, to - from, CU_MEM_ADVISE_UNSET_ACCESSED_BY, movable->device);
}

static void leave_on_host(const struct movable *movable, uint64_t from, uint64_t to) {
    advise(movable->start + from, to - from, CU_MEM_ADVISE_SET_PREFERRED_LOCATION, CU_DEVICE_CPU);
    advise(movable->start + from, to - from, CU_MEM_ADVISE_SET_ACCESSED_BY, movable->device);
}

static void set_kept(const struct movable *movable, uint64_t kept_bytes) {
    if (kept_bytes > movable->kept_bytes)
        keep_on_card(movable, movable->kept_bytes, kept_bytes);
    else if (kept_bytes < movable->kept_bytes)
        leave_on_host(movable, kept_bytes, movable->kept_bytes);
    if (kept_bytes != movable->kept_bytes)
        note_kept(movable->start, kept_bytes);
}

enum direction { BRING, SEND };

/* In a stream of its own, made and destroyed around each of these rare moves: so no context's end has to be followed. */
static struct movement move(int card, uint64_t kept_bytes, enum direction direction) {
    struct movement movement = {0, 0};
    size_t copied;
    struct movable *copy = copy_of_card(card, &copied);
    CUstream stream;
    struct capture_guard guard = capture_guard_begin();
    if (copy == NULL || copied == 0 || real.cuStreamCreate(&stream, CU_STREAM_NON_BLOCKING) != CUDA_SUCCESS) {
        capture_guard_end(guard);
        free(copy);
        return movement;
    }
    uint64_t start_ns = clock_now_ns(), all_bytes = 0;
    for (size_t i = 0; i < copied; i++)
        all_bytes += copy[i].bytes;
    kept_bytes = kept_bytes >= all_bytes ? UINT64_MAX : kept_bytes; /* whole, whatever the rounding takes */
    for (size_t i = 0; i < copied; i++) {
        uint64_t kept = least(copy[i].bytes, kept_bytes / GRANULE_BYTES * GRANULE_BYTES);
        kept_bytes -= least(kept_bytes, (kept + GRANULE_BYTES - 1) / GRANULE_BYTES * GRANULE_BYTES);
        if (direction == BRING) {
            set_kept(&copy[i], kept);
            prefetch(copy[i].start, kept, copy[i].device, stream);
            movement.bytes += kept;
        } else {
            prefetch(copy[i].start + kept, copy[i].bytes - kept, CU_DEVICE_CPU, stream);
            movement.bytes += copy[i].bytes - kept;
        }
    }
    real.cuStreamSynchronize(stream);
    movement.ns = clock_now_ns() - start_ns;
    real.cuStreamDestroy_v2(stream);
    capture_guard_end(guard);
    free(copy);
    return movement;
}

struct movement movable_bring(int card, uint64_t bytes) { return move(card, bytes, BRING); }

struct movement movable_send(int card, uint64_t kept_bytes) { return move(card, kept_bytes, SEND); }

void movable_release(int card) {
    size_t copied;
    struct movable *copy = copy_of_card(card, &copied);
    for (size_t i = 0; copy != NULL && i < copied; i++)
        set_kept(&copy[i], copy[i].bytes);
    free(copy);
}

void movable_after_fork(void) {
    pthread_mutex_init(&lock, NULL);
    count = 0;
    memset(sums_bytes, 0, sizeof sums_bytes);
}
