/* The ground truth of the state file, a line a living process in order of rank, and whether its sums agree. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "../driver/sim.h"

#define MIB (UINT64_C(1) << 20)

/* The frames of the card, from the least recently used on, agree with what their owners are charged. */
static int frames_agree(const struct sim_state *state, uint64_t resident_bytes) {
    const struct sim_frames *frames = &state->memory.cards[0];
    uint32_t count = 0, previous = 0;
    for (uint32_t frame = frames->head; frame != 0 && count <= frames->fresh; frame = frames->frame[frame - 1].next) {
        if (frames->frame[frame - 1].previous != previous || !state->processes[frames->frame[frame - 1].process].alive)
            return 0;
        previous = frame;
        count++;
    }
    return count == frames->count && frames->tail == previous && count * SIM_FRAME_BYTES == resident_bytes;
}

int main(void) {
    int file = open(getenv("EGPU_SIM_STATE"), O_RDONLY);
    const struct sim_state *state = mmap(NULL, sizeof *state, PROT_READ, MAP_SHARED, file, 0);
    uint64_t bytes = 0, resident_bytes = 0;
    if (state == MAP_FAILED)
        return 1;
    for (uint32_t index = 0; index < state->processes_high; index++) {
        const struct sim_share *share = &state->processes[index].shares[0];
        bytes += state->processes[index].alive ? share->bytes : 0;
        resident_bytes += state->processes[index].alive ? share->managed_resident_bytes : 0;
    }
    for (uint64_t rank = 0; rank < 16; rank++)
        for (uint32_t index = 0; index < state->processes_high; index++) {
            const struct sim_share *share = &state->processes[index].shares[0];
            if (state->processes[index].rank == rank)
                printf("%d: most %d managed %d in %d out %d host %d\n", (int)rank, (int)(share->bytes_most / MIB),
                       (int)(share->managed_resident_bytes / MIB), (int)(share->migrated_in_bytes / MIB),
                       (int)(share->migrated_out_bytes / MIB), (int)(share->host_bytes / MIB));
        }
    printf("used %d sums %d frames %d\n", (int)(state->card[0].memory_used_bytes / MIB),
           bytes == state->card[0].memory_used_bytes, frames_agree(state, resident_bytes));
    return 0;
}
