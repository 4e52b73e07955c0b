/* The other containers of a card, as their pages said a moment ago.
 *
 * A page is a file that its owner may shrink at any moment, and to touch a mapping beyond the end of its file is death
 * by SIGBUS. So nobody touches them: the kernel copies the words of all pages by one call, which fails where touching would
 * kill. The copy is shared by all threads of the process and renewed when it is too old.
 */
#ifndef EGPU_NEIGHBOURS_H
#define EGPU_NEIGHBOURS_H

#include "region.h"
#include "throttle.h"

/* One of them, in all words. Of the page only the words that are not reserved, and as they were said: whoever uses them
 * holds them against what is possible. */
struct neighbour {
    uint32_t index;
    struct egpu_member member;
    struct egpu_page page;
};

/* Time of all of them together; never shrinks. */
struct neighbours_busy {
    uint64_t charged_ns;
    uint64_t worked_ns; /* with what they will be charged for the time until now, see believed.h */
};

/* How many there are; costs no look. */
int neighbours_count(int card);
/* Copies what the gate needs to know of them, in the order of their indexes, as far as it is to be believed
 * (believed.h); returns how many, EGPU_MEMBER_COUNT_MAX at most. */
int neighbours_peers(int card, uint64_t now_ns, struct throttle_peer *peers, struct neighbours_busy *busy);
/* The one at this place in that order; false when there are not so many. */
bool neighbours_page(int card, int place, struct neighbour *neighbour);
/* Looks now, for what must not be missed. */
void neighbours_renew(int card);
/* The child looks for itself. */
void neighbours_after_fork(void);

#endif
