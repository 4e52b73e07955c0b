/* Of the threads that wait at a gate one keeps a lookout; the others sleep until somebody passes, for each look costs a
 * sweep over all streams and what may be done next is the same for all of them. */
#ifndef EGPU_LOOKOUT_H
#define EGPU_LOOKOUT_H

#include <stdbool.h>
#include <stdint.h>

struct lookout {
    uint64_t until_ns;  /* somebody looks, before then; he may be cancelled while he sleeps */
    uint32_t passed;    /* changes when somebody passes */
    uint32_t followers; /* asleep; too many when one of them was cancelled, which costs a wake */
};

/* Before the look that says whether to wait. */
uint32_t lookout_begin(struct lookout *lookout);
/* true: the caller is the one who looks, at that moment, until lookout_leave. */
bool lookout_take(struct lookout *lookout, uint64_t now_ns, uint64_t look_ns);
void lookout_leave(struct lookout *lookout);
/* Until it is the caller's turn to look, or that moment. */
void lookout_follow(struct lookout *lookout, uint32_t begun, uint64_t latest_ns);
/* The caller has passed and launched: the one who has slept longest looks next. */
void lookout_pass(struct lookout *lookout);

#endif
