#include "oversubscription.h"

#include "batches.h"
#include "clock.h"
#include "movable.h"
#include "neighbours.h"
#include "region_files.h" /* the slots: what all processes of this container hold */
#include "residency_beliefs.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

_Static_assert((int)RESIDENCY_MEMBER_COUNT_MAX == (int)EGPU_MEMBER_COUNT_MAX, "one bit for each member");

enum { CARD_COUNT_MAX = EGPU_CARD_COUNT_MAX };
#define TOTALS_NS (100 * RESIDENCY_MILLISECOND_NS)
/* A turn's page-in that is this much faster than the link is no measurement: most pages had stayed. */
#define BELIEVABLE_PARTS 8

enum seat { SEAT_FREE, SEAT_TAKEN, SEAT_LEFT };

/* One shared card, as this process sees it. */
struct turn {
    pthread_mutex_t lock; /* short: no driver call and no waiting inside */
    int self;             /* this container among the members */
    int count;
    uint64_t totals_due_ns;
    uint64_t generation; /* of the agent's file, which says who the others are */
    struct residency_belief beliefs[RESIDENCY_MEMBER_COUNT_MAX]; /* by the agent's index */
    struct residency_member members[RESIDENCY_MEMBER_COUNT_MAX];
    struct residency_plan plan;
    struct residency_observer observer;
    enum seat seat;
    uint64_t seat_bytes; /* of this process, while taken */
};

static struct turn turns[EGPU_CARD_COUNT_MAX];

/* The agent's files of shared cards, found once: they stay mapped as long as the process lives. */
static const struct egpu_card *files[EGPU_CARD_COUNT_MAX];

/* Whether anybody on the card is oversubscribed, for one generation of the agent's file: generation, answer, 1. */
static uint64_t concerned_words[EGPU_CARD_COUNT_MAX];

static uint64_t load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
static void store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
static void add(uint64_t *word, uint64_t value) { __atomic_fetch_add(word, value, __ATOMIC_RELAXED); }
static uint64_t least(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t since(uint64_t then_ns, uint64_t now_ns) { return now_ns > then_ns ? now_ns - then_ns : 0; }

static void forget_turns(void) {
    for (int card = 0; card < CARD_COUNT_MAX; card++) {
        memset(&turns[card], 0, sizeof turns[card]);
        pthread_mutex_init(&turns[card].lock, NULL);
    }
}

/* A child of a process that used the card cannot use it itself: its end is not the end of that work. */
static bool is_child;

static void after_fork(void) {
    is_child = true;
    forget_turns();
    movable_after_fork();
}

/* Most programs end without freeing anything, and their page stays. */
static void at_exit(void) {
    for (int card = 0; card < CARD_COUNT_MAX && !is_child; card++) {
        struct egpu_page *page = region_page(card);
        if (page != NULL)
            store(&page->active_ns, 0);
    }
}

static void begin(void) {
    forget_turns();
    atexit(at_exit);
    pthread_atfork(NULL, NULL, after_fork);
}

static bool look_for_oversubscribed(const struct egpu_card *file, uint64_t *word, uint64_t generation) {
    bool concerned = false;
    for (uint32_t i = 0; i < file->member_count && i < EGPU_MEMBER_COUNT_MAX; i++)
        concerned |= file->members[i].present != 0 && file->members[i].oversubscription != 0;
    if (generation % 2 == 0) /* else the agent is writing: asked again at the next call */
        store(word, generation << 2 | (uint64_t)concerned << 1 | 1);
    return concerned;
}

static const struct egpu_card *find_file(int card) {
    const struct egpu_card *file = region_card(card);
    if (file == NULL || region_page(card) == NULL)
        return NULL;
    __atomic_store_n(&files[card], file, __ATOMIC_RELEASE);
    return file;
}

static struct turn *turn_of_concerned(int card) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, begin);
    return &turns[card];
}

/* NULL: nobody on this card is oversubscribed, or nobody shares it. */
static inline struct turn *turn_of_card(int card) {
    if (card < 0 || card >= CARD_COUNT_MAX)
        return NULL;
    const struct egpu_card *file = __atomic_load_n(&files[card], __ATOMIC_ACQUIRE);
    if (file == NULL && (file = find_file(card)) == NULL)
        return NULL;
    uint64_t generation = __atomic_load_n(&file->generation, __ATOMIC_ACQUIRE);
    uint64_t word = load(&concerned_words[card]);
    bool known = word >> 2 == generation && word != 0;
    bool concerned = known ? word >> 1 & 1 : look_for_oversubscribed(file, &concerned_words[card], generation);
    return concerned ? turn_of_concerned(card) : NULL;
}

/* Of all processes: a killed one's bytes leave with its slot. */
static void write_totals(int card, struct egpu_page *page) {
    const struct egpu_usage *usage = region_get()->usage;
    uint64_t movable_bytes = 0, all_bytes = 0, resident_bytes = 0;
    uint32_t used = __atomic_load_n(&usage->head.slot_count_used, __ATOMIC_RELAXED);
    for (uint32_t i = 0; i < used && i < EGPU_SLOT_COUNT_MAX; i++) {
        const struct egpu_slot *slot = &usage->slots[i];
        if (load(&slot->pid) == 0)
            continue;
        for (uint32_t c = 0; c < EGPU_MEMORY_CLASS_COUNT; c++)
            all_bytes += load(&slot->cards[card].charged_bytes[c]);
        movable_bytes += load(&slot->cards[card].charged_bytes[EGPU_MEMORY_OVERSUBSCRIBED]);
        resident_bytes += load(&slot->cards[card].resident_bytes);
    }
    store(&page->virtual_bytes, movable_bytes);
    store(&page->resident_bytes, resident_bytes);
    store(&page->pinned_bytes, all_bytes - least(all_bytes, movable_bytes));
}

static struct residency_member member_of(const struct egpu_member *agent, const struct egpu_page *page) {
    return (struct residency_member){
        .present = true,
        .high = agent->priority == EGPU_PRIORITY_HIGH,
        .memory_quota_bytes = agent->memory_quota_bytes,
        .resident_bytes_min = agent->resident_bytes_min,
        .movable_bytes = load(&page->virtual_bytes),
        .pinned_bytes = load(&page->pinned_bytes),
        .active_ns = load(&page->active_ns),
        .active_since_ns = load(&page->active_since_ns),
        .in_flight_since_ns = load(&page->in_flight_since_ns),
        .in_flight_estimate_ns = load(&page->in_flight_estimate_ns),
        .round_trip_ns = load(&page->round_trip_ns),
        .thrash_until_ns = load(&page->thrash_until_ns),
    };
}

/* With the lock held. All containers see the same members in the same order, so they make the same plan. */
static void look_around(struct turn *turn, int card, uint64_t now_ns) {
    const struct egpu_card *file = region_card(card);
    uint32_t own = region_limits(card)->card_index;
    struct neighbour neighbour;
    bool placed = false;
    uint64_t generation = load(&file->generation);
    if (turn->generation != generation)
        memset(turn->beliefs, 0, sizeof turn->beliefs);
    turn->generation = generation;
    neighbours_renew(card);
    turn->count = 0;
    for (int peer = 0; neighbours_page(card, peer, &neighbour); peer++) {
        if (!placed && neighbour.index > own) {
            placed = true;
            turn->self = turn->count++;
        }
        turn->members[turn->count] = member_of(&neighbour.member, &neighbour.page);
        residency_believe(&turn->beliefs[neighbour.index % EGPU_MEMBER_COUNT_MAX], &turn->members[turn->count++], now_ns);
    }
    if (!placed)
        turn->self = turn->count++;
    turn->members[turn->self] = member_of(&file->members[own % EGPU_MEMBER_COUNT_MAX], region_page(card));
    residency_plan(&turn->plan, turn->members, turn->count, load(&file->memory_bytes), now_ns);
}

/* With the lock held: says that this container has work, and makes a new plan when the old one has run out. */
static void look(struct turn *turn, int card, uint64_t now_ns, bool anew) {
    struct egpu_page *page = region_page(card);
    struct residency_member *self = &turn->members[turn->self];
    self->round_trip_ns = load(&page->round_trip_ns); /* as the others read it: they judge by the same hold */
    if (since(load(&page->active_ns), now_ns) >= residency_hold_ns(self))
        store(&page->active_since_ns, now_ns);
    store(&page->active_ns, now_ns);
    if (now_ns >= turn->totals_due_ns) {
        write_totals(card, page);
        turn->totals_due_ns = now_ns + TOTALS_NS;
    }
    if (anew || now_ns >= turn->plan.valid_until_ns)
        look_around(turn, card, now_ns);
}

/* What to do before the launch goes on, decided under the lock and done without it. */
struct errand {
    enum { ERRAND_NONE, ERRAND_BRING, ERRAND_SEND, ERRAND_RELEASE } kind;
    uint64_t bytes; /* of this process on the card afterwards */
    uint64_t there_bytes; /* where they go already: who waits for a first turn has next to nothing on a full card */
    uint64_t turn_start_ns, turn_end_ns;
    struct residency_member self;
};

/* This process' part of what its container should have on the card. */
static uint64_t own_target_bytes(const struct turn *turn, int card) {
    const struct residency_member *self = &turn->members[turn->self];
    uint64_t own_bytes = movable_sum_bytes(card);
    uint64_t pinned_bytes = self->pinned_bytes;
    uint64_t target_bytes = turn->plan.target_bytes[turn->self];
    target_bytes -= least(target_bytes, pinned_bytes);
    if (target_bytes >= self->movable_bytes)
        return own_bytes;
    return (uint64_t)((double)target_bytes * (double)own_bytes / (double)self->movable_bytes);
}

static struct errand errand_now(struct turn *turn, int card, bool waits) {
    if (turn->plan.mode != RESIDENCY_TURNS) {
        bool limited = turn->seat != SEAT_FREE;
        turn->seat = SEAT_FREE;
        return (struct errand){.kind = limited ? ERRAND_RELEASE : ERRAND_NONE};
    }
    uint64_t target_bytes = own_target_bytes(turn, card);
    if (waits) {
        bool leaves = turn->plan.waiting >> turn->self & 1 && (turn->seat != SEAT_LEFT || target_bytes < turn->seat_bytes);
        if (!leaves)
            return (struct errand){.kind = ERRAND_NONE};
        uint64_t own_bytes = movable_sum_bytes(card);
        uint64_t there_bytes = turn->seat == SEAT_FREE ? own_bytes : own_bytes - least(own_bytes, turn->seat_bytes);
        turn->seat = SEAT_LEFT;
        turn->seat_bytes = target_bytes;
        return (struct errand){.kind = ERRAND_SEND, .bytes = target_bytes, .there_bytes = there_bytes};
    }
    if (turn->seat == SEAT_TAKEN && turn->seat_bytes == target_bytes)
        return (struct errand){.kind = ERRAND_NONE};
    uint64_t there_bytes = turn->seat == SEAT_FREE ? 0 : turn->seat_bytes;
    turn->seat = SEAT_TAKEN;
    turn->seat_bytes = target_bytes;
    return (struct errand){ERRAND_BRING, target_bytes, there_bytes, turn->plan.turn_start_ns, turn->plan.turn_end_ns,
                           turn->members[turn->self]};
}

static void write_turn(struct egpu_page *page, const struct errand *errand) {
    store(&page->turn_since_ns, errand->turn_start_ns);
    store(&page->turn_until_ns, errand->turn_end_ns);
    store(&page->turn_wanted_since_ns, 0);
    add(&page->turn_count, 1);
}

/* Outside of turns everything counts as being on the card: where the driver put what, it does not say. */
static void note_resident(int card) {
    struct egpu_slot_card *slot = region_slot_card(card);
    struct turn *turn = turn_of_card(card);
    uint64_t bytes = movable_sum_bytes(card);
    if (turn != NULL) {
        pthread_mutex_lock(&turn->lock);
        bytes = turn->seat == SEAT_FREE ? bytes : least(turn->seat_bytes, bytes);
        pthread_mutex_unlock(&turn->lock);
    }
    if (slot != NULL)
        store(&slot->resident_bytes, bytes);
}

/* Pages that the driver found where they should be take no time; a link takes some for those that it moved. */
static bool is_believable(const struct movement *movement) {
    return movement->ns > movement->bytes / BELIEVABLE_PARTS * UINT64_C(1000000000) / RESIDENCY_LINK_BYTES_PER_SECOND;
}

static uint64_t moved_bytes(const struct movement *movement, const struct errand *errand) {
    return is_believable(movement) ? movement->bytes - least(movement->bytes, errand->there_bytes) : 0;
}

static void run_errand(int card, struct errand errand) {
    struct egpu_page *page = region_page(card);
    struct egpu_slot_card *slot = region_slot_card(card);
    note_resident(card);
    if (errand.kind == ERRAND_RELEASE)
        movable_release(card);
    if (errand.kind == ERRAND_SEND) {
        struct movement movement = movable_send(card, errand.bytes);
        store(&page->turn_since_ns, 0);
        if (slot != NULL)
            add(&slot->swapped_out_bytes, moved_bytes(&movement, &errand));
    }
    if (errand.kind != ERRAND_BRING)
        return;
    write_turn(page, &errand);
    struct movement movement = movable_bring(card, errand.bytes);
    add(&page->page_in_ns, movement.ns);
    add(&page->page_in_bytes, movement.bytes);
    if (slot != NULL)
        add(&slot->swapped_in_bytes, moved_bytes(&movement, &errand));
    if (is_believable(&movement))
        store(&page->round_trip_ns, residency_round_trip_ns(&errand.self, movement.ns));
}

/* One look: 0 when the launch may go on, else when to look again. */
static uint64_t ask(struct turn *turn, int card, uint64_t now_ns, bool anew) {
    pthread_mutex_lock(&turn->lock);
    look(turn, card, now_ns, anew);
    uint64_t until_ns = residency_wait_until_ns(&turn->plan, turn->members, turn->count, turn->self, now_ns);
    struct errand errand = errand_now(turn, card, until_ns != 0);
    pthread_mutex_unlock(&turn->lock);
    if (errand.kind != ERRAND_NONE)
        run_errand(card, errand);
    return until_ns;
}

void oversubscription_gate(int card) {
    struct turn *turn = turn_of_card(card);
    if (turn == NULL)
        return;
    struct egpu_page *page = region_page(card);
    struct gate *gate = gate_of_card(card);
    uint64_t start_ns = clock_now_ns(), now_ns = start_ns;
    for (;;) {
        uint64_t until_ns = ask(turn, card, now_ns, now_ns != start_ns);
        if (until_ns == 0)
            break;
        if (now_ns == start_ns)
            store(&page->turn_wanted_since_ns, now_ns);
        if (gate != NULL)
            batches_reap(gate, true); /* work that has ended must not look like work in flight to who comes next */
        clock_sleep_until(until_ns);
        now_ns = clock_now_ns();
    }
    uint64_t nothing = 0;
    __atomic_compare_exchange_n(&page->in_flight_since_ns, &nothing, now_ns, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
    if (now_ns == start_ns)
        return;
    struct egpu_slot_card *slot = region_slot_card(card);
    store(&page->turn_wanted_since_ns, 0);
    if (slot != NULL)
        add(&slot->preempted_ns, now_ns - start_ns);
}

void oversubscription_measured(int card, uint64_t elapsed_ns, uint64_t expected_ns, uint64_t peers_ns) {
    struct turn *turn = turn_of_card(card);
    if (turn == NULL)
        return;
    struct egpu_page *page = region_page(card);
    uint64_t now_ns = clock_now_ns();
    store(&page->in_flight_since_ns, 0);
    pthread_mutex_lock(&turn->lock);
    bool thrash = turn->plan.mode == RESIDENCY_TOGETHER &&
                  residency_observe(&turn->observer, &turn->plan, elapsed_ns - least(elapsed_ns, peers_ns), expected_ns, now_ns);
    uint64_t until_ns = turn->observer.thrash_until_ns;
    pthread_mutex_unlock(&turn->lock);
    if (thrash)
        store(&page->thrash_until_ns, until_ns);
}

void oversubscription_changed(int card) {
    struct turn *turn = turn_of_card(card);
    struct egpu_page *page = turn == NULL ? NULL : region_page(card);
    note_resident(card);
    if (page == NULL)
        return;
    pthread_mutex_lock(&turn->lock);
    turn->totals_due_ns = 0; /* the neighbours should know before it is used */
    pthread_mutex_unlock(&turn->lock);
    /* A process with nothing left to move stands in nobody's way; what its siblings do, they say themselves. */
    if (movable_sum_bytes(card) == 0)
        store(&page->active_ns, 0);
}
