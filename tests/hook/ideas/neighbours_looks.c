/* What a container sees of its neighbours, without a driver, on the folder EGPU_REGION names.
 *
 *   words     prints the names of the words of an answer
 *   looks     for each line of stdin, a moment in ns: looks at that moment, prints the time of all neighbours together,
 *             how many there are, and of each the words; "fork" before the moment: a child does
 *   orphan    the same in a thread that goes on when the first one has ended
 *   threads   looks at the same time as others, and holds what it sees against what cannot be
 */
#define _GNU_SOURCE
#include "neighbours.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CARD = 0, THREAD_COUNT = 4, THREAD_LOOKS = 3000, STEP_NS = 30000 };

static uint64_t clock_ns;

void clock_read(clockid_t which, struct timespec *now) { clock_gettime(which, now); }

uint64_t clock_now_ns(void) { return __atomic_load_n(&clock_ns, __ATOMIC_RELAXED); }

static void look(uint64_t now_ns) {
    struct throttle_peer peers[EGPU_MEMBER_COUNT_MAX];
    struct neighbours_busy busy;
    clock_ns = now_ns;
    int count = neighbours_peers(CARD, now_ns, peers, &busy);
    printf("%llu %d", (unsigned long long)busy.worked_ns, count);
    for (int each = 0; each < count; each++) {
        const struct throttle_peer *peer = &peers[each];
        printf(" %u %llu %llu %llu %llu %llu %lld %llu", peer->index, (unsigned long long)peer->wanting_until_ns,
               (unsigned long long)peer->busy_until_ns, (unsigned long long)peer->hold_until_ns,
               (unsigned long long)peer->probe_until_ns, (unsigned long long)peer->busy_ns, (long long)peer->tokens_ns,
               (unsigned long long)peer->tokens_at_ns);
    }
    printf("\n");
    fflush(stdout);
}

static void looks(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        bool fork_first = strncmp(line, "fork ", 5) == 0;
        uint64_t now_ns = strtoull(fork_first ? line + 5 : line, NULL, 10);
        if (fork_first && fork() != 0) {
            wait(NULL);
            continue;
        }
        look(now_ns);
        if (fork_first)
            _exit(0);
    }
}

static void *looks_of_thread(void *first) {
    pthread_join(*(pthread_t *)first, NULL);
    looks();
    return NULL;
}

static void orphan(void) {
    static pthread_t first;
    pthread_t other;
    first = pthread_self();
    if (pthread_create(&other, NULL, looks_of_thread, &first) != 0)
        abort();
    pthread_exit(NULL);
}

static void *look_often(void *argument) {
    struct throttle_peer peers[EGPU_MEMBER_COUNT_MAX];
    struct neighbour neighbour;
    struct neighbours_busy busy;
    uint64_t before_ns = 0;
    for (int each = 0; each < THREAD_LOOKS; each++) {
        uint64_t now_ns = __atomic_add_fetch(&clock_ns, STEP_NS, __ATOMIC_RELAXED);
        int count = neighbours_peers(CARD, now_ns, peers, &busy);
        for (int peer = 1; peer < count; peer++)
            if (peers[peer].index <= peers[peer - 1].index)
                abort();
        if (busy.worked_ns < before_ns || (count > 0 && !neighbours_page(CARD, count - 1, &neighbour)))
            abort();
        before_ns = busy.worked_ns;
    }
    return argument;
}

static void threads(void) {
    pthread_t others[THREAD_COUNT];
    clock_ns = STEP_NS;
    for (int each = 0; each < THREAD_COUNT; each++)
        if (pthread_create(&others[each], NULL, look_often, NULL) != 0)
            abort();
    for (int each = 0; each < THREAD_COUNT; each++)
        pthread_join(others[each], NULL);
}

int main(int count, char **arguments) {
    const char *command = count > 1 ? arguments[1] : "";
    if (strcmp(command, "words") == 0)
        puts("index wanting_until_ns busy_until_ns hold_until_ns probe_until_ns busy_ns tokens_ns tokens_at_ns");
    else if (strcmp(command, "looks") == 0)
        looks();
    else if (strcmp(command, "orphan") == 0)
        orphan();
    else if (strcmp(command, "threads") == 0)
        threads();
    else
        return 2;
    return 0;
}
