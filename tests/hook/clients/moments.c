/* What happens to others at moments of the clock, in order: moments WORD ...
 *
 * at:MS                     waits until so long after the clients' start
 * write:FROM:TO:GENERATION  what the agent does to a file that others have mapped: the generation, a word at that place,
 *                           is odd while the rest is copied
 * kill:PID */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "task.h"

#define WORDS_MAX 4

static char *map(const char *path, int mode, size_t *bytes) {
    struct stat found;
    int file = open(path, mode == PROT_READ ? O_RDONLY : O_RDWR);
    if (file < 0 || fstat(file, &found) != 0) exit(3);
    char *memory = mmap(NULL, (size_t)found.st_size, mode, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) exit(3);
    *bytes = (size_t)found.st_size;
    return memory;
}

static void rewrite(const char *from, const char *to, size_t place) {
    size_t from_bytes, to_bytes;
    char *source = map(from, PROT_READ, &from_bytes), *target = map(to, PROT_READ | PROT_WRITE, &to_bytes);
    uint64_t generation, *word = (uint64_t *)(void *)(target + place);
    if (from_bytes != to_bytes || place + sizeof generation > from_bytes) exit(4);
    memcpy(&generation, source + place, sizeof generation);
    __atomic_store_n(word, generation - 1, __ATOMIC_SEQ_CST);
    memcpy(target, source, place);
    size_t after = place + sizeof generation;
    memcpy(target + after, source + after, from_bytes - after);
    __atomic_store_n(word, generation, __ATOMIC_SEQ_CST);
}

int main(int count, char **arguments) {
    CUfunction function;
    CUstream stream;
    task_begin(&function, "egpu_spin_us", &stream);
    MUST(cuStreamSynchronize(stream)); /* from here on this thread takes part in the clock */
    for (int each = 1; each < count; each++) {
        char *words[WORDS_MAX] = {0}, *rest = arguments[each];
        for (int word = 0; word < WORDS_MAX && rest; word++) words[word] = strsep(&rest, ":");
        if (strcmp(words[0], "at") == 0 && words[1]) sleep_until(NS_PER_SECOND + strtoull(words[1], NULL, 10) * NS_PER_MS);
        else if (strcmp(words[0], "kill") == 0 && words[1]) kill((pid_t)atoi(words[1]), SIGKILL);
        else if (strcmp(words[0], "write") == 0 && words[3])
            rewrite(words[1], words[2], (size_t)strtoull(words[3], NULL, 10));
        else return 2;
    }
    return 0;
}
