#include "pointers.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKET_COUNT_FIRST = 1024 };

struct node {
    struct node *next;
    struct holding holding;
};

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static struct node **buckets;
static size_t bucket_count; /* a power of two */
static size_t node_count;

/* Multiplication by 2^64 / golden ratio (Knuth, TAOCP 6.4): addresses differ in their middle bits only. */
static size_t bucket_of(enum holding_kind kind, uint64_t key, size_t count) {
    return (size_t)(((key ^ (uint64_t)kind << 60) * 0x9e3779b97f4a7c15ull) >> 20) & (count - 1);
}

static void grow(void) {
    size_t count = bucket_count == 0 ? BUCKET_COUNT_FIRST : bucket_count * 2;
    struct node **larger = calloc(count, sizeof *larger);
    /* Longer chains are slower and still right. */
    if (larger == NULL)
        return;
    for (size_t index = 0; index < bucket_count; index++)
        for (struct node *node = buckets[index], *next; node != NULL; node = next) {
            next = node->next;
            size_t to = bucket_of(node->holding.kind, node->holding.key, count);
            node->next = larger[to];
            larger[to] = node;
        }
    free(buckets);
    buckets = larger;
    bucket_count = count;
}

static struct node **find(enum holding_kind kind, uint64_t key) {
    if (bucket_count == 0)
        return NULL;
    for (struct node **link = &buckets[bucket_of(kind, key, bucket_count)]; *link != NULL; link = &(*link)->next)
        if ((*link)->holding.key == key && (*link)->holding.kind == kind)
            return link;
    return NULL;
}

static struct node *unlink_node(struct node **link) {
    struct node *node = *link;
    *link = node->next;
    node_count--;
    return node;
}

bool holding_add(const struct holding *holding) {
    struct node *node = malloc(sizeof *node);
    if (node == NULL)
        return false;
    node->holding = *holding;
    pthread_mutex_lock(&guard);
    if (node_count >= bucket_count)
        grow();
    struct node **old = find(holding->kind, holding->key);
    struct node *gone = old == NULL ? NULL : unlink_node(old);
    bool room = bucket_count > 0;
    if (room) {
        size_t at = bucket_of(holding->kind, holding->key, bucket_count);
        node->next = buckets[at];
        buckets[at] = node;
        node_count++;
    }
    pthread_mutex_unlock(&guard);
    free(gone);
    if (!room)
        free(node);
    return room;
}

bool holding_take(enum holding_kind kind, uint64_t key, struct holding *holding) {
    pthread_mutex_lock(&guard);
    struct node **link = find(kind, key);
    struct node *node = link == NULL ? NULL : unlink_node(link);
    pthread_mutex_unlock(&guard);
    if (node == NULL)
        return false;
    *holding = node->holding;
    free(node);
    return true;
}

bool holding_find(enum holding_kind kind, uint64_t key, struct holding *holding) {
    pthread_mutex_lock(&guard);
    struct node **link = find(kind, key);
    if (link != NULL)
        *holding = (*link)->holding;
    pthread_mutex_unlock(&guard);
    return link != NULL;
}

bool holding_change(enum holding_kind kind, uint64_t key, void (*change)(struct holding *, void *), void *argument) {
    pthread_mutex_lock(&guard);
    struct node **link = find(kind, key);
    if (link != NULL)
        change(&(*link)->holding, argument);
    pthread_mutex_unlock(&guard);
    return link != NULL;
}

void holdings_take_all(bool (*matches)(const struct holding *, const void *), const void *argument,
                       void (*each)(const struct holding *)) {
    struct node *taken = NULL;
    pthread_mutex_lock(&guard);
    for (size_t index = 0; index < bucket_count; index++)
        for (struct node **link = &buckets[index]; *link != NULL;) {
            if (!matches(&(*link)->holding, argument)) {
                link = &(*link)->next;
                continue;
            }
            struct node *node = unlink_node(link);
            node->next = taken;
            taken = node;
        }
    pthread_mutex_unlock(&guard);
    while (taken != NULL) {
        struct node *node = taken;
        taken = node->next;
        each(&node->holding);
        free(node);
    }
}

size_t holdings_copy(enum holding_kind kind, struct holding *list, size_t max) {
    size_t copied = 0;
    pthread_mutex_lock(&guard);
    for (size_t index = 0; index < bucket_count; index++)
        for (const struct node *node = buckets[index]; node != NULL && copied < max; node = node->next)
            if (node->holding.kind == kind)
                list[copied++] = node->holding;
    pthread_mutex_unlock(&guard);
    return copied;
}

void holdings_move(CUcontext from, CUcontext to) {
    pthread_mutex_lock(&guard);
    for (size_t index = 0; index < bucket_count; index++)
        for (struct node *node = buckets[index]; node != NULL; node = node->next)
            if (node->holding.context == from) node->holding.context = to;
    pthread_mutex_unlock(&guard);
}

/* The nodes are left to the child's memory: another thread may have been in the middle of the list. */
void holdings_forget(void) {
    pthread_mutex_init(&guard, NULL);
    buckets = NULL;
    bucket_count = 0;
    node_count = 0;
}
