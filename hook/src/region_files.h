/* Inside of region*.c: mapping the files, who a process is, and the words those share. */
#ifndef REGION_FILES_H
#define REGION_FILES_H
#include "region.h"

#include <pthread.h>
#include <stddef.h>

enum { REGION_PATH_BYTES_MAX = 4096 };

struct region {
    char path[REGION_PATH_BYTES_MAX];
    const struct egpu_limits *limits;
    struct egpu_usage *usage;
};

/* Who a process is for as long as it lives and never again. */
struct process_identity {
    uint64_t pid;
    uint64_t start_time;
    uint64_t pid_namespace;
};

/* Maps the whole of a file that must have at least these bytes; NULL when it cannot be. */
void *region_map(const char *path, size_t bytes, bool writable);
/* Maps `usage` and prepares it if nobody did; NULL when it cannot be. */
struct egpu_usage *region_map_usage(const char *path);

struct process_identity process_self(void);
/* false only when it is certain: another process of that identity is not there, or a zombie. */
bool process_alive(const struct process_identity *who, uint64_t own_pid_namespace);

/* A slot for this process, with everything a former image of it (before exec) held given back; NULL when all are taken or
 * the disk is full. With the lock held. */
struct egpu_slot *slot_take(struct region *region, struct process_identity self);
/* The slot's owner is gone or going: with the lock held. */
void slot_release(struct egpu_usage *usage, struct egpu_slot *slot);

/* For copies word by word: structs hold other types, too. */
typedef uint64_t __attribute__((may_alias)) any_word;
/* Copies so many bytes of a file of the agent's; false while it is being written. An even generation before and the same
 * one after: nothing was written in between. */
bool region_copy_whole(void *to, const void *from, size_t bytes, const uint64_t *generation);
/* Maps cards/<uuid>/<index>.page; NULL when it cannot be. */
struct egpu_page *region_map_page(const char *uuid, uint32_t index, bool writable);

/* The first copy of the limits; false when the file is not one we can read, or is still being written after so many
 * milliseconds. */
bool limits_begin(const struct egpu_limits *limits, int milliseconds);
/* Of the copy in use. */
uint64_t limits_generation(void);
/* Locks of this process that a child must not inherit in the locked state. */
void limits_after_fork(void);
void cards_after_fork(void);

#endif
