#define _GNU_SOURCE
#include "clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "loader.h"

#define NS_PER_SECOND 1000000000ull

/* What the simulated driver of the tests exports; a real driver has none of it. */
static struct {
    uint64_t (*now)(void);
    int (*wait)(uint64_t key, const uint32_t *word, uint32_t expected, uint64_t deadline_ns);
    void (*wake)(uint64_t key);
} simulated;

enum { KIND_UNKNOWN, KIND_WALL, KIND_VIRTUAL };
static int kind;

/* Asked until the driver is loaded; then its answer holds for the life of the process. */
static int find_kind(void) {
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    if (!driver) return KIND_UNKNOWN;
    int found = KIND_WALL;
    void *now = loader_get()->dlsym(driver, "egpuSimNow");
    if (now) {
        simulated.now = (uint64_t(*)(void))(uintptr_t)now;
        simulated.wait = (int (*)(uint64_t, const uint32_t *, uint32_t, uint64_t))(uintptr_t)loader_get()->dlsym(
            driver, "egpuSimWait");
        simulated.wake = (void (*)(uint64_t))(uintptr_t)loader_get()->dlsym(driver, "egpuSimWake");
        if (simulated.wait && simulated.wake && simulated.now() != 0) found = KIND_VIRTUAL;
    }
    __atomic_store_n(&kind, found, __ATOMIC_RELEASE);
    return found;
}

static int clock_kind(void) {
    int known = __atomic_load_n(&kind, __ATOMIC_ACQUIRE);
    return __builtin_expect(known != KIND_UNKNOWN, 1) ? known : find_kind();
}

uint64_t clock_now_ns(void) {
    if (clock_kind() == KIND_VIRTUAL) return simulated.now();
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

int clock_wait(struct clock_point point, uint32_t expected, uint64_t deadline_ns) {
    if (clock_kind() == KIND_VIRTUAL) return simulated.wait(point.key, point.word, expected, deadline_ns);
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / NS_PER_SECOND),
                                .tv_nsec = (long)(deadline_ns % NS_PER_SECOND)};
    /* The bitset form, because its deadline is a moment of CLOCK_MONOTONIC and not a duration (futex(2)). */
    long answer = syscall(SYS_futex, point.word, FUTEX_WAIT_BITSET, expected, &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
    return answer == 0 ? 0 : errno;
}

void clock_wake(struct clock_point point) {
    if (clock_kind() == KIND_VIRTUAL) simulated.wake(point.key);
    else syscall(SYS_futex, point.word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void clock_sleep_until(uint64_t deadline_ns) {
    static uint32_t never;
    struct clock_point point = {&never, (uint64_t)(uintptr_t)&never};
    while (clock_now_ns() < deadline_ns) clock_wait(point, 0, deadline_ns);
}
