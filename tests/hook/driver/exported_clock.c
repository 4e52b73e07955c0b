/* The clock for those outside: the hook and the clients of the tests. */
#include <errno.h>

#include "internal.h"

uint64_t egpuSimNow(void)
{
    return sim_state()->clock == SIM_VIRTUAL ? sim_now() : 0;
}

int egpuSimWait(uint64_t key, const uint32_t *word, uint32_t expected, uint64_t deadline_ns)
{
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != expected)
        return 0;
    if (deadline_ns <= sim_now())
        return ETIMEDOUT;
    sim_wait_until(deadline_ns, key);
    if (__atomic_load_n(word, __ATOMIC_ACQUIRE) != expected)
        return 0;
    return deadline_ns <= sim_now() ? ETIMEDOUT : EINTR;
}

void egpuSimWake(uint64_t key)
{
    sim_wake_key(key);
}

void egpuSimWakeOne(uint64_t key)
{
    sim_wake_one_key(key);
}

void egpuSimSleep(uint64_t ns)
{
    uint64_t until = sim_now() + ns;

    while (sim_now() < until && !sim_process_over())
        sim_wait_until(until, 0);
}

void egpuSimDetach(void)
{
    sim_detach();
}

void egpuSimExpect(uint32_t count)
{
    if (sim_state()->clock != SIM_VIRTUAL)
        return;
    sim_process();
    sim_lock();
    sim_state()->expected += count;
    sim_process()->expected += count;
    sim_unlock();
}
