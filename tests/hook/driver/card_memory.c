/* What counts against a card: plain bytes of this process, in the shared state. */
#include <errno.h>
#include <signal.h>

#include "managed.h"

/* A killed process' bytes are there again at once for whoever asks, not only at the next look around. Who is not even
 * a zombie any more costs a system call to find; zombies are left to sim_reap(). */
static void end_the_gone(void) {
    struct sim_state *state = sim_state();
    for (uint32_t process = 0; process < state->processes_high && !sim_is_apart(); process++) {
        const struct sim_process *record = &state->processes[process];
        if (record->alive && process != sim_process_index() && kill(record->pid, 0) != 0 && errno == ESRCH)
            sim_end_process(process);
    }
}

/* Under pressure all who are dead give back first, then the pages that were used least recently go. */
static bool make_room(int card, uint64_t bytes) {
    const struct sim_card *record = &sim_state()->card[card];
    struct frames_moved moved = {0, 0};
    if (bytes <= record->memory_bytes && record->memory_used_bytes <= record->memory_bytes - bytes)
        return true;
    sim_state()->reaped_real_ns = 0;
    sim_reap();
    return frames_make_room(card, bytes, &moved);
}

CUresult card_memory_charge(int card, uint64_t bytes) {
    struct sim_share *share = sim_share(card);
    sim_lock();
    bool fits = make_room(card, bytes);
    if (fits) {
        share->bytes += bytes;
        if (share->bytes > share->bytes_most)
            share->bytes_most = share->bytes;
        sim_state()->card[card].memory_used_bytes += bytes;
    }
    sim_unlock();
    return fits ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

void card_memory_discharge(int card, uint64_t bytes) {
    struct sim_share *share = sim_share(card);
    sim_lock();
    share->bytes -= bytes;
    sim_state()->card[card].memory_used_bytes -= bytes;
    sim_unlock();
}

void card_memory_info(int card, uint64_t *free_bytes, uint64_t *total_bytes) {
    sim_lock();
    sim_reap();
    end_the_gone();
    struct sim_card *record = &sim_state()->card[card];
    *total_bytes = record->memory_bytes;
    *free_bytes = record->memory_bytes > record->memory_used_bytes ? record->memory_bytes - record->memory_used_bytes : 0;
    sim_unlock();
}

void card_memory_count_context(int card, int64_t bytes) {
    struct sim_share *share = sim_share(card);
    sim_lock();
    share->context_bytes += (uint64_t)bytes;
    sim_unlock();
}

void card_memory_count_host(int card, int64_t bytes) {
    struct sim_share *share = sim_share(card);
    sim_lock();
    share->host_bytes += (uint64_t)bytes;
    sim_unlock();
}

void card_memory_count_managed(int card, int64_t bytes) {
    struct sim_share *share = sim_share(card);
    sim_lock();
    share->managed_bytes += (uint64_t)bytes;
    sim_unlock();
}
