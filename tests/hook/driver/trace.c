/* What happened on the cards, in order: a hash always, lines on demand (EGPU_SIM_TRACE=path). Under the lock. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

#define TRACE_PRIME UINT64_C(0x100000001b3)

static void fold(struct sim_state *state, uint64_t value)
{
    state->trace_hash = (state->trace_hash ^ value) * TRACE_PRIME;
}

static int trace_file(void)
{
    static int file = -2;

    if (file == -2) {
        const char *path = getenv("EGPU_SIM_TRACE");

        file = path != NULL && *path != '\0' ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    }
    return file;
}

void sim_trace(char what, uint32_t process, uint64_t kind, uint64_t amount)
{
    struct sim_state *state = sim_state();
    uint64_t rank = state->processes[process].rank;
    uint64_t now = sim_now();

    fold(state, (uint64_t)what);
    fold(state, now);
    fold(state, rank);
    fold(state, kind);
    fold(state, amount);
    state->trace_count++;
    if (trace_file() >= 0)
        dprintf(trace_file(), "%llu %c rank=%llu kind=%llu amount=%llu\n", (unsigned long long)now, what,
                (unsigned long long)rank, (unsigned long long)kind, (unsigned long long)amount);
}
