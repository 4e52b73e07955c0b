/* Writes lies about its memory and its turns into its own page, as any tenant can, until the time is over.
 *
 * attack_turns page=FILE lie=always|activity|size|length|thrash|anything until_ms=60000 every_us=3000 seed=1 */
#include <fcntl.h>
#include <sys/mman.h>

#include "egpu_region.h"
#include "task.h"

static uint64_t seed;

static uint64_t dice(uint64_t sides) { /* xorshift64* */
    seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
    return (seed * UINT64_C(0x2545F4914F6CDD1D) >> 33) % sides;
}

static void tell(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELAXED); }
static uint64_t any(void) { return dice(2) ? UINT64_MAX : dice(UINT32_MAX) << dice(32); }

/* The most that can be claimed. */
static void claim_all(struct egpu_page *page, uint64_t now) {
    tell(&page->active_ns, now);
    tell(&page->active_since_ns, 1);
    tell(&page->virtual_bytes, UINT64_MAX);
    tell(&page->wanted_bytes, UINT64_MAX);
    tell(&page->in_flight_since_ns, now);
    tell(&page->in_flight_estimate_ns, UINT64_MAX);
    tell(&page->round_trip_ns, UINT64_MAX);
    tell(&page->thrash_until_ns, UINT64_MAX);
    tell(&page->turn_wanted_since_ns, 1);
    tell(&page->turn_since_ns, 1);
    tell(&page->turn_until_ns, UINT64_MAX);
}

static void lie(struct egpu_page *page, const char *how, uint64_t now) {
    claim_all(page, now);
    if (strcmp(how, "anything") == 0)
        for (uint64_t *word = &page->resident_bytes; word <= &page->thrash_until_ns; word++)
            if (word != &page->pinned_bytes) tell(word, dice(2) ? now : any());
    if (dice(2)) return;
    if (strcmp(how, "activity") == 0) tell(&page->active_ns, 0), tell(&page->in_flight_since_ns, 0);
    if (strcmp(how, "size") == 0) tell(&page->virtual_bytes, 0);
    if (strcmp(how, "length") == 0) tell(&page->round_trip_ns, 1);
    if (strcmp(how, "thrash") == 0) tell(&page->thrash_until_ns, 0);
}

int main(int count, char **arguments) {
    const char *how = option_text(count, arguments, "lie", "always");
    uint64_t until = option(count, arguments, "until_ms", 60000) * NS_PER_MS;
    uint64_t every = option(count, arguments, "every_us", 3000) * 1000;
    int file = open(option_text(count, arguments, "page", ""), O_RDWR);
    struct egpu_page *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CUfunction function;
    CUstream stream;
    seed = option(count, arguments, "seed", 1);
    if (page == MAP_FAILED) return 2;
    task_begin(&function, "egpu_touch", &stream);
    MUST(cuStreamSynchronize(stream)); /* from here on this thread takes part in the clock */
    while (now_ns() < until) {
        lie(page, how, now_ns());
        rest(1 + dice(2 * every));
    }
    memset(page, 0, sizeof *page);
    return 0;
}
