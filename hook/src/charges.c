#include "charges.h"

#include "cards.h"
#include "graph_memory.h"
#include "pools.h"
#include "quota.h"
#include "region.h"
#include "true_up.h"
#include "view_nvml.h"

#include <pthread.h>

static void count_refusal(int card) {
    struct egpu_slot_card *slot = region_slot_card(card);
    if (slot != NULL)
        __atomic_fetch_add(&slot->out_of_memory_count, 1, __ATOMIC_RELAXED);
}

static bool try_reserve(int card, uint32_t memory_class, uint64_t bytes) {
    const struct egpu_card_limits *limits = region_limits(card);
    if (limits == NULL || !region_lock())
        return false;
    struct egpu_slot *slot = region_slot();
    struct egpu_card_usage *usage = region_card_usage(card);
    bool movable = memory_class == EGPU_MEMORY_OVERSUBSCRIBED;
    bool granted = slot != NULL && usage != NULL &&
                   (!movable || quota_host_has_room(region_usage(), (uint32_t)card, bytes, limits)) &&
                   quota_reserve(usage, &slot->cards[card], memory_class, bytes, limits->memory_quota_bytes) == QUOTA_GRANTED;
    if (granted)
        __atomic_fetch_add(&slot->operation_count, 1, __ATOMIC_RELAXED);
    region_unlock();
    return granted;
}

static void after_fork_in_child(void) {
    holdings_forget();
    graph_memory_after_fork();
    view_nvml_after_fork();
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork_in_child); }

/* What the next allocation lacks; 0: the quota has room for it. */
static uint64_t lacking(int card, uint64_t bytes) {
    const struct egpu_card_limits *limits = region_limits(card);
    const struct egpu_card_usage *usage = region_card_usage(card);
    if (limits == NULL || usage == NULL)
        return 0;
    uint64_t charged = __atomic_load_n(&usage->charged_bytes, __ATOMIC_RELAXED), quota = limits->memory_quota_bytes;
    uint64_t left = charged < quota ? quota - charged : 0, above = charged - (quota - left);
    return bytes > left ? bytes - left + above : 0;
}

uint64_t charge_unaccounted(int card) {
    const struct egpu_slot_card *own = card < 0 ? NULL : region_slot_card(card);
    return own == NULL ? 0 : __atomic_load_n(&own->charged_bytes[EGPU_MEMORY_UNACCOUNTED], __ATOMIC_RELAXED);
}

/* Memory of a pool: which, and what of it comes out of what was kept. */
struct source {
    uint64_t pool; /* 0: none, or one that nobody knows */
    uint64_t taken_bytes;
};

/* A look between a free and the next synchronisation saw what the pool still has, and charged it: no reason to refuse the
 * same memory to whom the pool gives it next. */
static bool take_seen(int card, uint64_t bytes, const struct source *source) {
    if (source->pool == 0 || charge_unaccounted(card) == 0)
        return false;
    uint64_t there = pool_unused_unkept(source->pool, source->taken_bytes);
    const struct egpu_card_limits *limits = region_limits(card);
    if (there == 0 || limits == NULL || !region_lock())
        return false;
    struct egpu_slot *slot = region_slot();
    struct egpu_card_usage *usage = region_card_usage(card);
    bool granted = slot != NULL && usage != NULL &&
                   quota_reserve_seen(usage, &slot->cards[card], EGPU_MEMORY_POOL, bytes, there < bytes ? there : bytes,
                                      limits->memory_quota_bytes) == QUOTA_GRANTED;
    if (granted)
        __atomic_fetch_add(&slot->operation_count, 1, __ATOMIC_RELAXED);
    region_unlock();
    return granted;
}

/* Before anything is refused: what the dead held, what the driver has for the living, and what pools only keep. */
static bool find_room(int card, uint32_t memory_class, uint64_t bytes, const struct source *source) {
    (void)region_reap();
    /* Also after the dead were found: what they shared is somebody else's now. */
    true_up_all(card);
    /* Whatever was found here: another process that was refused at the same time may have found the dead first. */
    if (try_reserve(card, memory_class, bytes) || take_seen(card, bytes, source))
        return true;
    uint64_t wanted_bytes = lacking(card, bytes);
    if (wanted_bytes == 0 || !pools_give_up(card, wanted_bytes))
        return false;
    /* What pools had beyond what they keep was charged as seen. */
    if (lacking(card, bytes) > 0)
        true_up_all(card);
    return try_reserve(card, memory_class, bytes);
}

static CUresult reserve(int card, uint32_t memory_class, uint64_t bytes, const struct source *source) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (card == CARD_NONE)
        return CUDA_SUCCESS;
    pthread_once(&once, watch_forks);
    if (card >= 0) {
        true_up_sometimes(card, memory_class == EGPU_MEMORY_CONTEXT);
        if (try_reserve(card, memory_class, bytes) || find_room(card, memory_class, bytes, source))
            return CUDA_SUCCESS;
    } else if (region_state() == REGION_BROKEN) {
        region_complain("new GPU memory is refused, for it cannot be counted");
    }
    count_refusal(card);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult charge_reserve(int card, uint32_t memory_class, uint64_t bytes) {
    return reserve(card, memory_class, bytes, &(struct source){0, 0});
}

CUresult charge_reserve_of_pool(int card, uint64_t bytes, uint64_t pool, uint64_t taken_bytes) {
    return reserve(card, EGPU_MEMORY_POOL, bytes, &(struct source){pool, taken_bytes});
}

static bool try_reserve_host(int card, uint64_t bytes) {
    const struct egpu_card_limits *limits = region_limits(card);
    if (limits == NULL || !region_lock())
        return false;
    struct egpu_slot_card *own = region_slot_card(card);
    struct egpu_usage *usage = region_usage();
    bool granted = own != NULL && usage != NULL &&
                   quota_reserve_host(usage, (uint32_t)card, own, bytes, limits) == QUOTA_GRANTED;
    region_unlock();
    return granted;
}

/* A card that is none of ours, or a broken region, refuses the card's memory but not the host's. */
CUresult charge_reserve_host(int card, uint64_t bytes) {
    if (card < 0 || try_reserve_host(card, bytes))
        return CUDA_SUCCESS;
    (void)region_reap();
    if (try_reserve_host(card, bytes))
        return CUDA_SUCCESS;
    count_refusal(card);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

void charge_give_back_host(int card, uint64_t bytes) {
    if (card < 0 || !region_lock())
        return;
    struct egpu_slot_card *own = region_slot_card(card);
    if (own != NULL)
        quota_give_back_host(own, bytes);
    region_unlock();
}

/* With the slot's words under the lock: who changes the charge, and by how much. */
enum change { ADD, TAKE, SET };

static void change(enum change how, int card, uint32_t memory_class, uint64_t bytes) {
    if (card < 0 || !region_lock())
        return;
    struct egpu_slot *slot = region_slot();
    if (slot != NULL) {
        struct egpu_card_usage *usage = region_card_usage(card);
        struct egpu_slot_card *own = &slot->cards[card];
        uint64_t now = own->charged_bytes[memory_class];
        if (how == ADD || (how == SET && bytes > now))
            quota_charge_anyway(usage, own, memory_class, how == ADD ? bytes : bytes - now);
        else
            quota_give_back(usage, own, memory_class, how == TAKE ? bytes : now - bytes);
        __atomic_fetch_add(&slot->operation_count, 1, __ATOMIC_RELAXED);
    }
    region_unlock();
}

void charge_anyway(int card, uint32_t memory_class, uint64_t bytes) {
    if (bytes > 0)
        change(ADD, card, memory_class, bytes);
}

void charge_give_back(int card, uint32_t memory_class, uint64_t bytes) {
    if (bytes > 0)
        change(TAKE, card, memory_class, bytes);
}

void charge_set(int card, uint32_t memory_class, uint64_t bytes) { change(SET, card, memory_class, bytes); }

void charge_release(const struct holding *holding) {
    if (holding->kind == HOLDING_HOST) {
        charge_give_back_host(holding->card, holding->bytes);
        return;
    }
    uint64_t kept = holding->owner != 0 && holding->kind == HOLDING_ADDRESS ? pool_keep(holding->owner, holding->bytes) : 0;
    charge_give_back(holding->card, holding->memory_class, holding->bytes - kept);
}

CUresult charge_settle(CUresult result, const struct holding *holding, CUresult (*undo)(uint64_t key)) {
    if (holding->card < 0)
        return result;
    if (result == CUDA_SUCCESS && holding_add(holding))
        return CUDA_SUCCESS;
    if (result == CUDA_SUCCESS) {
        /* Memory nobody could give back to the quota later would be lost to it. */
        undo(holding->key);
        result = CUDA_ERROR_OUT_OF_MEMORY;
    }
    struct holding taken = *holding;
    taken.owner = 0; /* never was its pool's */
    charge_release(&taken);
    return result;
}
