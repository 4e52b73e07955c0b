/* Clients that print what differs from what they expect, and end with 1 if anything does. */
#ifndef EGPU_EXPECT_H
#define EGPU_EXPECT_H

#include <stdio.h>

static int failures;

static void expect(long got, long wanted, const char *what, int line) {
    if (got == wanted) return;
    failures++;
    printf("line %d: %s is %ld, not %ld\n", line, what, got, wanted);
}

#define EXPECT(got, wanted) expect((long)(got), (long)(wanted), #got, __LINE__)
#define DO(call) EXPECT(call, CUDA_SUCCESS)

#endif
