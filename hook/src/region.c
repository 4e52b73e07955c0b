#define _GNU_SOURCE
#include "region.h"

#include "clock.h"
#include "neighbours.h"
#include "quota.h"
#include "region_files.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define REGION_PATH_DEFAULT "/run/egpu"

enum {
    LOCK_SECONDS_MAX = 5,    /* held for microseconds; longer only when its holder is stopped or the file spoilt */
    LIMITS_MILLISECONDS_MAX = 1000, /* the agent writes for microseconds; longer only when it is stopped or dead */
    COMPLAINT_COUNT_MAX = 32,
    COMPLAINT_BYTES_MAX = 512,
};
static const uint64_t REAP_PERIOD_NS = 1000000000;
static const uint64_t LOOK_AGAIN_NS = 1000000000;

enum attachment { UNKNOWN, ABSENT, READY, SLOTLESS, BROKEN, LEFT };

static struct region region;
static bool files_mapped;
static enum attachment attachment;
static struct egpu_slot *own_slot;
static struct egpu_slot left; /* what this process held when it began to end */
static uint64_t own_pid_namespace;
static pthread_mutex_t attaching = PTHREAD_MUTEX_INITIALIZER;
static const char *complaints[COMPLAINT_COUNT_MAX];

/* Also of a region that is broken, as long as this file is none of what is. */
static struct egpu_usage_head *usage_head(void) {
    struct egpu_usage *usage = __atomic_load_n(&region.usage, __ATOMIC_ACQUIRE);
    return usage == NULL ? NULL : &usage->head;
}

void region_note_passed(void) {
    struct egpu_usage_head *head = usage_head();
    if (head != NULL)
        __atomic_fetch_add(&head->passed_launch_count, 1, __ATOMIC_RELAXED);
}

void region_complain(const char *sentence) {
    struct egpu_slot *slot = __atomic_load_n(&own_slot, __ATOMIC_ACQUIRE);
    struct egpu_usage_head *head = usage_head();
    if (slot != NULL)
        __atomic_fetch_add(&slot->region_error_count, 1, __ATOMIC_RELAXED);
    else if (head != NULL)
        __atomic_fetch_add(&head->region_error_count, 1, __ATOMIC_RELAXED);
    for (int index = 0; index < COMPLAINT_COUNT_MAX; index++) {
        const char *none = NULL;
        if (__atomic_compare_exchange_n(&complaints[index], &none, sentence, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
            char line[COMPLAINT_BYTES_MAX];
            int length = snprintf(line, sizeof line, "egpu: %s\n", sentence);
            /* One write and no stdio: the program's own buffers stay as they are. */
            if (length > 0 && write(STDERR_FILENO, line, (size_t)length) < 0)
                return;
            return;
        }
        if (none == sentence)
            return;
    }
}

static void map_usage(void) {
    char path[REGION_PATH_BYTES_MAX + 16];
    snprintf(path, sizeof path, "%s/usage", region.path);
    struct egpu_usage *usage = region_map_usage(path);
    bool usable = usage != NULL && usage->head.magic == EGPU_USAGE_MAGIC && usage->head.version == EGPU_REGION_VERSION;
    if (usage != NULL && !usable)
        munmap(usage, sizeof *usage);
    __atomic_store_n(&region.usage, usable ? usage : NULL, __ATOMIC_RELEASE);
}

/* The file may have been replaced since it was looked at, so it is mapped anew. */
static bool map_limits(int milliseconds) {
    char path[REGION_PATH_BYTES_MAX + 16];
    snprintf(path, sizeof path, "%s/limits", region.path);
    if (region.limits != NULL)
        munmap((void *)(uintptr_t)region.limits, sizeof *region.limits);
    region.limits = region_map(path, sizeof(struct egpu_limits), false);
    return region.limits != NULL && limits_begin(region.limits, milliseconds);
}

static enum attachment map_files(int milliseconds) {
    const char *directory = getenv("EGPU_REGION");
    bool asked = directory != NULL && directory[0] != 0;
    if (!asked) {
        directory = REGION_PATH_DEFAULT;
        if (access(directory, F_OK) != 0)
            return ABSENT;
    }
    if (strlen(directory) >= sizeof region.path)
        return BROKEN;
    strcpy(region.path, directory);
    if (region.usage == NULL)
        map_usage();
    if (!map_limits(milliseconds)) {
        region_complain("the limits of this container cannot be read: new GPU memory is refused, compute passes");
        return BROKEN;
    }
    if (region.usage == NULL) {
        region_complain("the usage file of this container cannot be used: new GPU memory is refused, compute passes");
        return BROKEN;
    }
    files_mapped = true;
    return READY;
}

static bool lock_usage(void) {
    struct timespec until;
    /* The lock's own clock: a holder never waits inside, so this wait is over before any modelled time could pass. */
    clock_read(CLOCK_REALTIME, &until);
    until.tv_sec += LOCK_SECONDS_MAX;
    pthread_mutex_t *mutex = (pthread_mutex_t *)(void *)region.usage->head.mutex;
    int error = pthread_mutex_timedlock(mutex, &until);
    if (error == EOWNERDEAD) {
        /* Before the totals are made anew: who dies in between leaves the lock to be recovered once more. */
        for (uint32_t card = 0; card < EGPU_CARD_COUNT_MAX; card++)
            quota_recompute(region.usage, card);
        __atomic_fetch_add(&region.usage->head.recovery_count, 1, __ATOMIC_RELAXED);
        error = pthread_mutex_consistent(mutex);
    }
    if (error != 0)
        region_complain("the lock of this container's usage cannot be had: this allocation is refused");
    return error == 0;
}

static void unlock_usage(void) { pthread_mutex_unlock((pthread_mutex_t *)(void *)region.usage->head.mutex); }

static bool is_dead(const struct egpu_slot *slot, struct process_identity *who) {
    who->pid = __atomic_load_n(&slot->pid, __ATOMIC_ACQUIRE);
    who->start_time = slot->start_time;
    who->pid_namespace = slot->pid_namespace;
    return who->pid != 0 && slot != own_slot && !process_alive(who, own_pid_namespace);
}

/* The slot may have found a new owner since it was looked at. */
static int release_dead(struct egpu_slot *slot, const struct process_identity *who) {
    if (!lock_usage())
        return 0;
    bool same = slot->pid == who->pid && slot->start_time == who->start_time;
    if (same) {
        slot_release(region.usage, slot);
        __atomic_fetch_add(&region.usage->head.reaped_count, 1, __ATOMIC_RELAXED);
    }
    unlock_usage();
    return same;
}

static int reap(void) {
    struct egpu_usage *usage = region.usage;
    int reaped = 0;
    __atomic_store_n(&usage->head.reap_ns, clock_now_ns(), __ATOMIC_RELAXED);
    uint32_t used = __atomic_load_n(&usage->head.slot_count_used, __ATOMIC_ACQUIRE);
    for (uint32_t index = 0; index < used && index < EGPU_SLOT_COUNT_MAX; index++) {
        struct process_identity who;
        if (is_dead(&usage->slots[index], &who))
            reaped += release_dead(&usage->slots[index], &who);
    }
    return reaped;
}

static void reap_when_due(void) {
    uint64_t now = clock_now_ns();
    uint64_t last = __atomic_load_n(&region.usage->head.reap_ns, __ATOMIC_RELAXED);
    /* A time in the future was written before a restart of the node or of a simulated clock. */
    if (now < last || now - last >= REAP_PERIOD_NS)
        reap();
}

static struct egpu_slot *take_slot_locked(struct process_identity self) {
    if (!lock_usage())
        return NULL;
    struct egpu_slot *slot = slot_take(&region, self);
    unlock_usage();
    return slot;
}

static enum attachment take_slot(void) {
    struct process_identity self = process_self();
    own_pid_namespace = self.pid_namespace;
    struct egpu_slot *slot = take_slot_locked(self);
    if (slot == NULL && reap() > 0)
        slot = take_slot_locked(self);
    if (slot == NULL) {
        region_complain(
            region.usage->head.slot_count_used < EGPU_SLOT_COUNT_MAX
                ? "no place for this process in the usage file, its disk may be full: new GPU memory is refused"
                : "more processes than this container has slots for: new GPU memory is refused");
        return SLOTLESS;
    }
    __atomic_store_n(&own_slot, slot, __ATOMIC_RELEASE);
    reap_when_due();
    return READY;
}

/* Libraries and threads that outlive this one's end may go on using the card: they hold what they held, and are limited. */
static void come_back(void) {
    if (!lock_usage())
        return;
    for (uint32_t card = 0; card < EGPU_CARD_COUNT_MAX; card++)
        for (uint32_t memory_class = 0; memory_class < EGPU_MEMORY_CLASS_COUNT; memory_class++)
            quota_charge_anyway(&region.usage->cards[card], &own_slot->cards[card], memory_class,
                                left.cards[card].charged_bytes[memory_class]);
    unlock_usage();
}

static void before_fork(void) { pthread_mutex_lock(&attaching); }
static void after_fork_in_parent(void) { pthread_mutex_unlock(&attaching); }
/* The child is another process: it has no slot until it asks for one, and none of its parent's charge. */
static void after_fork_in_child(void) {
    pthread_mutex_init(&attaching, NULL);
    limits_after_fork();
    cards_after_fork();
    neighbours_after_fork();
    __atomic_store_n(&own_slot, NULL, __ATOMIC_RELEASE);
    if (attachment == READY || attachment == SLOTLESS || attachment == LEFT)
        __atomic_store_n(&attachment, UNKNOWN, __ATOMIC_RELEASE);
}

/* Waits for an agent that is writing only at first: what is broken then is looked at often. */
static enum attachment attach(enum attachment from) {
    static bool fork_watched;
    pthread_mutex_lock(&attaching);
    enum attachment now = attachment;
    if (now == UNKNOWN || now == LEFT || now == from) {
        bool back = now == LEFT;
        int milliseconds = now == BROKEN ? 0 : LIMITS_MILLISECONDS_MAX;
        if (!fork_watched)
            pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
        fork_watched = true;
        now = files_mapped ? READY : map_files(milliseconds);
        if (now == READY)
            now = take_slot();
        if (now == READY && back)
            come_back();
        __atomic_store_n(&attachment, now, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&attaching);
    return now;
}

static enum attachment attached(void) {
    enum attachment now = __atomic_load_n(&attachment, __ATOMIC_ACQUIRE);
    return __builtin_expect(now == UNKNOWN || now == LEFT, 0) ? attach(UNKNOWN) : now;
}

bool region_look_again(void) {
    static uint64_t last_ns;
    uint64_t last = __atomic_load_n(&last_ns, __ATOMIC_RELAXED), now = clock_now_ns();
    enum attachment before = attached();
    if ((before != BROKEN && before != SLOTLESS) || (last != 0 && now >= last && now - last < LOOK_AGAIN_NS))
        return false;
    if (!__atomic_compare_exchange_n(&last_ns, &last, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return false;
    return attach(before) == READY;
}

enum region_state region_state(void) {
    switch (attached()) {
    case READY:
        return REGION_READY;
    case SLOTLESS:
    case BROKEN:
        return REGION_BROKEN;
    default:
        return REGION_ABSENT;
    }
}

bool region_gates_launches(void) {
    enum attachment now = attached();
    return now == READY || now == SLOTLESS;
}

struct region *region_get(void) { return region_gates_launches() ? &region : NULL; }

/* NULL for an instant is possible: fork and exit take the slot away. */
struct egpu_slot *region_slot(void) { return attached() == READY ? __atomic_load_n(&own_slot, __ATOMIC_ACQUIRE) : NULL; }

struct egpu_slot_card *region_slot_card(int card) {
    struct egpu_slot *slot = region_slot();
    return slot != NULL && card >= 0 && card < (int)EGPU_CARD_COUNT_MAX ? &slot->cards[card] : NULL;
}

struct egpu_card_usage *region_card_usage(int card) {
    return card >= 0 && card < (int)EGPU_CARD_COUNT_MAX && region_get() != NULL ? &region.usage->cards[card] : NULL;
}

struct egpu_usage *region_usage(void) { return region_get() == NULL ? NULL : region.usage; }

struct egpu_slot *region_slots(void) { return region_get() == NULL ? NULL : region.usage->slots; }

uint32_t region_slot_count(void) {
    if (region_get() == NULL)
        return 0;
    uint32_t count = __atomic_load_n(&region.usage->head.slot_count_used, __ATOMIC_ACQUIRE);
    return count < EGPU_SLOT_COUNT_MAX ? count : EGPU_SLOT_COUNT_MAX;
}

bool region_lock(void) { return region_get() != NULL && lock_usage(); }
void region_unlock(void) { unlock_usage(); }

int region_reap(void) { return region_get() == NULL ? 0 : reap(); }

bool region_reap_slot(uint64_t index) {
    struct process_identity who;
    if (region_get() == NULL || index >= region_slot_count())
        return false;
    struct egpu_slot *slot = &region.usage->slots[index];
    return is_dead(slot, &who) && release_dead(slot, &who) > 0;
}

void region_reap_sometimes(void) {
    if (region_get() != NULL)
        reap_when_due();
}

/* exit without free: the charge goes back now and not when someone finds the process gone. A child made by a bare clone
 * has its parent's slot and must leave it alone. */
__attribute__((destructor)) static void leave(void) {
    struct egpu_slot *slot = __atomic_load_n(&own_slot, __ATOMIC_ACQUIRE);
    if (attachment != READY || slot == NULL || slot->pid != (uint64_t)getpid() || !lock_usage())
        return;
    left = *slot;
    __atomic_store_n(&own_slot, NULL, __ATOMIC_RELEASE);
    __atomic_store_n(&attachment, LEFT, __ATOMIC_RELEASE);
    slot_release(region.usage, slot);
    unlock_usage();
}
