/* What the driver has for the processes of a card, by libnvidia-ml. */
#ifndef SEEN_H
#define SEEN_H
#include <stdbool.h>
#include <stdint.h>

struct seen {
    uint64_t pid;
    uint64_t bytes;
};

/* In a PID namespace of its own a process has another number there than here, and its number from here belongs to somebody
 * else there. So a process knows itself only when its number was not there before its first context and is afterwards.
 * To be asked around the creation of a context; the second answers true, with the bytes the context took, when the process
 * has just been recognised by it. */
bool seen_is_absent(int card);
bool seen_recognise(int card, bool was_absent, uint64_t *bytes);

bool seen_is_recognised(void);

/* Bytes the driver has for this process on a card; false when libnvidia-ml is not there or did not recognise it. */
bool seen_own(int card, uint64_t *bytes);
/* All processes of the card; how many, 0 when this one is not recognised. */
unsigned int seen_all(int card, struct seen *list, unsigned int max);
/* A child of fork starts anew. */
void seen_after_fork(void);

#endif
