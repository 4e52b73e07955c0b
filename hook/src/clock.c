#define _GNU_SOURCE
#include "clock.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <stdbool.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "loader.h"

#define NS_PER_SECOND 1000000000ull
#define READINGS_MAX 3
#define WIDTH_NS_MAX 1000
#define RATE_BITS 32
#define RATE_ONE 4294967296.0          /* two to the power of RATE_BITS */
#define RATE_NONE UINT64_MAX
#define RATE_MAX (1000ull << RATE_BITS) /* a tick is no longer than a microsecond */
#define RATE_NS_MIN 1000000ull
#define RATE_NS_MAX NS_PER_SECOND
#define RATE_WIDTHS 64                 /* the readings are so many times more exact than what lies between them */
#define GLANCE_TICKS_MAX (1ull << 22)  /* milliseconds on any machine: more is no glance, and less cannot overflow */
#define CPUID_POWER 0x80000007u
#define CPUID_TSC_INVARIANT (1u << 8)

/* Threads that come first at the same time find the same, each for itself. */
#define FOUND(what) __atomic_load_n(&what, __ATOMIC_RELAXED)
#define KEEP(what, value) __atomic_store_n(&what, value, __ATOMIC_RELAXED)

/* What the simulated driver of the tests exports; a real driver has none of it. */
static struct {
    uint64_t (*now)(void);
    int (*wait)(uint64_t key, const uint32_t *word, uint32_t expected, uint64_t deadline_ns);
    void (*wake)(uint64_t key), (*wake_one)(uint64_t key);
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
        KEEP(simulated.now, (uint64_t(*)(void))(uintptr_t)now);
        KEEP(simulated.wait, (int (*)(uint64_t, const uint32_t *, uint32_t, uint64_t))(uintptr_t)loader_get()->dlsym(
                                 driver, "egpuSimWait"));
        KEEP(simulated.wake, (void (*)(uint64_t))(uintptr_t)loader_get()->dlsym(driver, "egpuSimWake"));
        KEEP(simulated.wake_one, (void (*)(uint64_t))(uintptr_t)loader_get()->dlsym(driver, "egpuSimWakeOne"));
        if (FOUND(simulated.wait) && FOUND(simulated.wake_one) && FOUND(simulated.wake) && FOUND(simulated.now)() != 0) found = KIND_VIRTUAL;
    }
    __atomic_store_n(&kind, found, __ATOMIC_RELEASE);
    return found;
}

static int clock_kind(void) {
    int known = __atomic_load_n(&kind, __ATOMIC_ACQUIRE);
    return __builtin_expect(known != KIND_UNKNOWN, 1) ? known : find_kind();
}

/* The C library's own, past whoever stands in for them. */
static struct {
    int (*gettime)(clockid_t, struct timespec *);
    long (*call)(long, ...);
} library;

static void find_library(void) {
    void *handle = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    void *gettime = handle ? loader_get()->dlsym(handle, "clock_gettime") : NULL;
    void *call = handle ? loader_get()->dlsym(handle, "syscall") : NULL;
    KEEP(library.call, call ? (long (*)(long, ...))(uintptr_t)call : syscall);
    __atomic_store_n(&library.gettime,
                     gettime ? (int (*)(clockid_t, struct timespec *))(uintptr_t)gettime : clock_gettime,
                     __ATOMIC_RELEASE);
}

static void need_library(void) {
    if (__builtin_expect(!__atomic_load_n(&library.gettime, __ATOMIC_ACQUIRE), 0)) find_library();
}

void clock_read(clockid_t which, struct timespec *now) {
    need_library();
    FOUND(library.gettime)(which, now);
}

uint64_t clock_now_ns(void) {
    if (clock_kind() == KIND_VIRTUAL) return FOUND(simulated.now)();
    struct timespec now;
    clock_read(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

/* A counter of the processor, the same on all of its cores, that every program may read. */
static uint64_t ticks_now(void) {
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
#else
    return 0;
#endif
}

static bool ticks_are_steady(void) {
#if defined(__x86_64__)
    unsigned int a, b, c, d;
    return __get_cpuid(CPUID_POWER, &a, &b, &c, &d) && (d & CPUID_TSC_INVARIANT) != 0;
#elif defined(__aarch64__)
    return true;
#else
    return false;
#endif
}

/* Nanoseconds of one tick, times RATE_ONE. 0: not known yet, RATE_NONE: never will be. */
static uint64_t rate;

struct reading {
    uint64_t ns, ticks, width; /* how exactly the two belong together, in ticks */
};

static struct reading read_both(void) {
    uint64_t before = ticks_now(), ns = clock_now_ns(), after = ticks_now();
    return (struct reading){ns, before, after - before};
}

/* Held against the clock over a millisecond or more. A reading that was interrupted is no use: another one will come. */
static void find_rate(struct reading now) {
    static struct reading first;
    static uint32_t busy;
    if (__atomic_exchange_n(&busy, 1, __ATOMIC_ACQUIRE) != 0) return;
    if (!ticks_are_steady() || clock_kind() != KIND_WALL) {
        if (clock_kind() != KIND_UNKNOWN) __atomic_store_n(&rate, RATE_NONE, __ATOMIC_RELAXED);
    } else if (first.ns == 0 || now.ticks <= first.ticks || now.ns - first.ns > RATE_NS_MAX) {
        first = now;
    } else if (now.ns - first.ns > RATE_NS_MIN) {
        uint64_t ticks = now.ticks - first.ticks;
        uint64_t found = (uint64_t)((double)(now.ns - first.ns) / (double)ticks * RATE_ONE);
        if ((first.width + now.width) * RATE_WIDTHS < ticks && found > 0 && found < RATE_MAX)
            __atomic_store_n(&rate, found, __ATOMIC_RELAXED);
        first = (struct reading){0};
    }
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

struct clock_glance clock_glance_begin(void) {
    uint64_t known = __atomic_load_n(&rate, __ATOMIC_RELAXED);
    if (known == RATE_NONE) return (struct clock_glance){0};
    struct reading now = read_both();
    if (known == 0) find_rate(now);
    /* Interrupted in between, the two do not belong together. */
    for (int again = 0; known && again < READINGS_MAX && (now.width * known >> RATE_BITS) > WIDTH_NS_MAX; again++)
        now = read_both();
    return (struct clock_glance){now.ns, now.ticks};
}

uint64_t clock_glance_ns(const struct clock_glance *from) {
    uint64_t known = __atomic_load_n(&rate, __ATOMIC_RELAXED);
    if (known == 0 || known == RATE_NONE) return clock_now_ns();
    /* Backwards is forwards by much here: a counter that was moved. */
    uint64_t ticks = ticks_now() - from->ticks;
    return __builtin_expect(ticks < GLANCE_TICKS_MAX, 1) ? from->ns + (ticks * known >> RATE_BITS) : clock_now_ns();
}

int clock_wait(struct clock_point point, uint32_t expected, uint64_t deadline_ns) {
    if (clock_kind() == KIND_VIRTUAL) return FOUND(simulated.wait)(point.key, point.word, expected, deadline_ns);
    struct timespec deadline = {.tv_sec = (time_t)(deadline_ns / NS_PER_SECOND),
                                .tv_nsec = (long)(deadline_ns % NS_PER_SECOND)};
    need_library();
    /* The bitset form, because its deadline is a moment of CLOCK_MONOTONIC and not a duration (futex(2)). */
    long answer =
        FOUND(library.call)(SYS_futex, point.word, FUTEX_WAIT_BITSET, expected, &deadline, NULL, FUTEX_BITSET_MATCH_ANY);
    return answer == 0 ? 0 : errno;
}

void clock_wake(struct clock_point point) {
    need_library();
    if (clock_kind() == KIND_VIRTUAL) FOUND(simulated.wake)(point.key);
    else FOUND(library.call)(SYS_futex, point.word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void clock_wake_one(struct clock_point point) {
    need_library();
    if (clock_kind() == KIND_VIRTUAL) FOUND(simulated.wake_one)(point.key);
    else FOUND(library.call)(SYS_futex, point.word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

void clock_sleep_until(uint64_t deadline_ns) {
    static uint32_t never;
    struct clock_point point = {&never, (uint64_t)(uintptr_t)&never};
    while (clock_now_ns() < deadline_ns) clock_wait(point, 0, deadline_ns);
}
