/* Frames of the cards: which managed page is where, in order of last use, over all processes. */
#include "managed.h"

static struct sim_frames *frames_of(int card) { return &sim_state()->memory.cards[card]; }

static void count_bytes(int card, uint32_t process, int64_t bytes) {
    struct sim_share *share = &sim_state()->processes[process].shares[card];
    share->bytes += (uint64_t)bytes;
    share->managed_resident_bytes += (uint64_t)bytes;
    if (share->bytes > share->bytes_most)
        share->bytes_most = share->bytes;
    sim_state()->card[card].memory_used_bytes += (uint64_t)bytes;
}

static void unlink_frame(struct sim_frames *frames, uint32_t frame) {
    struct sim_frame *record = &frames->frame[frame - 1];
    *(record->previous ? &frames->frame[record->previous - 1].next : &frames->head) = record->next;
    *(record->next ? &frames->frame[record->next - 1].previous : &frames->tail) = record->previous;
    frames->count--;
}

static void append_frame(struct sim_frames *frames, uint32_t frame) {
    struct sim_frame *record = &frames->frame[frame - 1];
    record->previous = frames->tail;
    record->next = 0;
    *(frames->tail ? &frames->frame[frames->tail - 1].next : &frames->head) = frame;
    frames->tail = frame;
    frames->count++;
}

static void make_spare(struct sim_frames *frames, uint32_t frame) {
    unlink_frame(frames, frame);
    frames->frame[frame - 1] = (struct sim_frame){.next = frames->spare};
    frames->spare = frame;
}

/* Throws out the page that was not used for the longest time; its owner pays in traffic, whoever wanted the room. */
static bool throw_out(int card, struct frames_moved *moved) {
    struct sim_frames *frames = frames_of(card);
    if (frames->head == 0)
        return false;
    struct sim_frame *record = &frames->frame[frames->head - 1];
    if (!record->clean) {
        moved->out_bytes += SIM_FRAME_BYTES;
        sim_state()->processes[record->process].shares[card].migrated_out_bytes += SIM_FRAME_BYTES;
    }
    count_bytes(card, record->process, -(int64_t)SIM_FRAME_BYTES);
    make_spare(frames, frames->head);
    return true;
}

bool frames_make_room(int card, uint64_t bytes, struct frames_moved *moved) {
    struct sim_card *record = &sim_state()->card[card];
    if (bytes > record->memory_bytes)
        return false;
    uint64_t movable = (uint64_t)frames_of(card)->count * SIM_FRAME_BYTES;
    if (record->memory_used_bytes - movable > record->memory_bytes - bytes)
        return false;
    while (record->memory_used_bytes > record->memory_bytes - bytes)
        if (!throw_out(card, moved))
            return false;
    return true;
}

uint32_t frames_claim(int card, uint64_t key, bool clean, struct frames_moved *moved) {
    struct sim_frames *frames = frames_of(card);
    if (!frames_make_room(card, SIM_FRAME_BYTES, moved))
        return 0;
    uint32_t frame = frames->spare;
    if (frame != 0)
        frames->spare = frames->frame[frame - 1].next;
    else if (frames->fresh < SIM_FRAMES_MAX)
        frame = ++frames->fresh;
    else
        return 0;
    frames->frame[frame - 1] = (struct sim_frame){.key = key, .process = sim_process_index(), .clean = clean};
    append_frame(frames, frame);
    count_bytes(card, sim_process_index(), (int64_t)SIM_FRAME_BYTES);
    return frame;
}

bool frames_holds(int card, uint32_t frame, uint64_t key) {
    if (frame == 0)
        return false;
    const struct sim_frame *record = &frames_of(card)->frame[frame - 1];
    return record->key == key && record->process == sim_process_index();
}

void frames_use(int card, uint32_t frame, bool clean) {
    struct sim_frames *frames = frames_of(card);
    unlink_frame(frames, frame);
    frames->frame[frame - 1].clean = clean;
    append_frame(frames, frame);
}

void frames_drop(int card, uint32_t frame) {
    struct sim_frames *frames = frames_of(card);
    count_bytes(card, frames->frame[frame - 1].process, -(int64_t)SIM_FRAME_BYTES);
    make_spare(frames, frame);
}

/* The sums of a process that ended are made anew by state.c: only the frames are left to free. */
void frames_forget_process(uint32_t process) {
    for (int card = 0; card < (int)sim_state()->cards; card++) {
        struct sim_frames *frames = frames_of(card);
        for (uint32_t frame = frames->head, next; frame != 0; frame = next) {
            next = frames->frame[frame - 1].next;
            if (frames->frame[frame - 1].process == process)
                make_spare(frames, frame);
        }
    }
}

/* A process died inside: the lists are made anew from the frames themselves (key 0 = free). Order of use is lost. */
void sim_recover_frames(void) {
    for (int card = 0; card < (int)sim_state()->cards; card++) {
        struct sim_frames *frames = frames_of(card);
        frames->head = frames->tail = frames->spare = frames->count = 0;
        for (uint32_t frame = 1; frame <= frames->fresh; frame++) {
            if (frames->frame[frame - 1].key != 0) {
                append_frame(frames, frame);
            } else {
                frames->frame[frame - 1].next = frames->spare;
                frames->spare = frame;
            }
        }
    }
}

__attribute__((constructor)) static void take_part(void) { sim_end_hook(frames_forget_process); }
