#include "lookout.h"

#include "clock.h"
#include "throttle.h"

#define GRACE_NS THROTTLE_MS /* he comes late on a busy machine */

uint32_t lookout_begin(struct lookout *lookout) { return __atomic_load_n(&lookout->passed, __ATOMIC_SEQ_CST); }

bool lookout_take(struct lookout *lookout, uint64_t now_ns, uint64_t look_ns) {
    uint64_t before_ns = __atomic_load_n(&lookout->until_ns, __ATOMIC_RELAXED);
    return before_ns <= now_ns && __atomic_compare_exchange_n(&lookout->until_ns, &before_ns, look_ns + GRACE_NS, false,
                                                              __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void lookout_follow(struct lookout *lookout, uint32_t begun, uint64_t latest_ns) {
    __atomic_fetch_add(&lookout->followers, 1, __ATOMIC_SEQ_CST);
    clock_wait((struct clock_point){&lookout->passed, (uint64_t)(uintptr_t)&lookout->passed}, begun, latest_ns);
    __atomic_fetch_sub(&lookout->followers, 1, __ATOMIC_SEQ_CST);
}

void lookout_leave(struct lookout *lookout) { __atomic_store_n(&lookout->until_ns, 0, __ATOMIC_RELAXED); }

void lookout_pass(struct lookout *lookout) {
    __atomic_fetch_add(&lookout->passed, 1, __ATOMIC_SEQ_CST);
    if (__atomic_load_n(&lookout->followers, __ATOMIC_SEQ_CST) > 0)
        clock_wake_one((struct clock_point){&lookout->passed, (uint64_t)(uintptr_t)&lookout->passed});
}
