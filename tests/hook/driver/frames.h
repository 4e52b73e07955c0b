/* What the memory classes keep in the shared state beside the sums of sim_share: frames and exported memory.
 *
 * All zeros is the empty state, so that a new file needs no set-up; indices are stored plus one. */
#ifndef EGPU_SIM_FRAMES_H
#define EGPU_SIM_FRAMES_H

#include <stdint.h>

#define SIM_FRAME_BYTES (UINT64_C(2) << 20)
#define SIM_FRAMES_MAX 131072 /* of one card: 256 GiB */
#define SIM_EXPORTS_MAX 1024
#define SIM_EXPORT_HOLDERS_MAX 16

/* A piece of the card that holds a managed page; in the list of use, the least recently used at the head. */
struct sim_frame {
    uint64_t key; /* the page, by its owner's count */
    uint32_t process;
    uint32_t clean; /* the host has the same bytes: to throw it out moves nothing */
    uint32_t previous;
    uint32_t next;
};

struct sim_frames {
    uint32_t count;
    uint32_t head;
    uint32_t tail;
    uint32_t spare; /* frames once used and free again */
    uint32_t fresh; /* frames ever used */
    uint32_t unused;
    struct sim_frame frame[SIM_FRAMES_MAX];
};

/* Physical memory that several processes hold: charged to the first of them that is alive. */
struct sim_export {
    uint64_t device; /* of the file behind it: with `inode` the key; 0 = free */
    uint64_t inode;
    uint64_t bytes;
    int32_t card;
    uint32_t holders_count;
    uint32_t holders[SIM_EXPORT_HOLDERS_MAX]; /* processes; the first pays */
};

struct sim_memory {
    struct sim_export exports[SIM_EXPORTS_MAX];
    struct sim_frames cards[16];
};

#endif
