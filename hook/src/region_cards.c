#define _GNU_SOURCE
#include "region_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct shared_card {
    uint64_t generation; /* of the limits, when the files were looked for */
    const struct egpu_card *card;
    struct egpu_page *own;
};
/* Made on first use: most containers share one card. */
static struct shared_card *shared_cards[EGPU_CARD_COUNT_MAX];
static pthread_mutex_t sharing = PTHREAD_MUTEX_INITIALIZER;

void cards_after_fork(void) { pthread_mutex_init(&sharing, NULL); }

static void *map_of_card(const char *uuid, const char *name, size_t bytes, bool writable) {
    char path[REGION_PATH_BYTES_MAX + 128];
    struct region *region = region_get();
    /* The uuid comes from the agent's file; a "/" in it would leave the folder. */
    if (region == NULL || strchr(uuid, '/') != NULL)
        return NULL;
    snprintf(path, sizeof path, "%s/cards/%s/%s", region->path, uuid, name);
    return region_map(path, bytes, writable);
}

struct egpu_page *region_map_page(const char *uuid, uint32_t index, bool writable) {
    char name[24];
    snprintf(name, sizeof name, "%u.page", index);
    return map_of_card(uuid, name, sizeof(struct egpu_page), writable);
}

/* With `sharing` held. */
static void share(struct shared_card *shared, const struct egpu_card_limits *limits) {
    if (limits->card_index >= EGPU_MEMBER_COUNT_MAX)
        return;
    const struct egpu_card *card = map_of_card(limits->uuid, "card", sizeof *card, false);
    struct egpu_page *own = region_map_page(limits->uuid, limits->card_index, true);
    if (card == NULL || own == NULL || card->magic != EGPU_CARD_MAGIC || card->version != EGPU_REGION_VERSION) {
        region_complain("the pages of a shared card cannot be used: its neighbours are not seen");
        return;
    }
    __atomic_store_n(&shared->own, own, __ATOMIC_RELEASE);
    __atomic_store_n(&shared->card, card, __ATOMIC_RELEASE);
}

static struct shared_card *share_again(int card, const struct egpu_card_limits *limits, uint64_t generation) {
    pthread_mutex_lock(&sharing);
    struct shared_card *shared = shared_cards[card];
    if (shared == NULL)
        shared = calloc(1, sizeof *shared);
    if (shared != NULL && shared->card == NULL) {
        share(shared, limits);
        __atomic_store_n(&shared->generation, generation, __ATOMIC_RELEASE);
        __atomic_store_n(&shared_cards[card], shared, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&sharing);
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
    const struct egpu_card_limits *limits = region_limits(card);
    if (limits == NULL)
        return NULL;
    uint64_t generation = limits_generation();
    if (shared == NULL || __atomic_load_n(&shared->generation, __ATOMIC_ACQUIRE) != generation)
        return share_again(card, limits, generation);
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
