#define _GNU_SOURCE
#include "clock.h"
#include "quota.h"
#include "region_files.h"
#include "throttle.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { STAT_BYTES_MAX = 1024, PAGE_BYTES_MIN = 4096 };

struct process_state {
    char letter;
    uint64_t thread_count;
    uint64_t start_time;
};

/* Fields 3, 20 and 22 of /proc/<pid>/stat; the name before them may hold anything, so they are counted from its last ")". */
static bool read_process_state(const char *pid, struct process_state *state) {
    char path[64], text[STAT_BYTES_MAX];
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return false;
    ssize_t length = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    if (length <= 0)
        return false;
    text[length] = 0;
    const char *rest = strrchr(text, ')');
    if (rest == NULL || rest[1] != ' ')
        return false;
    unsigned long long threads, start;
    if (sscanf(rest + 2,
               "%c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %llu %*d %llu",
               &state->letter, &threads, &start) != 3)
        return false;
    state->thread_count = threads;
    state->start_time = start;
    return true;
}

struct process_identity process_self(void) {
    struct process_state state = {0};
    struct stat namespace = {0};
    read_process_state("self", &state);
    if (stat("/proc/self/ns/pid", &namespace) != 0)
        namespace.st_ino = 0;
    return (struct process_identity){(uint64_t)getpid(), state.start_time, namespace.st_ino};
}

bool process_alive(const struct process_identity *who, uint64_t own_pid_namespace) {
    /* A PID means nothing in another namespace; the agent sees all and reaps those. */
    if (who->pid_namespace != own_pid_namespace)
        return true;
    if (kill((pid_t)who->pid, 0) != 0 && errno == ESRCH)
        return false;
    char pid[24];
    snprintf(pid, sizeof pid, "%llu", (unsigned long long)who->pid);
    struct process_state state;
    /* Without a readable /proc (hidepid, another user) a PID that answers counts as alive. */
    if (!read_process_state(pid, &state))
        return kill((pid_t)who->pid, 0) == 0 || errno != ESRCH;
    if (state.start_time != who->start_time)
        return false;
    /* A zombie's memory is the driver's again. A leader that left its threads behind is a Z with more than one thread. */
    return !((state.letter == 'Z' || state.letter == 'X') && state.thread_count <= 1);
}

/* Its process did not wait for it, or was killed: a launch that nobody measures would be free. */
static void pay_unmeasured(struct egpu_card_usage *card, struct egpu_slot_card *slot) {
    uint64_t since_ns = __atomic_exchange_n(&slot->unmeasured_since_ns, 0, __ATOMIC_RELAXED);
    struct throttle_bucket *bucket = (struct throttle_bucket *)card->bucket;
    if (since_ns == 0)
        return;
    uint64_t turn_ns = since_ns;
    __atomic_compare_exchange_n(&bucket->unknown_since_ns, &turn_ns, 0, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    uint64_t measured_ns = __atomic_load_n(&bucket->busy_ns, __ATOMIC_RELAXED) -
                           __atomic_load_n(&bucket->departed_busy_ns, __ATOMIC_RELAXED);
    uint64_t others_ns = measured_ns - __atomic_load_n(&slot->busy_ns, __ATOMIC_RELAXED) - slot->unmeasured_others_ns;
    uint64_t cost_ns = throttle_depart(bucket, since_ns, others_ns, clock_now_ns());
    __atomic_fetch_add(&slot->busy_ns, cost_ns, __ATOMIC_RELAXED);
}

void slot_release(struct egpu_usage *usage, struct egpu_slot *slot) {
    for (uint32_t card = 0; card < EGPU_CARD_COUNT_MAX; card++) {
        pay_unmeasured(&usage->cards[card], &slot->cards[card]);
        quota_depart(&usage->cards[card], &slot->cards[card]);
    }
    __atomic_fetch_add(&usage->head.region_error_count, slot->region_error_count, __ATOMIC_RELAXED);
    slot->region_error_count = 0;
    __atomic_store_n(&slot->pid, 0, __ATOMIC_RELEASE);
}

static uint32_t count_used(const struct egpu_usage *usage) {
    uint32_t used = usage->head.slot_count_used;
    return used < EGPU_SLOT_COUNT_MAX ? used : EGPU_SLOT_COUNT_MAX;
}

static struct egpu_slot *find(struct egpu_usage *usage, struct process_identity self) {
    for (uint32_t index = 0; index < count_used(usage); index++) {
        struct egpu_slot *slot = &usage->slots[index];
        if (slot->pid == self.pid && slot->pid_namespace == self.pid_namespace)
            return slot;
    }
    return NULL;
}

/* Gives every page of it a block. On a full disk the kernel's writing fails where ours would be SIGBUS; what it writes is the
 * time, for that call is everywhere allowed and needs no file. */
static bool back_by_disk(struct egpu_slot *slot) {
    uintptr_t at = (uintptr_t)slot, last = at + sizeof *slot - sizeof(struct timespec);
    for (;; at = (at | (PAGE_BYTES_MIN - 1)) + 1) {
        if (at > last)
            at = last;
        if (syscall(SYS_clock_gettime, CLOCK_MONOTONIC, at) != 0)
            return false;
        if (at == last)
            return true;
    }
}

static struct egpu_slot *find_free(struct egpu_usage *usage) {
    uint32_t used = count_used(usage);
    for (uint32_t index = 0; index < used; index++)
        if (usage->slots[index].pid == 0)
            return &usage->slots[index];
    struct egpu_slot *slot = &usage->slots[used];
    if (used == EGPU_SLOT_COUNT_MAX || !back_by_disk(slot))
        return NULL;
    memset(slot, 0, sizeof *slot);
    __atomic_store_n(&usage->head.slot_count_used, used + 1, __ATOMIC_RELEASE);
    return slot;
}

struct egpu_slot *slot_take(struct region *region, struct process_identity self) {
    struct egpu_usage *usage = region->usage;
    /* The same PID: a former image of this process (exec keeps PID and start time), or a dead one with a number that came
     * back. Either way what it held is gone. */
    struct egpu_slot *former = find(usage, self);
    if (former != NULL)
        slot_release(usage, former);
    struct egpu_slot *slot = find_free(usage);
    if (slot == NULL)
        return NULL;
    /* A process that was killed while it filled this slot, or a spoilt file, may have left words behind. */
    memset(slot, 0, sizeof *slot);
    slot->start_time = self.start_time;
    slot->pid_namespace = self.pid_namespace;
    __atomic_store_n(&slot->pid, self.pid, __ATOMIC_RELEASE);
    return slot;
}
