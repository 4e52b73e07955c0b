#include "quota.h"

/* The agent and other processes read these words at any time without the lock. */
static uint64_t get(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static void put(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

static uint64_t add_saturated(uint64_t a, uint64_t b) { return b > UINT64_MAX - a ? UINT64_MAX : a + b; }
static uint64_t subtract_saturated(uint64_t a, uint64_t b) { return b > a ? 0 : a - b; }

uint64_t quota_charge(const struct egpu_slot_card *slot) {
    uint64_t sum = 0;
    for (uint32_t memory_class = 0; memory_class < EGPU_MEMORY_CLASS_COUNT; memory_class++)
        sum = add_saturated(sum, get(&slot->charged_bytes[memory_class]));
    return sum;
}

/* The slot's word first: who dies between the two leaves a total that the recovery makes anew from the slots. */
static void grow(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class, uint64_t bytes) {
    put(&slot->charged_bytes[memory_class], add_saturated(get(&slot->charged_bytes[memory_class]), bytes));
    uint64_t total = add_saturated(get(&card->charged_bytes), bytes);
    put(&card->charged_bytes, total);
    if (total > get(&card->charged_bytes_max))
        put(&card->charged_bytes_max, total);
}

enum quota_answer quota_reserve(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class,
                                uint64_t bytes, uint64_t quota_bytes) {
    uint64_t total = get(&card->charged_bytes);
    /* Work that needs nothing new (a graph launched again) goes on when the quota was lowered below what is held. */
    if (bytes == 0)
        return QUOTA_GRANTED;
    if (total > quota_bytes || bytes > quota_bytes - total)
        return QUOTA_REFUSED;
    grow(card, slot, memory_class, bytes);
    return QUOTA_GRANTED;
}

void quota_charge_anyway(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class,
                         uint64_t bytes) {
    grow(card, slot, memory_class, bytes);
}

void quota_give_back(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class, uint64_t bytes) {
    uint64_t held = get(&slot->charged_bytes[memory_class]);
    uint64_t back = bytes < held ? bytes : held;
    put(&slot->charged_bytes[memory_class], held - back);
    put(&card->charged_bytes, subtract_saturated(get(&card->charged_bytes), back));
}

enum quota_answer quota_reserve_seen(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint32_t memory_class,
                                     uint64_t bytes, uint64_t seen_bytes, uint64_t quota_bytes) {
    uint64_t beyond = get(&slot->charged_bytes[EGPU_MEMORY_UNACCOUNTED]);
    uint64_t taken = seen_bytes < beyond ? seen_bytes : beyond;
    if (quota_reserve(card, slot, memory_class, bytes - taken, quota_bytes) == QUOTA_REFUSED)
        return QUOTA_REFUSED;
    quota_give_back(card, slot, EGPU_MEMORY_UNACCOUNTED, taken);
    grow(card, slot, memory_class, taken);
    return QUOTA_GRANTED;
}

void quota_true_up(struct egpu_card_usage *card, struct egpu_slot_card *slot, uint64_t seen_bytes) {
    uint64_t before = get(&slot->charged_bytes[EGPU_MEMORY_UNACCOUNTED]);
    /* Oversubscribed memory is charged by its virtual size, of which the driver shows only what is resident now; the
     * driver's figure says nothing about it. */
    uint64_t virtual_bytes = get(&slot->charged_bytes[EGPU_MEMORY_OVERSUBSCRIBED]);
    uint64_t counted = subtract_saturated(quota_charge(slot), add_saturated(before, virtual_bytes));
    uint64_t resident = get(&slot->resident_bytes);
    uint64_t after = subtract_saturated(subtract_saturated(seen_bytes, resident), counted);
    if (after > before)
        grow(card, slot, EGPU_MEMORY_UNACCOUNTED, after - before);
    else
        quota_give_back(card, slot, EGPU_MEMORY_UNACCOUNTED, before - after);
}

static void move_counter(uint64_t *to, uint64_t *from) {
    uint64_t value = __atomic_exchange_n(from, 0, __ATOMIC_RELAXED);
    put(to, add_saturated(get(to), value));
}

void quota_depart(struct egpu_card_usage *card, struct egpu_slot_card *slot) {
    /* What it shared with others is theirs from now on, and they cannot know it. */
    if (quota_charge(slot) > 0)
        put(&card->seen_all_ns, 0);
    put(&card->charged_bytes, subtract_saturated(get(&card->charged_bytes), quota_charge(slot)));
    for (uint32_t memory_class = 0; memory_class < EGPU_MEMORY_CLASS_COUNT_MAX; memory_class++)
        put(&slot->charged_bytes[memory_class], 0);
    put(&slot->host_bytes, 0);
    put(&slot->resident_bytes, 0);
    put(&slot->seen_bytes, 0);
    put(&slot->seen_ns, 0);
    move_counter(&card->departed_busy_ns, &slot->busy_ns);
    move_counter(&card->departed_throttled_ns, &slot->throttled_ns);
    move_counter(&card->departed_preempted_ns, &slot->preempted_ns);
    move_counter(&card->departed_swapped_in_bytes, &slot->swapped_in_bytes);
    move_counter(&card->departed_swapped_out_bytes, &slot->swapped_out_bytes);
    move_counter(&card->departed_out_of_memory_count, &slot->out_of_memory_count);
    move_counter(&card->departed_launch_count, &slot->launch_count);
    move_counter(&card->departed_unlimited_count, &slot->unlimited_count);
    uint64_t last = __atomic_exchange_n(&slot->last_submit_ns, 0, __ATOMIC_RELAXED);
    if (last > get(&card->departed_last_submit_ns))
        put(&card->departed_last_submit_ns, last);
}

void quota_recompute(struct egpu_usage *usage, uint32_t card) {
    uint64_t sum = 0;
    uint32_t used = __atomic_load_n(&usage->head.slot_count_used, __ATOMIC_RELAXED);
    for (uint32_t index = 0; index < used && index < EGPU_SLOT_COUNT_MAX; index++)
        if (get(&usage->slots[index].pid) != 0)
            sum = add_saturated(sum, quota_charge(&usage->slots[index].cards[card]));
    put(&usage->cards[card].charged_bytes, sum);
}

/* Page-locked, and what lies on the host when all that can be moved is moved, but for what the agent says stays. */
static uint64_t host_bytes(const struct egpu_usage *usage, uint32_t card, uint64_t more_movable_bytes, uint64_t resident_bytes_min) {
    uint64_t sum = 0, movable = more_movable_bytes;
    uint32_t used = __atomic_load_n(&usage->head.slot_count_used, __ATOMIC_RELAXED);
    for (uint32_t index = 0; index < used && index < EGPU_SLOT_COUNT_MAX; index++)
        if (get(&usage->slots[index].pid) != 0) {
            const struct egpu_slot_card *slot = &usage->slots[index].cards[card];
            sum = add_saturated(sum, get(&slot->host_bytes));
            movable = add_saturated(movable, get(&slot->charged_bytes[EGPU_MEMORY_OVERSUBSCRIBED]));
        }
    return add_saturated(sum, subtract_saturated(movable, resident_bytes_min));
}

/* Rare enough that the sum is made each time and kept nowhere. */
enum quota_answer quota_reserve_host(struct egpu_usage *usage, uint32_t card, struct egpu_slot_card *slot, uint64_t bytes,
                                     const struct egpu_card_limits *limits) {
    uint64_t quota_bytes = limits->host_quota_bytes;
    uint64_t total = quota_bytes == 0 ? 0 : host_bytes(usage, card, 0, limits->resident_bytes_min);
    if (quota_bytes > 0 && (total > quota_bytes || bytes > quota_bytes - total))
        return QUOTA_REFUSED;
    put(&slot->host_bytes, add_saturated(get(&slot->host_bytes), bytes));
    return QUOTA_GRANTED;
}

bool quota_host_has_room(const struct egpu_usage *usage, uint32_t card, uint64_t movable_bytes,
                         const struct egpu_card_limits *limits) {
    return limits->host_quota_bytes == 0 || movable_bytes == 0 ||
           host_bytes(usage, card, movable_bytes, limits->resident_bytes_min) <= limits->host_quota_bytes;
}

void quota_give_back_host(struct egpu_slot_card *slot, uint64_t bytes) {
    put(&slot->host_bytes, subtract_saturated(get(&slot->host_bytes), bytes));
}

uint64_t quota_free(uint64_t quota_bytes, uint64_t charged_bytes, uint64_t driver_free_bytes) {
    uint64_t left = subtract_saturated(quota_bytes, charged_bytes);
    return left < driver_free_bytes ? left : driver_free_bytes;
}
