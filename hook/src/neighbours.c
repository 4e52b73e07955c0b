#define _GNU_SOURCE
#include "neighbours.h"

#include "believed.h"
#include "clock.h"
#include "region_files.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* A look costs about 0.7 us and 0.4 us for each neighbour: at this age that is 2 to 4 % of one thread's time, and half of
 * what a page's times are ahead by (PAGE_MARGIN_NS) with few neighbours. */
#define AGE_NS_MAX 40000ull
#define AGE_NS_MAX_EACH 10000ull

#define GENERATION_NONE UINT64_MAX /* odd, so no agent's */

enum { LOOK_COUNT = 4 }; /* readers copy for a microsecond; who was overtaken by three looks copies once more */

/* What one look saw. Once published it is read and written by atomic instructions only. */
struct look {
    uint64_t count;
    struct neighbours_busy busy;
    struct throttle_peer peers[EGPU_MEMBER_COUNT_MAX];
    struct egpu_member members[EGPU_MEMBER_COUNT_MAX];
    uint64_t words[EGPU_MEMBER_COUNT_MAX][BELIEVED_WORD_COUNT];
};

/* One shared card. All but `file` and what follows the looks is used with the lock held. */
struct watch {
    const struct egpu_card *file;
    pthread_mutex_t lock;
    struct egpu_card card; /* as it was when the pages were mapped */
    uint32_t indexes[EGPU_MEMBER_COUNT_MAX];
    struct egpu_page *pages[EGPU_MEMBER_COUNT_MAX];
    struct believed believed[EGPU_MEMBER_COUNT_MAX];
    int readable_count; /* pages that are mapped and never failed, by their places */
    int readable[EGPU_MEMBER_COUNT_MAX];
    struct look draft;
    struct look looks[LOOK_COUNT];
    uint64_t turn; /* the newest is looks[turn % LOOK_COUNT]; 0: none yet */
    uint64_t at_ns;
    uint64_t age_ns_max;
    uint64_t generation;
};
static struct watch *watches[EGPU_CARD_COUNT_MAX];
static bool refused; /* the kernel does not copy for us: an old profile of system calls */

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }

/* In order, so that who sees one word of a newer look also sees that the look before that is out (see `copied`). */
static void copy_from_shared(void *to, const void *from, size_t bytes) {
    for (size_t word = 0; word < bytes / sizeof(uint64_t); word++)
        ((any_word *)to)[word] = __atomic_load_n((const any_word *)from + word, __ATOMIC_ACQUIRE);
}

static void copy_to_shared(void *to, const void *from, size_t bytes) {
    for (size_t word = 0; word < bytes / sizeof(uint64_t); word++)
        __atomic_store_n((any_word *)to + word, ((const any_word *)from)[word], __ATOMIC_RELEASE);
}

void neighbours_after_fork(void) {
    for (int card = 0; card < (int)EGPU_CARD_COUNT_MAX; card++)
        if (watches[card] != NULL) {
            pthread_mutex_init(&watches[card]->lock, NULL);
            /* Another thread may have been in the middle of a look. */
            watches[card]->generation = GENERATION_NONE;
        }
}

static struct watch *make_watch(int card, const struct egpu_card *file) {
    struct watch *watch = calloc(1, sizeof *watch), *nobody = NULL;
    if (watch == NULL)
        return NULL;
    watch->file = file;
    watch->generation = GENERATION_NONE;
    pthread_mutex_init(&watch->lock, NULL);
    if (__atomic_compare_exchange_n(&watches[card], &nobody, watch, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return watch;
    free(watch);
    return nobody;
}

/* NULL: nobody shares this card. */
static struct watch *watch_of(int card) {
    if (card < 0 || card >= (int)EGPU_CARD_COUNT_MAX)
        return NULL;
    struct watch *watch = __atomic_load_n(&watches[card], __ATOMIC_ACQUIRE);
    if (__builtin_expect(watch != NULL, 1))
        return watch;
    const struct egpu_card *file = region_card(card);
    return file == NULL ? NULL : make_watch(card, file);
}

/* The agent changed who is there: all is looked for anew, and nothing is held against a container that has the place of
 * another one. */
static void meet(struct watch *watch, const struct egpu_card_limits *limits) {
    struct look *draft = &watch->draft;
    for (int place = 0; place < (int)EGPU_MEMBER_COUNT_MAX; place++)
        if (watch->pages[place] != NULL)
            munmap(watch->pages[place], sizeof(struct egpu_page));
    memset(watch->pages, 0, sizeof watch->pages);
    memset(watch->believed, 0, sizeof watch->believed);
    memset(draft->words, 0, sizeof draft->words);
    draft->count = 0;
    watch->readable_count = 0;
    for (uint32_t index = 0; index < watch->card.member_count && index < EGPU_MEMBER_COUNT_MAX; index++) {
        const struct egpu_member *member = &watch->card.members[index];
        if (!member->present || index == limits->card_index)
            continue;
        /* One without a page keeps its place and says nothing: all containers count the same members. */
        uint64_t place = draft->count++;
        draft->members[place] = *member;
        watch->indexes[place] = index;
        watch->pages[place] = region_map_page(limits->uuid, index, false);
        if (watch->pages[place] != NULL)
            watch->readable[watch->readable_count++] = (int)place;
    }
}

/* What its owner cut off is idle until the agent says otherwise. */
static void leave_out(struct watch *watch, int reader) {
    int place = watch->readable[reader];
    int behind = --watch->readable_count - reader;
    memmove(&watch->readable[reader], &watch->readable[reader + 1], (size_t)behind * sizeof watch->readable[0]);
    memset(watch->draft.words[place], 0, BELIEVED_BYTES);
    munmap(watch->pages[place], sizeof(struct egpu_page));
    watch->pages[place] = NULL;
    region_complain("the page of a neighbour cannot be read: it counts as idle");
}

/* From that reader on; returns how many were read, and the kernel's reason when it was none. The kernel copies aligned
 * words whole. */
static int read_by_kernel(struct watch *watch, int reader, int *error) {
    struct iovec local[EGPU_MEMBER_COUNT_MAX], remote[EGPU_MEMBER_COUNT_MAX];
    int count = watch->readable_count - reader;
    for (int each = 0; each < count; each++) {
        int place = watch->readable[reader + each];
        local[each] = (struct iovec){watch->draft.words[place], BELIEVED_BYTES};
        remote[each] = (struct iovec){watch->pages[place], BELIEVED_BYTES};
    }
    /* By the thread's own number: a process whose first thread has ended has none that the kernel would know it by. */
    pid_t self = (pid_t)syscall(SYS_gettid);
    ssize_t bytes = process_vm_readv(self, local, (unsigned long)count, remote, (unsigned long)count, 0);
    *error = bytes < 0 ? errno : 0;
    return bytes < 0 ? 0 : (int)((size_t)bytes / BELIEVED_BYTES);
}

static void read_directly(struct watch *watch) {
    for (int reader = 0; reader < watch->readable_count; reader++) {
        int place = watch->readable[reader];
        copy_from_shared(watch->draft.words[place], watch->pages[place], BELIEVED_BYTES);
    }
}

static void read_pages(struct watch *watch) {
    int reader = 0;
    while (reader < watch->readable_count && !__atomic_load_n(&refused, __ATOMIC_RELAXED)) {
        int error;
        reader += read_by_kernel(watch, reader, &error);
        if (error == EPERM || error == ENOSYS) {
            __atomic_store_n(&refused, true, __ATOMIC_RELAXED);
            region_complain("process_vm_readv is refused: a neighbour that shrinks its page can end this process");
        } else if (error != 0 && error != EFAULT) {
            return; /* no memory for an instant: what was seen last still holds */
        } else if (reader < watch->readable_count) {
            leave_out(watch, reader);
        }
    }
    if (__atomic_load_n(&refused, __ATOMIC_RELAXED))
        read_directly(watch);
}

static void publish(struct watch *watch) {
    const struct look *draft = &watch->draft;
    uint64_t turn = load(&watch->turn) + 1, count = draft->count;
    struct look *next = &watch->looks[turn % LOOK_COUNT];
    copy_to_shared(&next->count, &count, sizeof count);
    copy_to_shared(&next->busy, &draft->busy, sizeof draft->busy);
    copy_to_shared(next->peers, draft->peers, count * sizeof next->peers[0]);
    copy_to_shared(next->members, draft->members, count * sizeof next->members[0]);
    copy_to_shared(next->words, draft->words, count * sizeof next->words[0]);
    __atomic_store_n(&watch->turn, turn, __ATOMIC_RELEASE);
}

/* With the lock held. */
static void look(struct watch *watch, int card, uint64_t generation) {
    struct look *draft = &watch->draft;
    const struct egpu_card_limits *limits = region_limits(card);
    if (generation != watch->generation && limits != NULL && generation % 2 == 0 &&
        region_copy_whole(&watch->card, watch->file, sizeof watch->card, &watch->file->generation)) {
        meet(watch, limits);
        store(&watch->generation, watch->card.generation);
    }
    read_pages(watch);
    /* After the reading, so that no honest word is of a later moment. */
    uint64_t now_ns = clock_now_ns();
    for (uint64_t place = 0; place < draft->count; place++) {
        draft->peers[place] =
            believed_peer(&watch->believed[place], draft->words[place], &draft->members[place], now_ns);
        draft->peers[place].index = watch->indexes[place];
        draft->busy.charged_ns += watch->believed[place].charged.grown_ns;
        draft->busy.worked_ns += watch->believed[place].worked.grown_ns;
    }
    publish(watch);
    store(&watch->at_ns, now_ns);
    store(&watch->age_ns_max, AGE_NS_MAX + draft->count * AGE_NS_MAX_EACH);
}

static void renew(struct watch *watch, int card, uint64_t generation) {
    /* Another thread is at it: the last look is good until then. */
    if (pthread_mutex_trylock(&watch->lock) != 0)
        return;
    look(watch, card, generation);
    pthread_mutex_unlock(&watch->lock);
}

static void renew_when_changed(struct watch *watch, int card) {
    uint64_t generation = __atomic_load_n(&watch->file->generation, __ATOMIC_ACQUIRE);
    if (__builtin_expect(generation != load(&watch->generation) && generation % 2 == 0, 0))
        renew(watch, card, generation);
}

static void renew_when_old(struct watch *watch, int card, uint64_t now_ns) {
    uint64_t at_ns = load(&watch->at_ns);
    /* Either way: a clock that turns out to be a simulated one begins anew. */
    uint64_t age_ns = now_ns > at_ns ? now_ns - at_ns : at_ns - now_ns;
    if (age_ns > load(&watch->age_ns_max))
        renew(watch, card, load(&watch->generation));
}

/* NULL before the first look has ended. */
static const struct look *newest(struct watch *watch, uint64_t *turn) {
    *turn = __atomic_load_n(&watch->turn, __ATOMIC_ACQUIRE);
    return *turn == 0 ? NULL : &watch->looks[*turn % LOOK_COUNT];
}

/* What was copied of that look is of that look alone. */
static bool copied(const struct watch *watch, uint64_t turn) {
    return load(&watch->turn) - turn < LOOK_COUNT - 1;
}

int neighbours_count(int card) {
    uint64_t turn;
    struct watch *watch = watch_of(card);
    if (watch == NULL)
        return 0;
    renew_when_changed(watch, card);
    const struct look *seen = newest(watch, &turn);
    return seen == NULL ? 0 : (int)load(&seen->count);
}

int neighbours_peers(int card, uint64_t now_ns, struct throttle_peer *peers, struct neighbours_busy *busy) {
    struct watch *watch = watch_of(card);
    uint64_t turn, count = 0;
    *busy = (struct neighbours_busy){0};
    if (watch == NULL)
        return 0;
    renew_when_changed(watch, card);
    renew_when_old(watch, card, now_ns);
    for (const struct look *seen; (seen = newest(watch, &turn)) != NULL;) {
        copy_from_shared(&count, &seen->count, sizeof count);
        copy_from_shared(busy, &seen->busy, sizeof *busy);
        copy_from_shared(peers, seen->peers, count * sizeof peers[0]);
        if (copied(watch, turn))
            break;
    }
    return (int)count;
}

bool neighbours_page(int card, int place, struct neighbour *neighbour) {
    struct watch *watch = watch_of(card);
    struct throttle_peer peer;
    uint64_t turn;
    if (watch == NULL)
        return false;
    renew_when_changed(watch, card);
    for (const struct look *seen; (seen = newest(watch, &turn)) != NULL;) {
        if (place < 0 || place >= (int)load(&seen->count))
            return false;
        copy_from_shared(&peer, &seen->peers[place], sizeof peer);
        neighbour->index = peer.index;
        copy_from_shared(&neighbour->member, &seen->members[place], sizeof neighbour->member);
        copy_from_shared(&neighbour->page, seen->words[place], BELIEVED_BYTES);
        if (copied(watch, turn))
            return true;
    }
    return false;
}

void neighbours_renew(int card) {
    struct watch *watch = watch_of(card);
    if (watch != NULL)
        renew(watch, card, __atomic_load_n(&watch->file->generation, __ATOMIC_ACQUIRE));
}
