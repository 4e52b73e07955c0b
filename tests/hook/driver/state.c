/* The state that all processes of a run share: made, mapped, locked, and freed of those who died. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define MIB (UINT64_C(1) << 20)
#define VIRTUAL_START_NS UINT64_C(1000000000) /* not 0: egpuSimNow() = 0 means the wall */
#define REAP_INTERVAL_NS UINT64_C(50000000)
#define REAP_COST_SHARE 20 /* looking for the dead takes at most a twentieth of one processor */

static struct sim_state *state;
static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static uint32_t own_process; /* index + 1 */
static bool process_over;
static void (*end_hooks[SIM_END_HOOKS_MAX])(uint32_t);
static int end_hook_count;

uint64_t sim_environment(const char *name, uint64_t fallback)
{
    const char *text = getenv(name);

    return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : fallback;
}

static void fail(const char *what)
{
    fprintf(stderr, "simulated driver: %s: %s\n", what, strerror(errno));
    abort();
}

static void make_mutex(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static void make_cards(struct sim_state *made)
{
    for (uint32_t card = 0; card < made->cards; card++) {
        memcpy(made->card[card].uuid, "\x45\x47\x50\x55\x53\x49\x4d\x00\x80\x00\x00\x00\x00\x00\x00\x00", 16);
        made->card[card].uuid[15] = (char)card;
        made->card[card].memory_bytes = made->memory_bytes;
    }
    for (uint32_t engine = 0; engine < SIM_ENGINES_MAX; engine++) {
        made->engines[engine].card = engine / SIM_ENGINES_PER_CARD;
        made->engines[engine].kind = engine % SIM_ENGINES_PER_CARD;
    }
    for (uint32_t place = 0; place < SIM_PARTICIPANTS_MAX; place++)
        made->wakes[place] = SIM_NEVER;
}

static bool environment_is(const char *name, const char *value)
{
    const char *text = getenv(name);

    return text != NULL && strcmp(text, value) == 0;
}

static void make_state(struct sim_state *made)
{
    memset(made, 0, offsetof(struct sim_state, lanes));
    made->version = SIM_VERSION;
    made->size = sizeof(*made);
    made->model = environment_is("EGPU_SIM_MODEL", "timeslice") ? SIM_TIMESLICE : SIM_FIFO;
    made->clock = environment_is("EGPU_SIM_CLOCK", "virtual") ? SIM_VIRTUAL : SIM_WALL;
    made->cuda = environment_is("EGPU_SIM_CUDA", "12.8") ? 12080 : 13000;
    made->cards = (uint32_t)sim_environment("EGPU_SIM_CARDS", 1);
    if (made->cards > SIM_CARDS_MAX)
        made->cards = SIM_CARDS_MAX;
    made->memory_bytes = sim_environment("EGPU_SIM_MEMORY_MIB", 16384) * MIB;
    made->seed = sim_environment("EGPU_SIM_SEED", 1);
    made->start = (uint32_t)sim_environment("EGPU_SIM_START", 0);
    made->call_ns = sim_environment("EGPU_SIM_CALL_NS", 200);
    made->launch_ns = sim_environment("EGPU_SIM_LAUNCH_NS", made->call_ns * 10);
    made->now_ns = VIRTUAL_START_NS;
    made->next_wake_ns = SIM_NEVER;
    made->trace_hash = UINT64_C(0xcbf29ce484222325) ^ made->seed;
    make_cards(made);
    make_mutex(&made->mutex);
    __atomic_store_n(&made->magic, SIM_MAGIC, __ATOMIC_RELEASE);
}

static struct sim_state *map_state(void)
{
    const char *path = getenv("EGPU_SIM_STATE");
    size_t bytes = sizeof(struct sim_state);
    struct sim_state *mapped;
    struct stat status;
    int file;

    if (path == NULL || *path == '\0') {
        mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapped == MAP_FAILED)
            fail("no room for the state");
        make_state(mapped);
        return mapped;
    }
    file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 || flock(file, LOCK_EX) != 0 || fstat(file, &status) != 0)
        fail(path);
    if ((size_t)status.st_size < bytes && ftruncate(file, (off_t)bytes) != 0)
        fail(path);
    mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, file, 0);
    if (mapped == MAP_FAILED)
        fail(path);
    if (mapped->magic != SIM_MAGIC)
        make_state(mapped);
    if (mapped->version != SIM_VERSION || mapped->size != bytes)
        fail("the state file is of another version");
    flock(file, LOCK_UN); /* the mapping keeps the open file, and with it the lock, beyond close */
    close(file);
    return mapped;
}

static void forked(void)
{
    pthread_mutex_init(&opening, NULL);
    own_process = 0;
    process_over = false;
    sim_clock_forked();
    sim_contexts_forked();
    sim_host_functions_forked();
}

struct sim_state *sim_state(void)
{
    struct sim_state *now = __atomic_load_n(&state, __ATOMIC_ACQUIRE);

    if (now != NULL)
        return now;
    pthread_mutex_lock(&opening);
    if (state == NULL) {
        now = map_state();
        pthread_atfork(NULL, NULL, forked);
        __atomic_store_n(&state, now, __ATOMIC_RELEASE);
    }
    pthread_mutex_unlock(&opening);
    return state;
}

void sim_lock(void)
{
    struct sim_state *shared = sim_state();
    int result = pthread_mutex_lock(&shared->mutex);

    if (result == EOWNERDEAD) {
        pthread_mutex_consistent(&shared->mutex);
        shared->reaped_real_ns = 0;
        sim_recover_frames();
        sim_reap();
        sim_repair();
    } else if (result != 0) {
        errno = result;
        fail("the state's lock");
    }
}

void sim_unlock(void)
{
    pthread_mutex_unlock(&sim_state()->mutex);
}

/* The state letter and the start time of a process or thread; false when there is none. */
bool sim_status_read(const char *path, char *letter, uint64_t *start_time)
{
    char text[512];
    char *field;
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t bytes;

    if (file < 0)
        return false;
    bytes = read(file, text, sizeof(text) - 1);
    close(file);
    if (bytes <= 0)
        return false;
    text[bytes] = '\0';
    field = strrchr(text, ')'); /* the name before it may hold anything */
    if (field == NULL || field[1] != ' ')
        return false;
    *letter = field[2];
    field += 2;
    for (int skipped = 3; skipped < 22 && field != NULL; skipped++)
        field = strchr(field + 1, ' ');
    *start_time = field != NULL ? strtoull(field, NULL, 10) : 0;
    return true;
}

static uint64_t host_pid;
__attribute__((constructor)) static void read_host_pid(void) { host_pid = sim_environment("EGPU_SIM_HOST_PID", 0); }
bool sim_is_apart(void) { return host_pid != 0; }

bool sim_process_alive(const struct sim_process *process)
{
    uint64_t start_time;
    char path[64];
    char letter;

    if (!process->alive || sim_is_apart())
        return process->alive;
    snprintf(path, sizeof(path), "/proc/%d/stat", process->pid);
    if (!sim_status_read(path, &letter, &start_time))
        return false;
    return letter != 'Z' && letter != 'X' && start_time == process->start_time;
}

void sim_end_hook(void (*end)(uint32_t process))
{
    if (end_hook_count < SIM_END_HOOKS_MAX)
        end_hooks[end_hook_count++] = end;
}

void sim_end_process(uint32_t index)
{
    struct sim_process *process = &state->processes[index];
    bool earlier;

    process->ended_ns = sim_now();
    earlier = sim_end_lanes(index);
    for (int hook = 0; hook < end_hook_count; hook++)
        end_hooks[hook](index);
    for (uint32_t card = 0; card < state->cards; card++) {
        struct sim_share *share = &process->shares[card];

        state->card[card].memory_used_bytes = 0;
        share->bytes = 0;
        share->context_bytes = 0;
        share->managed_bytes = 0;
        share->managed_resident_bytes = 0;
        share->host_bytes = 0;
    }
    for (uint32_t other = 0; other < state->processes_high; other++)
        for (uint32_t card = 0; card < state->cards && state->processes[other].alive; card++)
            state->card[card].memory_used_bytes += state->processes[other].shares[card].bytes;
    sim_end_participants(index);
    process->alive = 0; /* last: who is killed in here leaves it to the next one */
    if (earlier)
        sim_wake_all();
    sim_dispatch();
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

uint64_t sim_real_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

void sim_reap(void)
{
    uint64_t began = sim_real_ns();
    uint64_t spent;

    if (began < state->reaped_real_ns)
        return;
    /* Not the real time: on a busy machine most of that is waiting for a processor. */
    spent = clock_ns(CLOCK_THREAD_CPUTIME_ID);
    for (uint32_t index = 0; index < state->processes_high; index++)
        if (state->processes[index].alive && !sim_process_alive(&state->processes[index]))
            sim_end_process(index);
    state->reaped_real_ns = began + REAP_INTERVAL_NS + REAP_COST_SHARE * (clock_ns(CLOCK_THREAD_CPUTIME_ID) - spent);
}

/* A place for a new process: one never used, else the one whose owner ended longest ago. */
static uint32_t free_process(void)
{
    uint32_t oldest = SIM_PROCESSES_MAX;

    if (state->processes_high < SIM_PROCESSES_MAX)
        return state->processes_high++;
    for (uint32_t index = 0; index < SIM_PROCESSES_MAX; index++)
        if (!state->processes[index].alive
            && (oldest == SIM_PROCESSES_MAX || state->processes[index].ended_ns < state->processes[oldest].ended_ns))
            oldest = index;
    if (oldest == SIM_PROCESSES_MAX) {
        errno = ENOSPC;
        fail("too many processes");
    }
    return oldest;
}

static int32_t own_pid(void)
{
    return host_pid != 0 ? (int32_t)host_pid : getpid();
}

/* exec keeps PID and start time, and the real driver's files are closed by it: what the former program had is gone. Only
 * libcuda registers, so a living record of this PID is never the process' own. */
static void end_former_program(void)
{
    for (uint32_t index = 0; index < state->processes_high; index++)
        if (state->processes[index].alive && state->processes[index].pid == own_pid())
            sim_end_process(index);
}

static uint32_t register_process(void)
{
    struct sim_process *process;
    uint32_t index;
    char letter;

    sim_lock();
    end_former_program();
    state->reaped_real_ns = state->processes_high < SIM_PROCESSES_MAX ? state->reaped_real_ns : 0;
    sim_reap();
    index = free_process();
    process = &state->processes[index];
    memset(process, 0, sizeof(*process));
    if (!sim_status_read("/proc/self/stat", &letter, &process->start_time))
        fail("/proc/self/stat");
    process->pid = own_pid();
    process->alive = 1;
    process->attached_ns = sim_now();
    process->rank = sim_environment("EGPU_SIM_RANK", SIM_RANK_NONE + index);
    sim_unlock();
    return index;
}

uint32_t sim_process_index(void)
{
    uint32_t index = __atomic_load_n(&own_process, __ATOMIC_ACQUIRE);

    if (index != 0)
        return index - 1;
    sim_state();
    pthread_mutex_lock(&opening);
    if (own_process == 0)
        __atomic_store_n(&own_process, register_process() + 1, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&opening);
    return own_process - 1;
}

struct sim_process *sim_process(void)
{
    return &sim_state()->processes[sim_process_index()];
}

struct sim_share *sim_share(int card)
{
    return &sim_process()->shares[card];
}

bool sim_process_over(void)
{
    return __atomic_load_n(&process_over, __ATOMIC_ACQUIRE);
}

/* exit(): the process' work, memory and turn vanish at once; calls after this answer DEINITIALIZED. */
__attribute__((destructor)) static void end_own_process(void)
{
    if (state == NULL || own_process == 0 || process_over)
        return;
    __atomic_store_n(&process_over, true, __ATOMIC_RELEASE); /* threads of the driver may still run */
    sim_lock();
    if (state->processes[own_process - 1].alive)
        sim_end_process(own_process - 1);
    sim_unlock();
}
