#define _GNU_SOURCE
#include "streams.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cards.h"
#include "real.h"

/* How far a stream may lie from its place. */
#define STEPS_MAX 64u

#define BITS_PER_WORD 64u

static struct stream *table[STREAMS_MAX];
static struct stream *made[STREAMS_MAX];
static unsigned made_count;
static uint64_t busy[STREAMS_MAX / BITS_PER_WORD]; /* a bit for each of those made */
static pthread_mutex_t changing = PTHREAD_MUTEX_INITIALIZER;

struct stream *streams_at(unsigned number) {
    return number < __atomic_load_n(&made_count, __ATOMIC_ACQUIRE) ? made[number] : NULL;
}

struct stream *streams_busy_from(unsigned number) {
    unsigned count = __atomic_load_n(&made_count, __ATOMIC_ACQUIRE);
    while (number < count) {
        uint64_t word = __atomic_load_n(&busy[number / BITS_PER_WORD], __ATOMIC_ACQUIRE) >> number % BITS_PER_WORD;
        if (word) return made[number + (unsigned)__builtin_ctzll(word)];
        number = (number / BITS_PER_WORD + 1) * BITS_PER_WORD;
    }
    return NULL;
}

void stream_mark(const struct stream *stream) {
    uint64_t *word = &busy[stream->number / BITS_PER_WORD], bit = 1ull << stream->number % BITS_PER_WORD;
    if (stream->first != stream->last) __atomic_fetch_or(word, bit, __ATOMIC_RELEASE);
    else __atomic_fetch_and(word, ~bit, __ATOMIC_RELEASE);
}

bool stream_own(struct stream *stream) { return __atomic_exchange_n(&stream->owned, 1, __ATOMIC_ACQUIRE) == 0; }

void stream_release(struct stream *stream) { __atomic_store_n(&stream->owned, 0, __ATOMIC_RELEASE); }

int streams_card(const struct stream *stream) { return stream->card; }

uint32_t streams_launches(const struct stream *stream) { return __atomic_load_n(&stream->launches, __ATOMIC_RELAXED); }

/* What tells a stream from others; the struct itself is too large to be filled at each launch. */
struct identity {
    CUstream handle;
    CUcontext context, events_context;
    uint64_t thread;
    int card;
};

uint64_t streams_this_thread(void) {
    static __thread uint64_t number;
    if (number == 0) number = (uint64_t)syscall(SYS_gettid);
    return number;
}

static bool is_implicit(CUstream handle) { return handle == CU_STREAM_LEGACY || handle == CU_STREAM_PER_THREAD; }

static unsigned place_of(CUstream handle, CUcontext context, uint64_t thread) {
    uint64_t mixed = (uint64_t)(uintptr_t)handle ^ (uint64_t)(uintptr_t)context * 31 ^ thread * 131071;
    return (unsigned)(mixed * 0x9e3779b97f4a7c15ull >> 40);
}

static bool same(const struct stream *stream, CUstream handle, CUcontext context, uint64_t thread) {
    return __atomic_load_n(&stream->handle, __ATOMIC_RELAXED) == handle &&
           __atomic_load_n(&stream->thread, __ATOMIC_RELAXED) == thread &&
           (context == NULL || __atomic_load_n(&stream->context, __ATOMIC_RELAXED) == context) &&
           !__atomic_load_n(&stream->gone, __ATOMIC_ACQUIRE) && !__atomic_load_n(&stream->ended, __ATOMIC_RELAXED);
}

bool streams_is(const struct stream *stream, CUstream handle) {
    return same(stream, handle, NULL, handle == CU_STREAM_PER_THREAD ? streams_this_thread() : 0);
}

static struct stream *look_up(const struct identity *wanted, unsigned place) {
    for (unsigned step = 0; step < STEPS_MAX; step++) {
        struct stream *stream = __atomic_load_n(&table[(place + step) % STREAMS_MAX], __ATOMIC_ACQUIRE);
        if (!stream) return NULL;
        if (same(stream, wanted->handle, wanted->context, wanted->thread)) return stream;
    }
    return NULL;
}

static bool take_over(struct stream *stream, const struct identity *wanted, bool idle_too) {
    /* Its events serve all streams of its context, so they stay. */
    bool idle = idle_too && stream->context == wanted->context;
    if ((!idle && !__atomic_load_n(&stream->gone, __ATOMIC_ACQUIRE)) || !stream_own(stream)) return false;
    if (stream->first == stream->last) {
        streams_forget(stream);
        return true;
    }
    stream_release(stream);
    return false;
}

/* A place is given back by marking its stream gone; the struct stays there for the next one, for a thread that found it
 * earlier may still look at it. When no place is left, that of a stream with nothing outstanding is taken. */
static struct stream *insert(const struct identity *wanted, unsigned place) {
    for (unsigned step = 0; step < 2 * STEPS_MAX; step++) {
        struct stream **there = &table[(place + step % STEPS_MAX) % STREAMS_MAX], *stream = *there;
        if (stream && !take_over(stream, wanted, step >= STEPS_MAX)) continue;
        bool is_new = stream == NULL;
        if (is_new) stream = calloc(1, sizeof *stream);
        if (!stream) return NULL;
        /* Who found the struct for another stream may look at these words just now, and then at `gone`. */
        __atomic_store_n(&stream->handle, wanted->handle, __ATOMIC_RELAXED);
        __atomic_store_n(&stream->context, wanted->context, __ATOMIC_RELAXED);
        __atomic_store_n(&stream->events_context, wanted->events_context, __ATOMIC_RELAXED);
        __atomic_store_n(&stream->thread, wanted->thread, __ATOMIC_RELAXED);
        stream->card = wanted->card;
        __atomic_store_n(&stream->gone, 0, __ATOMIC_RELEASE);
        stream_release(stream);
        if (!is_new) return stream;
        stream->number = made_count;
        made[made_count] = stream;
        __atomic_store_n(&made_count, made_count + 1, __ATOMIC_RELEASE);
        __atomic_store_n(there, stream, __ATOMIC_RELEASE);
        return stream;
    }
    return NULL;
}

static bool push(CUcontext context) {
    CUcontext current = NULL;
    if (real.cuCtxGetCurrent(&current) != CUDA_SUCCESS || current == context) return false;
    return real.cuCtxPushCurrent_v2(context) == CUDA_SUCCESS;
}

struct stream_guard stream_enter(const struct stream *stream) {
    return (struct stream_guard){.capture = capture_guard_begin(), .pushed = push(stream->events_context)};
}

void streams_pop_context(bool pushed) {
    CUcontext ours;
    if (pushed) real.cuCtxPopCurrent_v2(&ours);
}

void stream_leave(struct stream_guard guard) {
    streams_pop_context(guard.pushed);
    capture_guard_end(guard.capture);
}

bool streams_push_context(CUstream handle) {
    CUcontext context;
    if (handle == NULL || is_implicit(handle)) return false;
    return real.cuStreamGetCtx(handle, &context) == CUDA_SUCCESS && push(context);
}

/* A stream belongs to the context it was made in, which need not be the current one. A green context may be current to one
 * thread only, so its primary one is taken for events. */
static bool locate(struct identity *stream) {
    bool implicit = is_implicit(stream->handle);
    CUcontext primary;
    CUgreenCtx green = NULL;
    if (implicit || real.cuStreamGetCtx(stream->handle, &stream->context) != CUDA_SUCCESS) {
        if (real.cuCtxGetCurrent(&stream->context) != CUDA_SUCCESS) return false;
        implicit = true;
    }
    stream->events_context = stream->context;
    if (!implicit && real.cuStreamGetCtx_v2(stream->handle, &primary, &green) == CUDA_SUCCESS && green)
        stream->events_context = primary;
    bool pushed = push(stream->events_context);
    stream->card = card_to_gate();
    streams_pop_context(pushed);
    return true;
}

/* Explicit streams are told apart by their handle, so no question to the driver is needed; default streams exist once
 * per context, or once per context and thread. */
static bool identify(CUstream handle, struct identity *wanted) {
    *wanted = (struct identity){.handle = handle, .thread = handle == CU_STREAM_PER_THREAD ? streams_this_thread() : 0};
    return !is_implicit(handle) || real.cuCtxGetCurrent(&wanted->context) == CUDA_SUCCESS;
}

struct stream *streams_find(CUstream handle) {
    struct identity wanted;
    if (!identify(handle, &wanted)) return NULL;
    unsigned place = place_of(handle, wanted.context, wanted.thread);
    struct stream *stream = look_up(&wanted, place);
    if (stream) return stream;
    struct identity located = wanted;
    if (!locate(&located)) return NULL;
    pthread_mutex_lock(&changing);
    stream = look_up(&wanted, place);
    if (!stream) stream = insert(&located, place);
    pthread_mutex_unlock(&changing);
    return stream;
}

struct stream *streams_known(CUstream handle) {
    struct identity wanted;
    return identify(handle, &wanted) ? look_up(&wanted, place_of(handle, wanted.context, wanted.thread)) : NULL;
}

void streams_forget(struct stream *stream) {
    /* Atomically, because who looks for outstanding work reads them before it owns the stream. */
    __atomic_store_n(&stream->first, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&stream->last, 0, __ATOMIC_RELAXED);
    stream_mark(stream);
    stream->open = 0;
    stream->work_end_ns = 0;
    __atomic_store_n(&stream->launches, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&stream->holder, 0, __ATOMIC_RELAXED);
    stream->interrupted = 0;
    __atomic_store_n(&stream->ended, 0, __ATOMIC_RELAXED);
    stream->dry = 0;
    stream->sampled_ns = 0;
    memset(stream->known, 0, sizeof stream->known);
    __atomic_store_n(&stream->gone, 1, __ATOMIC_RELEASE);
}

void streams_after_fork(void) {
    pthread_mutex_init(&changing, NULL);
    for (unsigned number = 0; number < made_count; number++) {
        struct stream *stream = made[number];
        stream_release(stream);
        stream->row_serial++;
        stream->row_used = 0;
        stream->row_gate = NULL;
        memset(stream->batches, 0, sizeof stream->batches);
        streams_forget(stream);
    }
}
