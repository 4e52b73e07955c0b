/* The clock: the wall's, or a virtual one for all threads of all processes of a run.
 *
 * Virtual: exactly one participant runs, the one that holds the token; all others have named the time they want to
 * run again (or a key, or both). When the holder waits, the clock jumps to the least of those times. So a run is the
 * same however the machine schedules it, and costs no real waiting. */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* Real time between two looks at whether the holder still lives; longer when many look. */
#define WATCH_NS UINT64_C(50000000)
#define WATCHERS_PER_INTERVAL 16
/* Looks in a row at a sleeping holder of an unmoved clock before it loses the token. */
#define STALLED_LOOKS_MAX 3
#define WALL_WAIT_NS_MAX UINT64_C(5000000)
#define ORDER_THREADS_MAX UINT64_C(0x10000)

static __thread uint32_t own_place; /* + 1; 0 = takes no part */
static __thread uint64_t own_attached;
static pthread_key_t leaving;
static pthread_once_t leaving_once = PTHREAD_ONCE_INIT;

static bool is_virtual(void)
{
    return sim_state()->clock == SIM_VIRTUAL;
}

uint64_t sim_now(void)
{
    return is_virtual() ? atomic_load_explicit(&sim_state()->now_ns, memory_order_acquire) : sim_real_ns();
}

static struct sim_participant *own(void)
{
    struct sim_participant *participant;

    if (own_place == 0)
        return NULL;
    participant = &sim_state()->participant[own_place - 1];
    if (__atomic_load_n(&participant->attached, __ATOMIC_ACQUIRE) == own_attached)
        return participant;
    own_place = 0; /* taken away while it slept outside the driver */
    return NULL;
}

void sim_clock_forked(void)
{
    own_place = 0;
}

static void leave_at_thread_end(void *unused)
{
    (void)unused;
    sim_detach();
}

static void make_leaving(void)
{
    pthread_key_create(&leaving, leave_at_thread_end);
}

static void free_place(struct sim_state *state, uint32_t place)
{
    struct sim_participant *participant = &state->participant[place];

    if (participant->pid == 0)
        return;
    participant->pid = 0;
    participant->key = 0;
    state->wakes[place] = SIM_NEVER;
    __atomic_store_n(&participant->attached, 0, __ATOMIC_RELEASE);
    __atomic_fetch_sub(&state->participants, 1, __ATOMIC_RELAXED);
    state->progress++;
    if (state->holder == place + 1)
        state->holder = 0;
    __atomic_store_n(&participant->go, 1, __ATOMIC_RELEASE); /* whoever waits there finds its place gone */
    sim_futex_wake(&participant->go, 1);
}

void sim_end_participants(uint32_t process)
{
    struct sim_state *state = sim_state();

    state->expected -= (uint32_t)state->processes[process].expected;
    state->processes[process].expected = 0;
    for (uint32_t place = 0; place < state->participants_high; place++)
        if (state->participant[place].pid != 0 && state->participant[place].process == process)
            free_place(state, place);
}

static bool comes_before(const struct sim_state *state, uint32_t place, uint32_t other)
{
    if (state->wakes[place] != state->wakes[other])
        return state->wakes[place] < state->wakes[other];
    return state->participant[place].order < state->participant[other].order;
}

/* Who runs next: least wake time, then order. `second` is the least wake time of the others. */
static uint32_t choose(const struct sim_state *state, uint64_t *second)
{
    uint32_t best = SIM_PARTICIPANTS_MAX;

    *second = SIM_NEVER;
    for (uint32_t place = 0; place < state->participants_high; place++) {
        uint64_t wake = state->wakes[place];

        if (wake == SIM_NEVER)
            continue;
        if (best == SIM_PARTICIPANTS_MAX || comes_before(state, place, best)) {
            *second = best == SIM_PARTICIPANTS_MAX ? *second : state->wakes[best];
            best = place;
        } else if (wake < *second) {
            *second = wake;
        }
    }
    return best;
}

void sim_dispatch(void)
{
    struct sim_state *state = sim_state();
    uint64_t second;
    uint32_t best;

    if (state->holder != 0 || state->expected > 0 || state->participants < state->start)
        return;
    best = choose(state, &second);
    if (best == SIM_PARTICIPANTS_MAX)
        return;
    state->start = 0;
    state->next_wake_ns = second;
    if (state->wakes[best] > state->now_ns)
        atomic_store_explicit(&state->now_ns, state->wakes[best], memory_order_release);
    state->wakes[best] = SIM_NEVER;
    state->participant[best].key = 0;
    state->holder = best + 1;
    state->switches++;
    state->progress++;
    __atomic_store_n(&state->participant[best].go, 1, __ATOMIC_RELEASE);
    if (best + 1 != own_place)
        sim_futex_wake(&state->participant[best].go, 1);
}

static bool sleeps(int pid, int tid)
{
    uint64_t start_time;
    char path[64];
    char letter;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
    return !sim_status_read(path, &letter, &start_time) || letter == 'S';
}

/* Now and then a waiter looks whether the run still moves: the holder may have died, or sleep outside the driver
 * (in a join, on a pipe): then it takes no part until its next call. Whether it sleeps is asked without the lock, for
 * which it might be waiting. */
static void watch(uint64_t *progress, int *looks)
{
    struct sim_state *state = sim_state();
    struct sim_participant holder = {0};
    uint64_t seen;

    sim_lock();
    sim_reap();
    if (state->holder == 0)
        sim_dispatch();
    seen = state->progress;
    if (state->holder != 0)
        holder = state->participant[state->holder - 1];
    sim_unlock();
    if (*progress != seen)
        *looks = 0;
    *progress = seen;
    if (holder.pid == 0 || !sleeps(holder.pid, holder.tid) || ++*looks < STALLED_LOOKS_MAX)
        return;
    sim_lock();
    if (state->progress == seen && state->holder != 0 && state->participant[state->holder - 1].tid == holder.tid) {
        state->stalls++;
        free_place(state, state->holder - 1);
        sim_dispatch();
    }
    sim_unlock();
}

/* Returns when this thread has the token, or has lost its place. */
static void await_token(struct sim_participant *participant)
{
    struct sim_state *state = sim_state();
    uint64_t progress = 0;
    int looks = 0;

    while (__atomic_exchange_n(&participant->go, 0, __ATOMIC_ACQ_REL) == 0) {
        uint64_t began = sim_real_ns();
        uint32_t watchers = __atomic_load_n(&state->participants, __ATOMIC_RELAXED);
        uint64_t interval = WATCH_NS * (1 + watchers / WATCHERS_PER_INTERVAL);

        sim_futex_wait(&participant->go, 0, interval);
        if (sim_real_ns() - began >= interval)
            watch(&progress, &looks);
    }
}

static uint32_t find_place(struct sim_state *state)
{
    for (uint32_t place = 0; place < state->participants_high; place++)
        if (state->participant[place].pid == 0)
            return place;
    if (state->participants_high == SIM_PARTICIPANTS_MAX) {
        fprintf(stderr, "simulated driver: more than %d threads take part\n", SIM_PARTICIPANTS_MAX);
        abort();
    }
    return state->participants_high++;
}

void sim_participate(void)
{
    struct sim_state *state = sim_state();
    struct sim_participant *participant;
    struct sim_process *process;
    uint32_t place;

    if (!is_virtual() || own() != NULL || sim_process_over())
        return;
    process = sim_process();
    pthread_once(&leaving_once, make_leaving);
    pthread_setspecific(leaving, state);
    sim_lock();
    place = find_place(state);
    participant = &state->participant[place];
    participant->pid = process->pid;
    participant->tid = (int32_t)syscall(SYS_gettid);
    participant->process = sim_process_index();
    participant->go = 0;
    participant->order = process->rank * ORDER_THREADS_MAX + process->threads++ % ORDER_THREADS_MAX;
    participant->wake_ns = state->now_ns;
    participant->key = 0;
    own_place = place + 1;
    own_attached = ++state->attachments;
    __atomic_store_n(&participant->attached, own_attached, __ATOMIC_RELEASE);
    __atomic_fetch_add(&state->participants, 1, __ATOMIC_RELAXED);
    state->expected -= process->expected > 0;
    process->expected -= process->expected > 0;
    state->wakes[place] = state->now_ns;
    if (state->now_ns < state->next_wake_ns)
        state->next_wake_ns = state->now_ns;
    sim_dispatch();
    sim_unlock();
    await_token(participant);
}

void sim_detach(void)
{
    struct sim_participant *participant;

    if (sim_process_over() || !is_virtual() || own() == NULL)
        return;
    sim_lock();
    participant = own();
    if (participant != NULL)
        free_place(sim_state(), own_place - 1);
    own_place = 0;
    sim_dispatch();
    sim_unlock();
}

static void wall_wait(uint64_t wake_ns)
{
    struct sim_state *state = sim_state();
    uint32_t changes = __atomic_load_n(&state->changes, __ATOMIC_ACQUIRE);
    uint64_t now = sim_real_ns();
    uint64_t left = wake_ns > now ? wake_ns - now : 0;

    if (left > 0)
        sim_futex_wait(&state->changes, changes, left < WALL_WAIT_NS_MAX ? left : WALL_WAIT_NS_MAX);
}

void sim_wait_until(uint64_t wake_ns, uint64_t key)
{
    struct sim_state *state = sim_state();
    struct sim_participant *participant;

    if (!is_virtual()) {
        wall_wait(wake_ns);
        return;
    }
    sim_participate();
    participant = own();
    if (participant == NULL || wake_ns <= state->now_ns)
        return;
    sim_lock();
    participant = own();
    if (participant == NULL) {
        sim_unlock();
        return;
    }
    participant->wake_ns = wake_ns;
    participant->key = key;
    state->wakes[own_place - 1] = wake_ns;
    if (state->holder == own_place)
        state->holder = 0;
    sim_dispatch();
    sim_unlock();
    await_token(participant);
}

void sim_charge_ns(uint64_t ns)
{
    struct sim_state *state = sim_state();

    if (ns == 0 || !is_virtual() || own() == NULL)
        return;
    /* Only the holder moves the clock, so it may do so without the lock while nobody is due or about to come. */
    if (atomic_load_explicit(&state->expected, memory_order_acquire) == 0
        && state->now_ns + ns <= atomic_load_explicit(&state->next_wake_ns, memory_order_acquire)) {
        atomic_store_explicit(&state->now_ns, state->now_ns + ns, memory_order_release);
        atomic_store_explicit(&state->progress, state->progress + 1, memory_order_relaxed);
        return;
    }
    for (uint64_t until = state->now_ns + ns; own() != NULL && state->now_ns < until;)
        sim_wait_until(until, 0);
}

void sim_charge(enum sim_call call)
{
    struct sim_state *state = sim_state();

    sim_charge_ns(call == SIM_CALL_LAUNCH ? state->launch_ns : state->call_ns);
}

static void wake_place(struct sim_state *state, uint32_t place)
{
    state->wakes[place] = state->now_ns;
    state->participant[place].wake_ns = state->now_ns;
    if (state->now_ns < state->next_wake_ns)
        state->next_wake_ns = state->now_ns;
}

static void wall_wake(struct sim_state *state)
{
    __atomic_add_fetch(&state->changes, 1, __ATOMIC_ACQ_REL);
    sim_futex_wake(&state->changes, INT32_MAX);
}

void sim_wake_key(uint64_t key)
{
    struct sim_state *state = sim_state();

    if (!is_virtual()) {
        wall_wake(state);
        return;
    }
    sim_lock();
    for (uint32_t place = 0; place < state->participants_high; place++)
        if (state->participant[place].pid != 0 && state->participant[place].key == key && state->holder != place + 1)
            wake_place(state, place);
    sim_dispatch();
    sim_unlock();
}

void sim_wake_one_key(uint64_t key)
{
    struct sim_state *state = sim_state();
    uint32_t first = SIM_PARTICIPANTS_MAX;

    if (!is_virtual()) {
        wall_wake(state);
        return;
    }
    sim_lock();
    for (uint32_t place = 0; place < state->participants_high; place++)
        if (state->participant[place].pid != 0 && state->participant[place].key == key && state->holder != place + 1
            && (first == SIM_PARTICIPANTS_MAX || comes_before(state, place, first)))
            first = place;
    if (first != SIM_PARTICIPANTS_MAX)
        wake_place(state, first);
    sim_dispatch();
    sim_unlock();
}

void sim_wake_all(void)
{
    struct sim_state *state = sim_state();

    if (!is_virtual()) {
        wall_wake(state);
        return;
    }
    for (uint32_t place = 0; place < state->participants_high; place++)
        if (state->participant[place].pid != 0 && state->holder != place + 1)
            wake_place(state, place);
}
