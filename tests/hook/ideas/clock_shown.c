/* The hook's clock in a program that is shown another time, as libfaketime does it: by functions of the C library's names
 * that come first. Prints how many ms the hook's clock and the shown one went on in a wait of 20 ms. */
#define _GNU_SOURCE
#include "clock.h"

#include <stdio.h>

#define MS 1000000u

static const struct timespec shown = {.tv_sec = 1000};

/* A clock that stands, and a kernel that is not asked. */
int clock_gettime(clockid_t which, struct timespec *now) {
    (void)which;
    *now = shown;
    return 0;
}

long syscall(long number, ...) {
    (void)number;
    return 0;
}

int main(void) {
    struct timespec before, after;
    uint64_t began_ns = clock_now_ns();
    clock_gettime(CLOCK_MONOTONIC, &before);
    clock_sleep_until(began_ns + 20 * MS);
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("%llu %ld\n", (unsigned long long)(clock_now_ns() - began_ns) / MS, (long)(after.tv_sec - before.tv_sec));
    return 0;
}
