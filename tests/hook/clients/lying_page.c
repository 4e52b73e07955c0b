/* A container that only writes its page, and writes what it likes: lying_page PAGE UNTIL_MS WORD...
 *
 * WORD is OFFSET:VALUE, the word at that offset; OFFSET+AHEAD, a moment that is always so many ns ahead; or OFFSET*PARTS,
 * a time that grows by so many thousandths of the time that passes. */
#include "task.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define PERIOD_NS (NS_PER_MS / 10)

static uint64_t value_of(char kind, uint64_t value, uint64_t passed_ns, uint64_t now) {
    if (kind == '+') return now + value;
    return kind == '*' ? passed_ns / 1000 * value : value;
}

int main(int count, char **arguments) {
    int file = count > 3 ? open(arguments[1], O_RDWR) : -1;
    char *page = file < 0 ? MAP_FAILED : mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (page == MAP_FAILED) return 1;
    MUST(cuInit(0));
    uint64_t start = now_ns(), until = start + strtoull(arguments[2], NULL, 10) * NS_PER_MS;
    for (uint64_t now = start; now < until; now = now_ns()) {
        for (int each = 3; each < count; each++) {
            char *kind;
            uint64_t offset = strtoull(arguments[each], &kind, 10), value = strtoull(kind + 1, NULL, 10);
            uint64_t word = value_of(*kind, value, now - start, now);
            __atomic_store_n((uint64_t *)(void *)(page + offset), word, __ATOMIC_RELAXED);
        }
        rest(PERIOD_NS);
    }
    return 0;
}
