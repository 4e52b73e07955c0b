/* The region and the quota alone, without a driver: one command a run, on the folder EGPU_REGION names.
 *
 *   state                     prints absent, ready or broken, and the number of slots in use
 *   race BYTES                reserves until refused, prints how often it was granted, keeps all until stdin ends
 *   churn SEED                reserves and gives back until it is killed
 *   kill SEED ROUNDS COUNT    runs COUNT churners, kills one a round, holds the totals against the slots of the living
 *   fork | exec | threads     what the name says
 *   limits                    prints quota, core quota and priority for each line of stdin
 *   peers                     prints the neighbours of the card
 *   many COUNT                COUNT processes at the same time
 */
#define _GNU_SOURCE
#include "neighbours.h"
#include "quota.h"
#include "region.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHECK(condition)                                                                                               \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                                            \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { CARD = 0, CHURN_BYTES_MAX = 1 << 20, THREAD_COUNT = 8, THREAD_ROUNDS = 50000, KILL_PAUSE_NS_MAX = 300000 };

static const char *program;
/* Changed under the region's lock and by nothing else: the thread sanitizer sees when that is no lock. */
static uint64_t changes;

void clock_read(clockid_t which, struct timespec *now) { clock_gettime(which, now); }

uint64_t clock_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static bool reserve_once(uint64_t bytes) {
    CHECK(region_lock());
    uint64_t quota = region_limits(CARD)->memory_quota_bytes;
    changes++;
    struct egpu_slot_card *own = region_slot_card(CARD);
    bool granted = quota_reserve(region_card_usage(CARD), own, EGPU_MEMORY_DEVICE, bytes, quota) == QUOTA_GRANTED;
    region_unlock();
    return granted;
}

static bool reserve(uint64_t bytes) { return reserve_once(bytes) || (region_reap() > 0 && reserve_once(bytes)); }

static void give_back(uint64_t bytes) {
    CHECK(region_lock());
    changes++;
    quota_give_back(region_card_usage(CARD), region_slot_card(CARD), EGPU_MEMORY_DEVICE, bytes);
    region_unlock();
}

static uint64_t total(void) { return region_card_usage(CARD)->charged_bytes; }

static uint64_t sum_of_slots(void) {
    uint64_t sum = 0;
    for (uint32_t index = 0; index < region_slot_count(); index++)
        if (region_slots()[index].pid != 0)
            sum += quota_charge(&region_slots()[index].cards[CARD]);
    return sum;
}

static unsigned slots_in_use(void) {
    unsigned count = 0;
    for (uint32_t index = 0; index < region_slot_count(); index++)
        count += region_slots()[index].pid != 0;
    return count;
}

static void state(void) {
    const char *names[] = {"absent", "ready", "broken"};
    printf("%s %u\n", names[region_state()], slots_in_use());
}

static void wait_for_end_of_input(void) {
    fflush(stdout);
    while (getchar() != EOF) {
    }
}

static void race(uint64_t bytes) {
    unsigned granted = 0;
    while (reserve(bytes))
        granted++;
    printf("%u\n", granted);
    wait_for_end_of_input();
}

static void churn(uint64_t seed) {
    uint64_t random = seed * 2654435761u + 1, held = 0;
    for (;;) {
        uint64_t bytes = next_random(&random) % CHURN_BYTES_MAX;
        if (next_random(&random) % 2 == 0 && reserve(bytes))
            held += bytes;
        else if (held > 0) {
            uint64_t back = bytes < held ? bytes : held;
            give_back(back);
            held -= back;
        }
    }
}

static pid_t start(const char *command, uint64_t argument) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        char text[32];
        /* Who waits for this program may give it up; nobody else would end what it started. */
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        snprintf(text, sizeof text, "%llu", (unsigned long long)argument);
        execl(program, program, command, text, (char *)NULL);
        _exit(127);
    }
    return child;
}

/* The lock is free or becomes free, the dead hold nothing, and the total is what the living hold. */
static void check_after_kill(uint64_t quota) {
    region_reap();
    CHECK(region_lock());
    uint64_t now = total(), sum = sum_of_slots();
    region_unlock();
    if (now != sum)
        fprintf(stderr, "total %llu, slots %llu\n", (unsigned long long)now, (unsigned long long)sum);
    CHECK(now == sum);
    CHECK(now <= quota);
}

static void kill_loop(uint64_t seed, unsigned rounds, unsigned count) {
    pid_t children[64];
    CHECK(count <= 64 && region_state() == REGION_READY);
    uint64_t random = seed * 2654435761u + 1, quota = region_limits(CARD)->memory_quota_bytes;
    for (unsigned index = 0; index < count; index++)
        children[index] = start("churn", seed + index);
    for (unsigned round = 0; round < rounds; round++) {
        nanosleep(&(struct timespec){.tv_nsec = (long)(next_random(&random) % KILL_PAUSE_NS_MAX)}, NULL);
        unsigned victim = (unsigned)(next_random(&random) % count);
        kill(children[victim], SIGKILL);
        /* Every other time before the parent has noticed: a zombie holds nothing either. */
        if (round % 2 == 0)
            waitpid(children[victim], NULL, 0);
        check_after_kill(quota);
        if (round % 2 != 0)
            waitpid(children[victim], NULL, 0);
        children[victim] = start("churn", seed + count + round);
    }
    for (unsigned index = 0; index < count; index++) {
        kill(children[index], SIGKILL);
        waitpid(children[index], NULL, 0);
    }
    check_after_kill(quota);
    CHECK(total() == 0 && slots_in_use() == 1);
    printf("recovered %llu\n", (unsigned long long)((struct egpu_usage_head *)((char *)region_slots() -
           offsetof(struct egpu_usage, slots)))->recovery_count);
}

static void fork_case(void) {
    CHECK(reserve(1000));
    struct egpu_slot *own = region_slot();
    pid_t child = fork();
    if (child == 0) {
        CHECK(region_slot() != own && region_slot()->pid == (uint64_t)getpid());
        CHECK(reserve(500) && total() == 1500);
        exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(region_slot() == own && total() == 1000 && slots_in_use() == 1);
}

static void exec_case(bool again) {
    if (!again) {
        CHECK(reserve(1000));
        execl(program, program, "exec", "again", (char *)NULL);
    }
    CHECK(region_state() == REGION_READY && total() == 0 && slots_in_use() == 1);
}

static pthread_barrier_t together;

static void *thread(void *argument) {
    pthread_barrier_wait(&together);
    uint64_t random = (uint64_t)(uintptr_t)argument + 1, held = 0;
    for (int round = 0; round < THREAD_ROUNDS; round++) {
        uint64_t bytes = next_random(&random) % 4096;
        if (reserve(bytes))
            held += bytes;
        if (round % 3 == 2) {
            give_back(held);
            held = 0;
        }
    }
    give_back(held);
    return NULL;
}

static void threads_case(void) {
    pthread_t threads[THREAD_COUNT];
    pthread_barrier_init(&together, NULL, THREAD_COUNT);
    for (uintptr_t index = 0; index < THREAD_COUNT; index++)
        CHECK(pthread_create(&threads[index], NULL, thread, (void *)index) == 0);
    for (int index = 0; index < THREAD_COUNT; index++)
        pthread_join(threads[index], NULL);
    CHECK(total() == 0 && slots_in_use() == 1);
}

static void limits_case(void) {
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        const struct egpu_card_limits *limits = region_limits(CARD);
        printf("%llu %u %u\n", (unsigned long long)limits->memory_quota_bytes, limits->core_quota, limits->priority);
        fflush(stdout);
    }
}

static void peers_case(void) {
    struct neighbour one;
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        struct egpu_page *own = region_page(CARD);
        CHECK(own != NULL);
        __atomic_fetch_add(&own->busy_ns, 1, __ATOMIC_RELAXED);
        neighbours_renew(CARD);
        for (int place = 0; neighbours_page(CARD, place, &one); place++)
            printf("%u/%llu ", one.member.core_quota, (unsigned long long)one.page.busy_ns);
        printf("\n");
        fflush(stdout);
    }
}

static void many(unsigned count) {
    int ready[2], go[2];
    CHECK(pipe(ready) == 0 && pipe(go) == 0 && region_state() == REGION_READY);
    for (unsigned index = 0; index < count; index++) {
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            char byte;
            close(go[1]);
            bool granted = region_state() == REGION_READY && reserve(1);
            if (write(ready[1], granted ? "+" : "-", 1) != 1 || read(go[0], &byte, 1) != 0)
                _exit(1);
            exit(0);
        }
    }
    unsigned granted = 0;
    for (unsigned index = 0; index < count; index++) {
        char byte;
        CHECK(read(ready[0], &byte, 1) == 1);
        granted += byte == '+';
    }
    printf("%u %llu\n", granted, (unsigned long long)total());
    close(go[1]);
    while (wait(NULL) > 0) {
    }
    CHECK(total() == 0 && slots_in_use() == 1);
}

int main(int count, char **arguments) {
    const char *command = count > 1 ? arguments[1] : "";
    uint64_t numbers[3] = {0};
    program = "/proc/self/exe";
    for (int index = 2; index < count && index < 5; index++)
        numbers[index - 2] = strtoull(arguments[index], NULL, 10);
    if (strcmp(command, "state") == 0) state();
    else if (strcmp(command, "race") == 0) race(numbers[0]);
    else if (strcmp(command, "churn") == 0) churn(numbers[0]);
    else if (strcmp(command, "kill") == 0) kill_loop(numbers[0], (unsigned)numbers[1], (unsigned)numbers[2]);
    else if (strcmp(command, "fork") == 0) fork_case();
    else if (strcmp(command, "exec") == 0) exec_case(count > 2);
    else if (strcmp(command, "threads") == 0) threads_case();
    else if (strcmp(command, "limits") == 0) limits_case();
    else if (strcmp(command, "peers") == 0) peers_case();
    else if (strcmp(command, "many") == 0) many((unsigned)numbers[0]);
    else return 2;
    return 0;
}
