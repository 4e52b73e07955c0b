/* The simulated driver: the state its processes share, and what its parts may ask of each other.
 *
 * Every process that loads this libcuda.so.1 maps one file (EGPU_SIM_STATE). Cards, queues, the clock and the ground
 * truth of who used what live there, under one robust mutex. Nothing runs in the background: an engine of a card is
 * brought forward to "now" by whoever looks at it.
 *
 * Names: the implementation of an exported symbol is `sim_` + the symbol (sim_cuMemAlloc_v2, sim_cuLaunchKernel).
 * Per-thread forms (_ptsz, _ptds) call the same function with CU_STREAM_PER_THREAD in place of a NULL stream.
 */
#ifndef EGPU_SIM_H
#define EGPU_SIM_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "driver.h"
#include "egpu_sim.h"
#include "frames.h"

#define SIM_MAGIC UINT64_C(0x45475055534d3035)
#define SIM_VERSION 1U
#define SIM_CARDS_MAX 16
#define SIM_PROCESSES_MAX 1536
#define SIM_PARTICIPANTS_MAX 2560
#define SIM_ENGINES_PER_CARD 3
#define SIM_ENGINES_MAX (SIM_CARDS_MAX * SIM_ENGINES_PER_CARD)
#define SIM_LANES_MAX 4096
#define SIM_LANE_ENTRIES 2048
/* A real channel holds about a thousand pending launches; the next one blocks its caller. */
#define SIM_LANE_PENDING_MAX 1024
#define SIM_NEVER UINT64_MAX
#define SIM_QUANTUM_NS UINT64_C(2000000)

enum sim_model { SIM_FIFO = 0, SIM_TIMESLICE = 1 };
enum sim_clock_kind { SIM_WALL = 0, SIM_VIRTUAL = 1 };

/* An engine serves one operation at a time, except SIM_ENGINE_HOST: joins and host functions take no card time. */
enum sim_engine_kind { SIM_ENGINE_COMPUTE = 0, SIM_ENGINE_COPY = 1, SIM_ENGINE_HOST = 2 };

/* What an operation is: chooses the engine, the trace letter and the ground-truth counter. */
enum sim_kind { SIM_KERNEL = 0, SIM_COPY = 1, SIM_SET = 2, SIM_HOST = 3, SIM_JOIN = 4 };

/* What a driver call costs its caller on the virtual clock. */
enum sim_call { SIM_CALL_OTHER = 0, SIM_CALL_LAUNCH = 1 };

/* One operation in the order of one process on one engine; `ticket` % SIM_LANE_ENTRIES is its place in the ring. */
struct sim_entry {
    uint64_t ticket;
    uint64_t sequence; /* order of submission over the whole machine: FIFO cards serve in it */
    uint64_t submitted_ns;
    uint64_t duration_ns;
    uint64_t remaining_ns;
    uint64_t completed_ns; /* 0 while pending */
    uint64_t work_before_ns; /* card time queued in this lane before it, since the lane began */
    uint64_t card_work_ns;   /* card time queued on this engine up to and with it, since the engine began */
    uint64_t after_ticket[2]; /* 0 = nothing */
    uint32_t after_lane[2];
    uint32_t kind;
    uint32_t blocked; /* waits for another lane or for a host function: its start cannot be foretold */
};

struct sim_lane {
    uint32_t used;
    uint32_t process; /* index into processes */
    uint32_t engine;
    uint32_t active; /* has pending work: stands in the engine's list */
    uint64_t head; /* first ticket that may be pending */
    uint64_t tail; /* last ticket given; tickets begin at 1 */
    uint64_t begun; /* ticket of the entry that is half done: no other of its process comes before its rest; 0 = none */
    uint64_t pending;
    uint64_t blocked;
    uint64_t work_queued_ns;
    uint64_t work_done_ns;
    struct sim_entry entries[SIM_LANE_ENTRIES];
};

struct sim_engine {
    uint32_t card;
    uint32_t kind;
    uint32_t active_count;
    uint32_t slice_lane; /* timeslice: lane + 1 that has the card until slice_end_ns; 0 = it has no more work */
    uint32_t running_lane; /* lane + 1 whose entry is half done; 0 = none */
    uint32_t unused;
    uint64_t running_ticket;
    uint64_t free_at_ns; /* the engine is simulated up to here */
    uint64_t slice_end_ns;
    uint64_t busy_ns;
    uint64_t blocked;
    uint64_t work_queued_ns;
    uint64_t work_done_ns;
    uint32_t active[SIM_PROCESSES_MAX]; /* lanes with pending work; timeslice: in the order of their turns */
};

/* Memory of a card; the memory classes (memory.c and others) are its only writers. */
struct sim_card {
    char uuid[16];
    uint64_t memory_bytes;
    uint64_t memory_used_bytes; /* sum over live processes */
    uint64_t reserved[29];
};

/* Ground truth of one process on one card. */
struct sim_share {
    uint64_t busy_ns;      /* compute engine */
    uint64_t copy_ns;      /* copy engine */
    uint64_t operations;   /* submitted to either */
    uint64_t bytes;        /* charged to the card */
    uint64_t bytes_most;   /* the highest it ever was */
    uint64_t context_bytes;
    uint64_t managed_bytes;
    uint64_t managed_resident_bytes;
    uint64_t migrated_in_bytes;
    uint64_t migrated_out_bytes;
    uint64_t host_bytes;
    uint64_t unknown_kernels;
    uint64_t reserved[4];
};

struct sim_process {
    int32_t pid; /* 0 = slot never used */
    uint32_t alive;
    uint64_t start_time; /* field 22 of /proc/PID/stat: a process number may be used again */
    uint64_t attached_ns;
    uint64_t ended_ns;
    uint64_t rank;
    uint64_t calls;
    uint64_t calls_unsupported;
    uint64_t threads; /* participants ever: orders those of one process */
    uint64_t lost;    /* device lost: sticky for the process */
    uint64_t expected; /* its part of the threads announced: it may die before they come */
    uint64_t dead_events; /* calls on events whose context has ended */
    uint64_t reserved[5];
    struct sim_share shares[SIM_CARDS_MAX];
    uint32_t lanes[SIM_ENGINES_MAX]; /* lane + 1 */
};

struct sim_point { /* an operation in its lane; ticket 0 = long past */
    uint32_t lane;
    uint32_t unused;
    uint64_t ticket;
};

/* An event that several processes know: its latest record, by whomever. */
#define SIM_SHARED_EVENTS_MAX 256
#define SIM_EVENT_HOLDERS_MAX 16
struct sim_shared_event {
    uint32_t holders_count; /* 0 = free */
    uint32_t process;       /* of the latest record */
    uint64_t identity;
    uint64_t records; /* 0 = never recorded */
    uint64_t recorded_ns;
    struct sim_point point;
    uint32_t holders[SIM_EVENT_HOLDERS_MAX]; /* processes */
};

/* A thread in the virtual clock's order. */
struct sim_participant {
    int32_t pid; /* 0 = free */
    int32_t tid;
    uint32_t process;
    uint32_t go; /* futex: 1 = it has been given the token */
    uint64_t order; /* rank, then thread: breaks ties of time */
    uint64_t wake_ns;
    uint64_t key; /* 0 = woken by time alone */
    uint64_t attached; /* a number never used twice: a thread sees that its place was taken away */
};

struct sim_state {
    uint64_t magic;
    uint32_t version;
    uint32_t model;
    uint32_t clock;
    uint32_t cuda; /* 12080 or 13000 */
    uint32_t cards;
    uint32_t start; /* participants to wait for before the first gets the token */
    uint64_t seed;
    uint64_t memory_bytes;
    uint64_t call_ns;
    uint64_t launch_ns;
    uint64_t size; /* sizeof(struct sim_state) */
    pthread_mutex_t mutex;
    _Atomic uint64_t now_ns; /* the virtual clock */
    _Atomic uint64_t next_wake_ns; /* least wake time of those who wait: a cache */
    uint32_t holder; /* participant + 1 that runs; 0 = none */
    uint32_t participants; /* in use */
    uint32_t participants_high; /* places ever used */
    _Atomic uint32_t expected; /* threads announced and not there yet */
    uint64_t attachments;
    uint64_t switches;
    uint64_t stalls; /* the running thread slept outside the driver and lost the token */
    _Atomic uint64_t progress; /* changes whenever the clock or the token moves */
    uint64_t reaped_real_ns;
    uint64_t sequence;
    uint64_t trace_hash;
    uint64_t trace_count;
    uint32_t processes_high;
    uint32_t lanes_high;
    uint32_t changes; /* futex of the wall clock: something ended out of turn */
    uint32_t managed_lock;
    uint64_t reserved[32];
    struct sim_card card[SIM_CARDS_MAX];
    struct sim_engine engines[SIM_ENGINES_MAX];
    struct sim_process processes[SIM_PROCESSES_MAX];
    uint64_t wakes[SIM_PARTICIPANTS_MAX]; /* SIM_NEVER for free places, so that the least is a plain scan */
    struct sim_participant participant[SIM_PARTICIPANTS_MAX];
    struct sim_lane lanes[SIM_LANES_MAX]; /* a sparse file: only lanes in use take room */
    struct sim_memory memory;             /* likewise; the memory classes are its only writers */
    struct sim_shared_event events[SIM_SHARED_EVENTS_MAX]; /* ipc_events.c */
};

/* --- state.c ------------------------------------------------------------------------------------------------- */

struct sim_state *sim_state(void); /* maps the file on the first call; ends the process with a sentence if it cannot */
void sim_lock(void);               /* robust: a dead owner's lock is taken over and its sums are made anew */
void sim_unlock(void);
struct sim_process *sim_process(void); /* this process' record; made on the first call; call it without the lock */
struct sim_share *sim_share(int card); /* this process on a card; fields are changed under the lock only */
uint32_t sim_process_index(void);
bool sim_is_apart(void); /* in a PID namespace, where the numbers of the others mean nothing: it finds nobody dead */
bool sim_process_alive(const struct sim_process *process);
void sim_reap(void);   /* under the lock: ends processes that died; at most every 50 ms of real time */
void sim_end_process(uint32_t process); /* under the lock: its queues, threads and bytes vanish */
/* What else has to be undone when a process ends, besides queues, threads and shares[].bytes: called under the lock, in
 * whichever process found out. */
#define SIM_END_HOOKS_MAX 8
void sim_recover_frames(void); /* frames.c, under the lock: a process died while it moved pages, the lists are made anew */
void sim_end_hook(void (*end)(uint32_t process));
uint64_t sim_environment(const char *name, uint64_t fallback); /* a number from the environment */

/* --- clock.c ------------------------------------------------------------------------------------------------- */

uint64_t sim_now(void); /* ns on the clock of this run, wall or virtual; needs no lock */
void sim_charge(enum sim_call call); /* the caller's time for one driver call; may hand the token over; no lock held */
void sim_charge_ns(uint64_t ns);     /* the same for a call that takes longer by itself (page-in, module load) */
/* The caller waits until `wake_ns`, until sim_wake_key(key) or without cause; no lock held. Becomes a participant. */
void sim_wait_until(uint64_t wake_ns, uint64_t key);
void sim_wake_key(uint64_t key); /* no lock held */
void sim_wake_one_key(uint64_t key); /* the one with the earliest deadline; no lock held */
void sim_participate(void);      /* this thread takes part in the virtual clock from now on */
void sim_detach(void);
void sim_end_participants(uint32_t process); /* under the lock */
void sim_wake_all(void);                     /* under the lock: every waiter looks again (something ended early) */
void sim_dispatch(void);                     /* under the lock: gives the token to the next if nobody has it */

/* --- card.c: the engines; everything here under the lock --------------------------------------------------------- */

struct sim_point sim_enqueue(int card, enum sim_kind kind, uint64_t duration_ns, const struct sim_point after[2]);
/* false: SIM_LANE_PENDING_MAX operations are pending, wait for `until` first */
bool sim_room(int card, enum sim_kind kind, struct sim_point *until);
bool sim_point_done(struct sim_point point, uint64_t *completed_ns);
void sim_point_complete(struct sim_point point); /* a host function has ended */
uint64_t sim_point_foretell(struct sim_point point); /* never later than its end; later than now */
void sim_advance(uint64_t now_ns);
bool sim_end_lanes(uint32_t process); /* true: it had work, so others' ends come earlier than foretold */

/* --- faults.c, contexts.c ---------------------------------------------------------------------------------------- */

#define SIM_FAULT_LAUNCH "launch"
#define SIM_FAULT_LOST "lost"
#define SIM_FAULT_MEMORY "oom"
#define SIM_FAULT_PAGE_IN "slow_page_in"
CUresult sim_fault_launch(void);
bool sim_fault(const char *name); /* counts a call of this kind; true on the n-th (EGPU_SIM_FAULT=name:n[,name:n]) */
uint64_t sim_fault_factor(const char *name); /* 1 when the fault is not set */

struct sim_stream;
struct CUevent_st;
struct sim_module;
struct sim_context {
    uint64_t magic;
    int card;
    unsigned flags;
    bool primary;
    bool destroyed;
    int attached; /* uses besides its maker's */
    uint64_t identity;
    uint64_t version;
    uint64_t stack_bytes, heap_bytes, fifo_bytes;
    struct CUgreenCtx_st *green; /* whose context this is; NULL = none */
    struct sim_stream *streams; /* list; the legacy stream is first */
    struct sim_stream *legacy;
    struct CUevent_st *events; /* under the lock */
    struct sim_module *modules;
    struct sim_point latest; /* the last operation of the context */
    struct sim_context *next;
};

/* First line of nearly every sim_cu* function: NOT_INITIALIZED, device lost, and the cost of the call. */
CUresult sim_enter(enum sim_call call);
CUresult sim_enter_card(CUdevice device); /* the same for calls that name a card: INVALID_DEVICE */
/* INVALID_VALUE for a call that has nowhere to put its answer. */
static inline CUresult sim_answer(CUresult result, const void *place)
{
    return result == CUDA_SUCCESS && place == NULL ? CUDA_ERROR_INVALID_VALUE : result;
}
/* The same for calls that need a context: INVALID_CONTEXT without one. */
CUresult sim_enter_context(enum sim_call call, struct sim_context **context);
struct sim_context *sim_context_current(void); /* NULL = none */
struct sim_context *sim_context_of(CUcontext handle); /* NULL = not a live context */
struct sim_context *sim_context_first(void);
/* Hooks for the memory classes: a context is made (may refuse with OUT_OF_MEMORY) or ends. */
extern CUresult (*sim_context_made)(struct sim_context *context);
extern void (*sim_context_ended)(struct sim_context *context);

/* --- streams.c ----------------------------------------------------------------------------------------------------- */

/* `effect` (may be NULL) does the data work in host memory: at once when submitted, at each launch when captured.
 * `extra_ns` (may be NULL) is asked at the same moments and added to the duration (page-in). */
struct sim_operation {
    enum sim_kind kind;
    uint64_t duration_ns;
    void (*effect)(void *argument);
    uint64_t (*extra_ns)(void *argument);
    const void *argument; /* copied */
    size_t argument_bytes;
    const void *details; /* node parameters to keep when captured (copied) */
    size_t details_bytes;
    int node_type; /* CUgraphNodeType when captured */
};

/* Submits in stream order, or adds a node when the stream captures. A stream is NULL, legacy (1), per thread (2) or made. */
CUresult sim_submit(CUstream stream, const struct sim_operation *operation);
CUresult sim_wait_stream(CUstream stream); /* synchronises; STREAM_CAPTURE_UNSUPPORTED while capturing */
CUresult sim_query_stream(CUstream stream);
CUresult sim_wait_context(struct sim_context *context);
CUresult sim_wait_card(int card); /* all contexts of this process on the card: cuMemFree waits so */
bool sim_stream_capturing(CUstream stream);
bool sim_thread_capture_forbids(void); /* a potentially unsafe call (cuMemAlloc ...) during a global or thread-local capture */
void sim_capture_invalidate(void);     /* ... invalidates that capture */
CUresult sim_stream_of(CUstream handle, struct sim_stream **stream); /* resolves NULL, 1 and 2 in the current context */
int sim_stream_card(CUstream handle); /* -1 = not a stream */
struct sim_point sim_stream_tail(const struct sim_stream *stream); /* its last operation: "free in stream order" */
void sim_wait_point(struct sim_point point);

/* --- pools.c, graph_memory.c (memory): for the calls that synchronise, and for graphs ------------------------------- */

/* After a successful synchronisation (stream, context, event; no lock held): pools give back what they keep unused. */
void sim_pools_synchronised(void);
CUresult sim_graph_memory_make(int card, size_t bytes, CUdeviceptr *address); /* when an allocation node is made */
CUresult sim_graph_memory_allocate(CUdeviceptr address); /* at each launch, by the node; OUT_OF_MEMORY when full */
CUresult sim_graph_memory_free(CUdeviceptr address);     /* likewise, by the free node */
void sim_graph_memory_end(CUdeviceptr address);          /* the graph is destroyed */

/* --- memory.c: the room a module takes of the card (EGPU_SIM_MODULE_MIB, default 0; libraries where a context is) ------ */
CUresult sim_code_make(struct sim_context *context, CUdeviceptr *address);
void sim_code_end(CUdeviceptr address);

/* --- managed.c (memory): what a kernel that touches memory pays for pages that are not there ------------------------ */
uint64_t sim_touch_managed(struct sim_context *context, CUdeviceptr pointer, uint64_t bytes);

#endif
