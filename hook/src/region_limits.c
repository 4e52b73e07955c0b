#define _GNU_SOURCE
#include "region_files.h"

#include "clock.h"

#include <sched.h>
#include <string.h>
#include <time.h>

enum {
    COPY_COUNT = 8,     /* a copy is written over only after this many further changes: readers hold one for microseconds */
    PAUSE_NS = 1000000, /* a millisecond */
    MILLISECONDS_PER_SECOND = 1000,
    READ_TRIES_MAX = 64 /* then the last good copy stays: an agent that died while it wrote must not hold up anyone */
};

static const struct egpu_limits *limits_file;
static struct egpu_limits limits_copies[COPY_COUNT];
static struct egpu_limits *limits_now;
static unsigned limits_turn;
static pthread_mutex_t renewing = PTHREAD_MUTEX_INITIALIZER;

bool region_copy_whole(void *to, const void *from, size_t bytes, const uint64_t *generation) {
    for (int attempt = 0; attempt < READ_TRIES_MAX; attempt++) {
        uint64_t before = __atomic_load_n(generation, __ATOMIC_ACQUIRE);
        if (before % 2 == 0) {
            for (size_t word = 0; word < bytes / sizeof(uint64_t); word++)
                ((any_word *)to)[word] = __atomic_load_n((const any_word *)from + word, __ATOMIC_ACQUIRE);
            if (__atomic_load_n(generation, __ATOMIC_RELAXED) == before)
                return true;
        }
        sched_yield();
    }
    return false;
}

static bool readable(const struct egpu_limits *limits) {
    return limits->magic == EGPU_LIMITS_MAGIC && limits->version == EGPU_REGION_VERSION &&
           limits->card_count <= EGPU_CARD_COUNT_MAX;
}

static uint64_t real_milliseconds(void) {
    struct timespec now;
    clock_read(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * MILLISECONDS_PER_SECOND + (uint64_t)now.tv_nsec / PAUSE_NS;
}

/* Waited for by the clock: on a busy machine a pause or a yield may take any time. */
bool limits_begin(const struct egpu_limits *limits, int milliseconds) {
    limits_file = limits;
    struct egpu_limits *first = &limits_copies[0];
    uint64_t until = real_milliseconds() + (uint64_t)milliseconds;
    bool whole;
    while (!(whole = region_copy_whole(first, limits, sizeof *limits, &limits->generation)) &&
           __atomic_load_n(&limits->magic, __ATOMIC_RELAXED) == EGPU_LIMITS_MAGIC && real_milliseconds() < until)
        nanosleep(&(struct timespec){.tv_nsec = PAUSE_NS}, NULL);
    if (!whole || !readable(first))
        return false;
    __atomic_store_n(&limits_now, first, __ATOMIC_RELEASE);
    return true;
}

void limits_after_fork(void) { pthread_mutex_init(&renewing, NULL); }

/* Slots are kept by row, so a row may be added but none may become another card. */
static bool same_rows(const struct egpu_limits *before, const struct egpu_limits *after) {
    if (after->card_count < before->card_count)
        return false;
    for (uint32_t card = 0; card < before->card_count; card++)
        if (memcmp(before->cards[card].uuid, after->cards[card].uuid, EGPU_UUID_BYTES_MAX) != 0)
            return false;
    return true;
}

static struct egpu_limits *renew(struct egpu_limits *old) {
    /* Another thread is at it: the old copy is good until then. */
    if (pthread_mutex_trylock(&renewing) != 0)
        return old;
    struct egpu_limits *next = &limits_copies[(limits_turn + 1) % COPY_COUNT];
    if (region_copy_whole(next, limits_file, sizeof *next, &limits_file->generation)) {
        if (readable(next) && same_rows(old, next)) {
            limits_turn++;
            __atomic_store_n(&limits_now, next, __ATOMIC_RELEASE);
            old = next;
        } else {
            region_complain("the limits were changed into something this hook cannot follow: the old ones stay");
        }
    }
    pthread_mutex_unlock(&renewing);
    return old;
}

static const struct egpu_limits *limits_get(void) {
    struct egpu_limits *now = __atomic_load_n(&limits_now, __ATOMIC_ACQUIRE);
    uint64_t generation = __atomic_load_n(&limits_file->generation, __ATOMIC_ACQUIRE);
    if (__builtin_expect(generation != now->generation && generation % 2 == 0, 0))
        return renew(now);
    return now;
}

int region_card_count(void) { return region_get() == NULL ? 0 : (int)limits_get()->card_count; }

int region_card_by_uuid(const char *uuid) {
    if (region_get() == NULL)
        return -1;
    const struct egpu_limits *limits = limits_get();
    for (uint32_t card = 0; card < limits->card_count; card++)
        if (strncmp(limits->cards[card].uuid, uuid, EGPU_UUID_BYTES_MAX) == 0)
            return (int)card;
    return -1;
}

const struct egpu_card_limits *region_limits(int card) {
    if (region_get() == NULL)
        return NULL;
    const struct egpu_limits *limits = limits_get();
    return card >= 0 && card < (int)limits->card_count ? &limits->cards[card] : NULL;
}

uint64_t limits_generation(void) { return __atomic_load_n(&limits_now, __ATOMIC_ACQUIRE)->generation; }
