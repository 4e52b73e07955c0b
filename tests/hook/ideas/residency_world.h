/* What the simulation of residency.c is about: containers on one card with paged memory, honest and lying ones. */
#ifndef RESIDENCY_WORLD_H
#define RESIDENCY_WORLD_H
#include "residency_beliefs.h"

#ifndef CHUNK_MIB
#define CHUNK_MIB 128
#endif
#define CHUNK_BYTES ((uint64_t)CHUNK_MIB << 20)
#define CARD_CHUNKS (16384 / CHUNK_MIB) /* 16 GiB */
#define MEMBERS_MAX RESIDENCY_MEMBER_COUNT_MAX
#define RANDOM_COUNT_MAX 16
#define MS RESIDENCY_MILLISECOND_NS
#define SECOND (1000 * MS)
#define CHUNK_NS (CHUNK_BYTES * SECOND / RESIDENCY_LINK_BYTES_PER_SECOND)
#define BELIEVABLE_PARTS 8
#define NEVER UINT64_MAX
#define MANY_SEEDS_HORIZON_NS (240 * SECOND)

enum behaviour { HONEST, DIES, LIES };
/* What a page says that is written by somebody else than the hook. Fickle ones change their mind at each look. */
enum lie { LIE_ANYTHING, LIE_ALWAYS, LIE_ACTIVITY, LIE_SIZE, LIE_PINNED, LIE_LENGTH, LIE_THRASH, LIE_RETURN, LIE_COUNT };

struct container {
    enum behaviour behaviour;
    enum lie lie;
    int chunks, pinned_chunks;
    uint64_t kernel_ns, pause_ns; /* pause after each burst */
    int burst;                    /* kernels between pauses */
    uint64_t work_ns, start_ns;   /* kernels to run altogether, and when the first one comes */
    /* running: */
    uint64_t ready_ns, asked_ns, done_ns, ran_ns, in_flight_until_ns, wait_ns_max;
    int in_burst;
    uint64_t touched[CARD_CHUNKS * 2]; /* 0: on the host or never used */
    bool populated[CARD_CHUNKS * 2];
    struct residency_belief beliefs[MEMBERS_MAX];
    struct residency_member members[MEMBERS_MAX]; /* what it believes */
    struct residency_plan plan;
    struct residency_observer observer;
};

struct world {
    struct container containers[MEMBERS_MAX];
    struct residency_member members[MEMBERS_MAX];
    int count;
    uint64_t card_free_ns, moved_chunks, seed, horizon_ns;
    int resident_chunks;
    bool turns_off; /* for comparison: the driver alone */
    bool credulous; /* likewise: without residency_believe() */
    uint64_t turn_slots, overlap_ns_max, high_ran_ns;
};
extern struct world world;

uint64_t dice(uint64_t sides);
/* false: no such scenario. */
bool build(const char *scenario);
void lie(struct residency_member *page, enum lie how, uint64_t now_ns);

#endif
