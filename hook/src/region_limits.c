#define _GNU_SOURCE
#include "region_files.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    COPY_COUNT = 8,     /* a copy is written over only after this many further changes: readers hold one for microseconds */
    READ_TRIES_MAX = 64 /* then the last good copy stays: an agent that died while it wrote must not hold up anyone */
};

static const struct egpu_limits *limits_file;
static struct egpu_limits limits_copies[COPY_COUNT];
static struct egpu_limits *limits_now;
static unsigned limits_turn;
static pthread_mutex_t renewing = PTHREAD_MUTEX_INITIALIZER;

/* The other containers of one card, as they were at one generation of its file. */
struct neighbours {
    uint64_t generation;
    int count;
    const struct egpu_page *pages[EGPU_MEMBER_COUNT_MAX];
    struct egpu_member members[EGPU_MEMBER_COUNT_MAX];
};

struct shared_card {
    uint64_t generation; /* of the limits, when the files were looked for */
    const struct egpu_card *card;
    struct egpu_page *own;
    /* A page keeps its place as long as its card's folder is there; the agent empties it when its index changes hands. */
    const struct egpu_page *pages[EGPU_MEMBER_COUNT_MAX];
    struct neighbours *now;
    struct neighbours copies[COPY_COUNT];
    unsigned turn;
};
/* Made on first use: most containers share one card. */
static struct shared_card *shared_cards[EGPU_CARD_COUNT_MAX];

/* An even generation before and the same one after: nothing was written in between. */
static bool copy_whole(void *to, const void *from, size_t bytes, const uint64_t *generation) {
    for (int attempt = 0; attempt < READ_TRIES_MAX; attempt++) {
        uint64_t before = __atomic_load_n(generation, __ATOMIC_ACQUIRE);
        if (before % 2 == 0) {
            for (size_t word = 0; word < bytes / sizeof(uint64_t); word++)
                ((uint64_t *)to)[word] = __atomic_load_n((const uint64_t *)from + word, __ATOMIC_ACQUIRE);
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

bool limits_begin(const struct egpu_limits *limits) {
    limits_file = limits;
    struct egpu_limits *first = &limits_copies[0];
    if (!copy_whole(first, limits, sizeof *limits, &limits->generation) || !readable(first))
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
    if (copy_whole(next, limits_file, sizeof *next, &limits_file->generation)) {
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

static void *map_of_card(const char *uuid, const char *name, size_t bytes, bool writable) {
    char path[REGION_PATH_BYTES_MAX + 128];
    /* The uuid comes from the agent's file; a "/" in it would leave the folder. */
    if (strchr(uuid, '/') != NULL)
        return NULL;
    snprintf(path, sizeof path, "%s/cards/%s/%s", region_get()->path, uuid, name);
    return region_map(path, bytes, writable);
}

/* With `renewing` held. */
static void share(struct shared_card *shared, const struct egpu_card_limits *limits) {
    char name[24];
    if (limits->card_index >= EGPU_MEMBER_COUNT_MAX)
        return;
    const struct egpu_card *card = map_of_card(limits->uuid, "card", sizeof *card, false);
    snprintf(name, sizeof name, "%u.page", limits->card_index);
    struct egpu_page *own = map_of_card(limits->uuid, name, sizeof *own, true);
    if (card == NULL || own == NULL || card->magic != EGPU_CARD_MAGIC || card->version != EGPU_REGION_VERSION) {
        region_complain("the pages of a shared card cannot be used: its neighbours are not seen");
        return;
    }
    __atomic_store_n(&shared->own, own, __ATOMIC_RELEASE);
    __atomic_store_n(&shared->card, card, __ATOMIC_RELEASE);
}

static struct shared_card *share_again(int card, uint64_t generation) {
    pthread_mutex_lock(&renewing);
    struct shared_card *shared = shared_cards[card];
    if (shared == NULL)
        shared = calloc(1, sizeof *shared);
    if (shared != NULL && shared->card == NULL) {
        share(shared, &limits_now->cards[card]);
        __atomic_store_n(&shared->generation, generation, __ATOMIC_RELEASE);
        __atomic_store_n(&shared_cards[card], shared, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&renewing);
    return shared;
}

/* A card that is not shared is looked at again when the agent changed the limits; one that is stays so, and this is on
 * the way of every launch. */
static struct shared_card *shared_card(int card) {
    if (card < 0 || card >= (int)EGPU_CARD_COUNT_MAX)
        return NULL;
    struct shared_card *shared = __atomic_load_n(&shared_cards[card], __ATOMIC_ACQUIRE);
    if (__builtin_expect(shared != NULL && __atomic_load_n(&shared->card, __ATOMIC_ACQUIRE) != NULL, 1))
        return shared;
    if (region_limits(card) == NULL)
        return NULL;
    uint64_t generation = __atomic_load_n(&limits_now, __ATOMIC_ACQUIRE)->generation;
    if (shared == NULL || __atomic_load_n(&shared->generation, __ATOMIC_ACQUIRE) != generation)
        return share_again(card, generation);
    return shared;
}

struct egpu_page *region_page(int card) {
    struct shared_card *shared = shared_card(card);
    return shared == NULL ? NULL : __atomic_load_n(&shared->own, __ATOMIC_ACQUIRE);
}

const struct egpu_card *region_card(int card) {
    struct shared_card *shared = shared_card(card);
    return shared == NULL ? NULL : __atomic_load_n(&shared->card, __ATOMIC_ACQUIRE);
}

static const struct egpu_page *page_of(struct shared_card *shared, const struct egpu_card_limits *limits, uint32_t index) {
    char name[24];
    if (shared->pages[index] == NULL) {
        snprintf(name, sizeof name, "%u.page", index);
        shared->pages[index] = map_of_card(limits->uuid, name, sizeof(struct egpu_page), false);
    }
    return shared->pages[index];
}

/* With `renewing` held. The old copy stays when the file is being written. */
static void look_around(struct shared_card *shared, const struct egpu_card_limits *limits) {
    static struct egpu_card whole;
    if (!copy_whole(&whole, shared->card, sizeof whole, &shared->card->generation))
        return;
    struct neighbours *next = &shared->copies[shared->turn++ % COPY_COUNT];
    next->generation = whole.generation;
    next->count = 0;
    for (uint32_t index = 0; index < whole.member_count && index < EGPU_MEMBER_COUNT_MAX; index++) {
        if (!whole.members[index].present || index == limits->card_index)
            continue;
        const struct egpu_page *page = page_of(shared, limits, index);
        if (page == NULL)
            continue;
        next->pages[next->count] = page;
        next->members[next->count++] = whole.members[index];
    }
    __atomic_store_n(&shared->now, next, __ATOMIC_RELEASE);
}

int region_peers(int card, const struct egpu_page **pages, struct egpu_member *members, int max) {
    const struct egpu_card *file = region_card(card);
    if (file == NULL)
        return 0;
    struct shared_card *shared = shared_cards[card];
    struct neighbours *now = __atomic_load_n(&shared->now, __ATOMIC_ACQUIRE);
    uint64_t generation = __atomic_load_n(&file->generation, __ATOMIC_ACQUIRE);
    if (__builtin_expect(now == NULL || (generation != now->generation && generation % 2 == 0), 0)) {
        if (pthread_mutex_trylock(&renewing) == 0) {
            look_around(shared, region_limits(card));
            pthread_mutex_unlock(&renewing);
        }
        now = __atomic_load_n(&shared->now, __ATOMIC_ACQUIRE);
    }
    int count = now == NULL ? 0 : now->count < max ? now->count : max;
    if (count > 0) {
        memcpy(pages, now->pages, (size_t)count * sizeof pages[0]);
        memcpy(members, now->members, (size_t)count * sizeof members[0]);
    }
    return count;
}
