/* Contexts and what they take of a card. */
#ifndef CONTEXTS_H
#define CONTEXTS_H

/* The region was broken and is there now: contexts made in between are charged as estimated. */
void contexts_count_late(void);

#endif
