/* A kernel that takes another time than it was learned with, for nothing but a parameter decides.
 *
 * attack_changing first_us=1000 first_launches=0 then_us=0 then_launches=0 until_ms=5000: so many of the first kind, then
 * of the other, and again; launches 0: that kind from then on.
 * page=FILE  the container's page as the neighbours see it, while its own hook writes another one. It always says: has
 *            work and tokens, was charged nothing. */
#include <fcntl.h>
#include <sys/mman.h>

#include "egpu_region.h"
#include "task.h"

#define CLAIMED_NS (20 * NS_PER_MS)
#define TOKENS_NS ((int64_t)(60 * NS_PER_MS))

static void lie(struct egpu_page *page, uint64_t now) {
    page->busy_until_ns = now + CLAIMED_NS;
    page->wanting_until_ns = now + CLAIMED_NS;
    page->tokens_ns = TOKENS_NS;
    page->tokens_at_ns = now;
}

int main(int count, char **arguments) {
    const char *path = option_text(count, arguments, "page", NULL);
    unsigned int us[] = {(unsigned int)option(count, arguments, "first_us", 1000),
                         (unsigned int)option(count, arguments, "then_us", 0)};
    uint64_t launches[] = {option(count, arguments, "first_launches", 0), option(count, arguments, "then_launches", 0)};
    struct egpu_page *page = NULL;
    CUfunction function;
    CUstream stream;
    int kind = 0;
    if (path) page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, open(path, O_RDWR), 0);
    if (page == MAP_FAILED) return 1;
    task_begin(&function, "egpu_spin_us", &stream);
    MUST(cuStreamSynchronize(stream)); /* from here on this thread takes part in the clock */
    uint64_t until = NS_PER_SECOND + option(count, arguments, "until_ms", 5000) * NS_PER_MS;
    for (uint64_t done = 0; now_ns() < until; done++) {
        if (launches[kind] && done == launches[kind]) {
            done = 0;
            kind = 1 - kind;
        }
        void *parameters[] = {&us[kind]};
        if (page) lie(page, now_ns());
        MUST(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream, parameters, NULL));
    }
    return 0;
}
