/* What the driver's own parts tell each other about time, and nobody else needs. */
#ifndef EGPU_SIM_INTERNAL_H
#define EGPU_SIM_INTERNAL_H

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "sim.h"

/* Processes without a rank come after those with one, in order of arrival. */
#define SIM_RANK_NONE UINT64_C(1000000)
/* Keys below are the driver's own; the hook's keys are addresses and never have the highest bit. */
#define SIM_KEY_ENDED (UINT64_C(1) << 63)
#define SIM_KEY_HOST_WORK ((UINT64_C(1) << 63) | (UINT64_C(1) << 62))

bool sim_status_read(const char *path, char *letter, uint64_t *start_time);
uint64_t sim_real_ns(void);
bool sim_process_over(void);
void sim_repair(void); /* under the lock: the engines' sums are made anew from the entries */
void sim_clock_forked(void);
void sim_contexts_forked(void);
void sim_host_functions_forked(void);
void sim_trace(char what, uint32_t process, uint64_t kind, uint64_t amount); /* under the lock */

static inline void sim_futex_wait(uint32_t *word, uint32_t expected, uint64_t timeout_ns)
{
    struct timespec timeout = {(time_t)(timeout_ns / 1000000000U), (long)(timeout_ns % 1000000000U)};

    syscall(SYS_futex, word, FUTEX_WAIT, expected, &timeout, NULL, 0);
}

static inline void sim_futex_wake(uint32_t *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

#endif
