/* Sizes and offsets of the simulated driver's state, for simulation.py to be held against. */
#include <stddef.h>
#include <stdio.h>

#include "../driver/sim.h"

#define OFFSET(member) printf("%s %zu\n", #member, offsetof(struct sim_state, member))

int main(void)
{
    OFFSET(seed);
    OFFSET(mutex);
    OFFSET(now_ns);
    OFFSET(trace_hash);
    OFFSET(processes_high);
    OFFSET(card);
    OFFSET(engines);
    OFFSET(processes);
    printf("_Card %zu\n", sizeof(struct sim_card));
    printf("_Engine %zu\n", sizeof(struct sim_engine));
    printf("_Process %zu\n", sizeof(struct sim_process));
    printf("_Share %zu\n", sizeof(struct sim_share));
    printf("busy_ns %zu\n", offsetof(struct sim_engine, busy_ns));
    printf("shares %zu\n", offsetof(struct sim_process, shares));
    printf("migrated_in_bytes %zu\n", offsetof(struct sim_share, migrated_in_bytes));
    return 0;
}
