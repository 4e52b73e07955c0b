#include "true_up.h"

#include "clock.h"
#include "seen.h"
#include "quota.h"
#include "region.h"

#include <stdlib.h>

enum { SEEN_COUNT_MAX = 4096 };
static const uint64_t TRUE_UP_PERIOD_NS = 1000000000;
static const uint64_t TRUE_UP_AGAIN_NS = 100000000;

/* What was read of a slot before the driver was asked: an allocation in between would be counted on one side only. */
struct look {
    uint64_t pid;
    uint64_t operation_count;
    uint64_t bytes;
    bool seen;
};

static struct look look_at(const struct egpu_slot *slot) {
    struct look look = {.pid = __atomic_load_n(&slot->pid, __ATOMIC_ACQUIRE)};
    look.operation_count = __atomic_load_n(&slot->operation_count, __ATOMIC_ACQUIRE);
    return look;
}

static bool is_unchanged(const struct egpu_slot *slot, const struct look *look) {
    return look->pid != 0 && __atomic_load_n(&slot->pid, __ATOMIC_ACQUIRE) == look->pid &&
           __atomic_load_n(&slot->operation_count, __ATOMIC_ACQUIRE) == look->operation_count;
}

/* With the lock held. */
static void apply(int card, struct egpu_slot *slot, const struct look *look, uint64_t now) {
    struct egpu_slot_card *own = &slot->cards[card];
    if (!look->seen || !is_unchanged(slot, look))
        return;
    __atomic_store_n(&own->seen_bytes, look->bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&own->seen_operation_count, look->operation_count, __ATOMIC_RELAXED);
    __atomic_store_n(&own->seen_applied_ns, now, __ATOMIC_RELAXED);
    __atomic_store_n(&own->seen_ns, now, __ATOMIC_RELEASE);
    quota_true_up(region_card_usage(card), own, look->bytes);
}

/* What the agent wrote, which knows the processes by their numbers on the host. With the lock held. */
static void apply_agents(int card, struct egpu_slot *slot) {
    struct egpu_slot_card *own = &slot->cards[card];
    uint64_t when = __atomic_load_n(&own->seen_ns, __ATOMIC_ACQUIRE);
    if (when == __atomic_load_n(&own->seen_applied_ns, __ATOMIC_RELAXED))
        return;
    __atomic_store_n(&own->seen_applied_ns, when, __ATOMIC_RELAXED);
    uint64_t operations = __atomic_load_n(&own->seen_operation_count, __ATOMIC_RELAXED);
    if (operations == __atomic_load_n(&slot->operation_count, __ATOMIC_ACQUIRE))
        quota_true_up(region_card_usage(card), own, __atomic_load_n(&own->seen_bytes, __ATOMIC_RELAXED));
}

static void find_all(int card, const struct egpu_slot *slots, struct look *looks, uint32_t count) {
    uint64_t own_namespace = region_slot()->pid_namespace;
    struct seen *list = calloc(SEEN_COUNT_MAX, sizeof *list);
    unsigned int seen_count = list == NULL ? 0 : seen_all(card, list, SEEN_COUNT_MAX);
    for (uint32_t index = 0; index < count && seen_count > 0; index++) {
        /* Numbers of another PID namespace mean others. */
        if (looks[index].pid == 0 || slots[index].pid_namespace != own_namespace)
            continue;
        for (unsigned int each = 0; each < seen_count && !looks[index].seen; each++) {
            looks[index].seen = list[each].pid == looks[index].pid;
            looks[index].bytes = list[each].bytes;
        }
    }
    free(list);
}

void true_up_all(int card) {
    struct egpu_slot *slots = region_slots();
    uint32_t count = region_slot_count();
    struct look *looks = slots == NULL || region_slot() == NULL ? NULL : calloc(count, sizeof *looks);
    if (looks == NULL)
        return;
    for (uint32_t index = 0; index < count; index++)
        looks[index] = look_at(&slots[index]);
    find_all(card, slots, looks, count);
    if (region_lock()) {
        uint64_t now = clock_now_ns();
        for (uint32_t index = 0; index < count; index++) {
            if (looks[index].pid == 0)
                continue;
            apply_agents(card, &slots[index]);
            apply(card, &slots[index], &looks[index], now);
        }
        region_unlock();
    }
    free(looks);
}

void true_up_soon(int card) {
    struct egpu_card_usage *usage = region_card_usage(card);
    if (usage != NULL)
        __atomic_store_n(&usage->seen_all_ns, 0, __ATOMIC_RELAXED);
}

/* One process a period looks for all. */
static void all_sometimes(int card, uint64_t now) {
    struct egpu_card_usage *usage = region_card_usage(card);
    uint64_t last = usage == NULL ? now : __atomic_load_n(&usage->seen_all_ns, __ATOMIC_RELAXED);
    if (last != 0 && now >= last && now - last < TRUE_UP_PERIOD_NS)
        return;
    /* Who left gives back its charge a moment before the driver finds it gone, so there is a second look soon. */
    uint64_t stamp = last == 0 && now > TRUE_UP_PERIOD_NS ? now - TRUE_UP_PERIOD_NS + TRUE_UP_AGAIN_NS : now;
    if (__atomic_compare_exchange_n(&usage->seen_all_ns, &last, stamp, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        true_up_all(card);
}

static void own_now(int card, struct egpu_slot *slot, bool agents, uint64_t now) {
    struct look look = look_at(slot);
    look.seen = seen_own(card, &look.bytes);
    if ((!look.seen && !agents) || !region_lock())
        return;
    if (agents)
        apply_agents(card, slot);
    apply(card, slot, &look, now);
    region_unlock();
}

void true_up_sometimes(int card, bool is_context) {
    struct egpu_slot *slot = region_slot();
    if (slot == NULL)
        return;
    struct egpu_slot_card *own = &slot->cards[card];
    uint64_t now = clock_now_ns();
    if (!is_context || seen_is_recognised())
        all_sometimes(card, now);
    uint64_t last = __atomic_load_n(&own->seen_ns, __ATOMIC_RELAXED);
    bool agents = last != __atomic_load_n(&own->seen_applied_ns, __ATOMIC_RELAXED);
    if (agents || last == 0 || now < last || now - last >= TRUE_UP_PERIOD_NS)
        own_now(card, slot, agents, now);
}

void true_up_shown(int card) {
    struct egpu_slot *slot = region_slot();
    if (slot == NULL)
        return;
    const uint64_t *charged = slot->cards[card].charged_bytes;
    /* Of movable memory the driver shows what is on the card just now, which is known only roughly. */
    if (__atomic_load_n(&charged[EGPU_MEMORY_OVERSUBSCRIBED], __ATOMIC_RELAXED) > 0)
        return;
    true_up_sometimes(card, false);
    if (__atomic_load_n(&charged[EGPU_MEMORY_UNACCOUNTED], __ATOMIC_RELAXED) > 0)
        own_now(card, slot, false, clock_now_ns());
}
