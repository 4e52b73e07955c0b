#define _GNU_SOURCE
#include "region_files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    PREPARE_TRIES_MAX = 2000,         /* of 1 ms: preparing takes microseconds, and a dead preparer's lock is gone */
    PREPARE_PAUSE_NS = 1000000,
    USAGE_MODE = 0666,                /* processes of a container may run as different users */
};

_Static_assert(sizeof(pthread_mutex_t) <= EGPU_MUTEX_BYTES, "room for the mutex");

static void *map_descriptor(int descriptor, size_t bytes, bool writable) {
    struct stat status;
    if (fstat(descriptor, &status) != 0 || (uint64_t)status.st_size < bytes) {
        errno = EINVAL;
        return NULL;
    }
    void *address = mmap(NULL, bytes, PROT_READ | (writable ? PROT_WRITE : 0), MAP_SHARED, descriptor, 0);
    return address == MAP_FAILED ? NULL : address;
}

void *region_map(const char *path, size_t bytes, bool writable) {
    /* Without O_NONBLOCK a neighbour with a lease on its page (fcntl(2)) would hold us up for 45 s. */
    int descriptor = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
    if (descriptor < 0)
        return NULL;
    void *address = map_descriptor(descriptor, bytes, writable);
    /* No descriptor stays open: programs close all they know nothing of, and the number would then be someone else's. */
    close(descriptor);
    return address;
}

static bool lock_file(int descriptor) {
    for (int attempt = 0; attempt < PREPARE_TRIES_MAX; attempt++) {
        if (flock(descriptor, LOCK_EX | LOCK_NB) == 0)
            return true;
        nanosleep(&(struct timespec){.tv_nsec = PREPARE_PAUSE_NS}, NULL);
    }
    return false;
}

static bool prepare(struct egpu_usage *usage) {
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0)
        return false;
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    /* A signal handler that allocates while its thread is inside gets an error instead of waiting for itself. */
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    bool made = pthread_mutex_init((pthread_mutex_t *)(void *)usage->head.mutex, &attributes) == 0;
    pthread_mutexattr_destroy(&attributes);
    usage->head.version = EGPU_REGION_VERSION;
    if (made)
        __atomic_store_n(&usage->head.magic, EGPU_USAGE_MAGIC, __ATOMIC_RELEASE);
    return made;
}

/* All but the slots, which get theirs when they are taken: most containers have few. Without blocks of its own a page of a
 * full disk is SIGBUS for whoever touches it. */
static bool allocate_blocks(int descriptor) {
    int error;
    do
        error = posix_fallocate(descriptor, 0, offsetof(struct egpu_usage, slots));
    while (error == EINTR);
    return error == 0;
}

static struct egpu_usage *map_prepared(int descriptor) {
    struct stat status;
    /* Blocks before size: who finds the file in its whole size may look into it. */
    if (!lock_file(descriptor) || !allocate_blocks(descriptor) || fstat(descriptor, &status) != 0)
        return NULL;
    if ((uint64_t)status.st_size < sizeof(struct egpu_usage) && ftruncate(descriptor, sizeof(struct egpu_usage)) != 0)
        return NULL;
    struct egpu_usage *usage = map_descriptor(descriptor, sizeof(struct egpu_usage), true);
    if (usage == NULL)
        return NULL;
    if (__atomic_load_n(&usage->head.magic, __ATOMIC_ACQUIRE) == 0 && !prepare(usage)) {
        munmap(usage, sizeof(struct egpu_usage));
        return NULL;
    }
    return usage;
}

struct egpu_usage *region_map_usage(const char *path) {
    struct egpu_usage *usage = region_map(path, sizeof(struct egpu_usage), true);
    if (usage != NULL && __atomic_load_n(&usage->head.magic, __ATOMIC_ACQUIRE) != 0)
        return usage;
    if (usage != NULL)
        munmap(usage, sizeof(struct egpu_usage));
    int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, USAGE_MODE);
    if (descriptor < 0)
        return NULL;
    /* The umask may have taken bits away; that the file belongs to someone else already is no harm. */
    (void)!fchmod(descriptor, USAGE_MODE);
    usage = map_prepared(descriptor);
    /* The mapping keeps the open file, and with it the lock, alive beyond close. */
    flock(descriptor, LOCK_UN);
    close(descriptor);
    return usage;
}
