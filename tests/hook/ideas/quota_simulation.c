/* quota.c against a plain model: quota_simulation FIRST_SEED SEEDS STEPS. Many processes on one card reserve, free, are
 * seen by the driver, leave and die; after every step the words of `usage` must say what the model says. */
#include "quota.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "seed %llu step %u: %s\n", seed, step, #condition);                                        \
            return 1;                                                                                                  \
        }                                                                                                              \
    } while (0)

enum { SLOTS = 12, CARD = 3, BYTES_MAX = 1000 };
static const uint64_t QUOTA_BYTES = 5000;

struct model {
    uint64_t classes[SLOTS][EGPU_MEMORY_CLASS_COUNT];
    uint64_t resident[SLOTS];
    uint64_t busy[SLOTS];
    uint64_t departed_busy;
};

static struct egpu_usage usage;
static struct model model;

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static uint64_t held(unsigned slot) {
    uint64_t sum = 0;
    for (unsigned each = 0; each < EGPU_MEMORY_CLASS_COUNT; each++)
        sum += model.classes[slot][each];
    return sum;
}

static uint64_t total(void) {
    uint64_t sum = 0;
    for (unsigned slot = 0; slot < SLOTS; slot++)
        sum += held(slot);
    return sum;
}

static uint64_t above(uint64_t a, uint64_t b) { return a > b ? a - b : 0; }

/* max(counted, seen), where what is movable counts by its virtual size and is seen by what is resident. */
static uint64_t unaccounted(unsigned slot, uint64_t seen) {
    uint64_t movable = model.classes[slot][EGPU_MEMORY_OVERSUBSCRIBED];
    uint64_t counted = held(slot) - model.classes[slot][EGPU_MEMORY_UNACCOUNTED] - movable;
    return above(above(seen, model.resident[slot]), counted);
}

/* 0, or 1 when the answer is not the model's. */
static int one_step(uint64_t *random, unsigned long long seed, unsigned step) {
    unsigned slot = (unsigned)(next_random(random) % SLOTS);
    uint32_t memory_class = (uint32_t)(next_random(random) % EGPU_MEMORY_UNACCOUNTED);
    uint64_t bytes = next_random(random) % BYTES_MAX;
    struct egpu_card_usage *card = &usage.cards[CARD];
    struct egpu_slot_card *own = &usage.slots[slot].cards[CARD];
    uint64_t *mine = &model.classes[slot][memory_class];
    switch (next_random(random) % 8) {
    case 0:
    case 1: {
        bool fits = bytes == 0 || (total() <= QUOTA_BYTES && bytes <= QUOTA_BYTES - total());
        bool granted = quota_reserve(card, own, memory_class, bytes, QUOTA_BYTES) == QUOTA_GRANTED;
        CHECK(granted == fits);
        *mine += granted ? bytes : 0;
        CHECK(!granted || bytes == 0 || card->charged_bytes <= QUOTA_BYTES);
        break;
    }
    case 2:
        CHECK(quota_reserve(card, own, memory_class, UINT64_MAX - bytes, QUOTA_BYTES) == QUOTA_REFUSED);
        quota_give_back(card, own, memory_class, bytes);
        *mine -= bytes < *mine ? bytes : *mine;
        break;
    case 3:
        quota_charge_anyway(card, own, memory_class, bytes);
        *mine += bytes;
        break;
    case 4:
        own->resident_bytes = model.resident[slot] = bytes / 2;
        quota_true_up(card, own, bytes * 3);
        model.classes[slot][EGPU_MEMORY_UNACCOUNTED] = unaccounted(slot, bytes * 3);
        break;
    case 5: {
        uint64_t *beyond = &model.classes[slot][EGPU_MEMORY_UNACCOUNTED], seen = bytes / 2, taken = seen < *beyond ? seen : *beyond;
        bool fits = bytes == taken || (total() <= QUOTA_BYTES && bytes - taken <= QUOTA_BYTES - total());
        CHECK((quota_reserve_seen(card, own, memory_class, bytes, seen, QUOTA_BYTES) == QUOTA_GRANTED) == fits);
        *mine += fits ? bytes : 0;
        *beyond -= fits ? taken : 0;
        break;
    }
    case 6:
        own->busy_ns += bytes;
        model.busy[slot] += bytes;
        break;
    default:
        quota_depart(card, own);
        model.departed_busy += model.busy[slot];
        model.busy[slot] = model.resident[slot] = 0;
        memset(model.classes[slot], 0, sizeof model.classes[slot]);
        break;
    }
    CHECK(card->charged_bytes == total());
    CHECK(quota_charge(own) == held(slot));
    CHECK(own->resident_bytes == model.resident[slot]);
    CHECK(card->charged_bytes_max >= card->charged_bytes);
    CHECK(card->departed_busy_ns == model.departed_busy);
    CHECK(quota_free(QUOTA_BYTES, card->charged_bytes, bytes) <= bytes);
    CHECK(quota_free(QUOTA_BYTES, card->charged_bytes, UINT64_MAX) == above(QUOTA_BYTES, total()));
    return 0;
}

/* 0, or 1 when the seed found a difference. */
static int one_seed(unsigned long long seed, unsigned steps) {
    uint64_t random = seed * 2654435761u + 1;
    memset(&usage, 0, sizeof usage);
    memset(&model, 0, sizeof model);
    usage.head.slot_count_used = SLOTS;
    for (unsigned slot = 0; slot < SLOTS; slot++)
        usage.slots[slot].pid = slot + 1;
    for (unsigned step = 0; step < steps; step++) {
        if (one_step(&random, seed, step) != 0)
            return 1;
        /* Who died between two words left any total at all. */
        if (step % 50 == 0) {
            usage.cards[CARD].charged_bytes = next_random(&random);
            quota_recompute(&usage, CARD);
            CHECK(usage.cards[CARD].charged_bytes == total());
        }
    }
    return 0;
}

int main(int count, char **arguments) {
    if (count != 4)
        return 2;
    unsigned long long first = strtoull(arguments[1], NULL, 10), seeds = strtoull(arguments[2], NULL, 10);
    unsigned steps = (unsigned)strtoul(arguments[3], NULL, 10);
    for (unsigned long long seed = first; seed < first + seeds; seed++)
        if (one_seed(seed, steps) != 0)
            return 1;
    printf("%llu\n", seeds);
    return 0;
}
