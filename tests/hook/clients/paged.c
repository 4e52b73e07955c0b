/* A task with a set of memory that its kernels go through, piece by piece, and says when it was done.
 *
 * paged KEY=VALUE ...   mib=1024 pieces=8 kernel_us=10000 kernels=1000 from_ms=0 until_ms=0 (0: all kernels)
 *                       managed=0 (1: cuMemAllocManaged, as a program that knows of paging would)
 *                       dies=0 (1: half way, by SIGKILL, with work on the card) killed_ms=0 (then, wherever it is)
 *                       forks=0 (a child after so many kernels each) checks=0 (1: after the first pause, of what moved out)
 *                       keeps=0 (1: ends without giving its memory back)
 *                       burst=1 pause_us=0 (after each burst) ahead=1 (kernels submitted before one is waited for)
 * One line of JSON: start_ns, end_ns, kernels, wait_ns_max (the longest time for one burst), free_mib and total_mib as the
 * application sees them, and from the driver's own books moved_in_mib and moved_out_mib. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim.h"
#include "task.h"

void egpuSimExpect(uint32_t);

#define PIECES_MAX 64
#define PATTERN_BYTES (4 * MIB) /* larger than copies that pass without asking whose turn it is */

struct task {
    uint64_t pieces, piece_bytes, kernels, burst, ahead, pause_ns, until_ns, dies, forks, checks;
    uint32_t kernel_us;
    CUdeviceptr memory[PIECES_MAX];
    CUfunction function;
    CUstream stream;
};

/* What an application may ask about plain device memory, and must be told of it. */
static void check_looks_plain(CUdeviceptr address) {
    unsigned int type = 0;
    int managed = -1;
    MUST(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address));
    MUST(cuPointerGetAttribute(&managed, CU_POINTER_ATTRIBUTE_IS_MANAGED, address));
    if (type != CU_MEMORYTYPE_DEVICE || (managed & 0xff) != 0) {
        fprintf(stderr, "memory of type %u, managed %d\n", type, managed & 0xff);
        exit(1);
    }
}

static void *kill_at(void *time_ms) {
    sleep_until(*(uint64_t *)time_ms * NS_PER_MS);
    kill(getpid(), SIGKILL);
    return NULL;
}

/* A child that does nothing with the card and ends like a program. */
static void fork_once(void) {
    int status = 0;
    pid_t child = fork();
    if (child == 0) exit(0);
    if (waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "a child ended with %d\n", status);
        exit(1);
    }
}

static const struct sim_share *books(void);

static unsigned char pattern[PATTERN_BYTES], back[PATTERN_BYTES];

static void write_pattern(const struct task *task) {
    for (uint64_t each = 0; each < PATTERN_BYTES; each++) pattern[each] = (unsigned char)(each * 31 + each / 4096);
    MUST(cuMemcpyHtoD_v2(task->memory[0] + MIB, pattern, PATTERN_BYTES));
}

static void check_holds(CUdeviceptr address, uint64_t bytes) {
    memset(back, 0, sizeof back);
    MUST(cuMemcpyDtoH_v2(back, address, bytes));
    if (memcmp(back, pattern, bytes) == 0) return;
    fprintf(stderr, "memory that was moved out came back different\n");
    exit(1);
}

/* Its pages are on the host now: they are read, copied on the card, and half of the memory is given back. */
static void check_moved_out(struct task *task) {
    size_t free_before, free_after, total;
    if (books()->migrated_out_bytes == 0) {
        fprintf(stderr, "nothing was moved out\n");
        exit(1);
    }
    check_holds(task->memory[0] + MIB, MIB / 16);
    check_holds(task->memory[0] + MIB, PATTERN_BYTES);
    MUST(cuMemcpyDtoD_v2(task->memory[1], task->memory[0] + MIB, PATTERN_BYTES));
    check_holds(task->memory[1], PATTERN_BYTES);
    MUST(cuMemGetInfo_v2(&free_before, &total));
    for (uint64_t each = task->pieces / 2; each < task->pieces; each++) MUST(cuMemFree_v2(task->memory[each]));
    MUST(cuMemGetInfo_v2(&free_after, &total));
    if (free_after - free_before != (task->pieces - task->pieces / 2) * task->piece_bytes) exit(1);
    task->pieces /= 2;
    task->checks = 0;
}

static uint64_t run(struct task *task, uint64_t *done) {
    uint64_t longest_ns = 0;
    while (*done < task->kernels && (task->until_ns == 0 || now_ns() < task->until_ns)) {
        uint64_t begin_ns = now_ns();
        for (uint64_t each = 0; each < task->burst && *done < task->kernels; each++, ++*done) {
            void *parameters[] = {&task->memory[*done % task->pieces], &task->piece_bytes, &task->kernel_us};
            MUST(cuLaunchKernel(task->function, 1, 1, 1, 1, 1, 1, 0, task->stream, parameters, NULL));
            if (task->dies && *done == task->kernels / 2) kill(getpid(), SIGKILL);
            if (task->forks && *done % task->forks == task->forks - 1) fork_once();
            if (*done % task->ahead == 0) MUST(cuStreamSynchronize(task->stream));
        }
        MUST(cuStreamSynchronize(task->stream));
        uint64_t took_ns = now_ns() - begin_ns;
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        rest(task->pause_ns);
        if (task->checks) check_moved_out(task);
    }
    return longest_ns;
}

/* The driver's books of this process on the first card. */
static const struct sim_share *books(void) {
    static const struct sim_share none;
    int file = open(getenv("EGPU_SIM_STATE"), O_RDONLY);
    const struct sim_state *state = mmap(NULL, sizeof *state, PROT_READ, MAP_SHARED, file, 0);
    for (uint32_t each = 0; state != MAP_FAILED && each < state->processes_high; each++)
        if (state->processes[each].pid == getpid()) return &state->processes[each].shares[0];
    return &none;
}

static void print_result(const struct task *task, uint64_t start_ns, uint64_t end_ns, uint64_t done, uint64_t longest_ns) {
    size_t free_bytes, total_bytes;
    const struct sim_share *share = books();
    MUST(cuMemGetInfo_v2(&free_bytes, &total_bytes));
    printf("{\"start_ns\": %llu, \"end_ns\": %llu, \"kernels\": %llu, \"wait_ns_max\": %llu, \"kernel_us\": %u, ",
           (unsigned long long)start_ns, (unsigned long long)end_ns, (unsigned long long)done,
           (unsigned long long)longest_ns, task->kernel_us);
    printf("\"free_mib\": %llu, \"total_mib\": %llu, \"moved_in_mib\": %llu, \"moved_out_mib\": %llu}\n",
           (unsigned long long)(free_bytes / MIB), (unsigned long long)(total_bytes / MIB),
           (unsigned long long)(share->migrated_in_bytes / MIB), (unsigned long long)(share->migrated_out_bytes / MIB));
}

int main(int count, char **arguments) {
    struct task task = {.pieces = option(count, arguments, "pieces", 8), .kernels = option(count, arguments, "kernels", 1000),
                        .burst = option(count, arguments, "burst", 1), .ahead = option(count, arguments, "ahead", 1),
                        .dies = option(count, arguments, "dies", 0), .forks = option(count, arguments, "forks", 0),
                        .checks = option(count, arguments, "checks", 0),
                        .pause_ns = option(count, arguments, "pause_us", 0) * 1000,
                        .kernel_us = (uint32_t)option(count, arguments, "kernel_us", 10000)};
    task.piece_bytes = option(count, arguments, "mib", 1024) * MIB / task.pieces;
    task_begin(&task.function, "egpu_touch", &task.stream);
    MUST(cuStreamSynchronize(task.stream)); /* from here on this thread takes part in the clock */
    rest(option(count, arguments, "from_ms", 0) * NS_PER_MS);
    task.until_ns = option(count, arguments, "until_ms", 0) * NS_PER_MS;
    task.until_ns += task.until_ns ? now_ns() : 0;
    if (option(count, arguments, "managed", 0)) {
        for (uint64_t each = 0; each < task.pieces; each++)
            MUST(cuMemAllocManaged(&task.memory[each], task.piece_bytes, CU_MEM_ATTACH_GLOBAL));
    } else {
        for (uint64_t each = 0; each < task.pieces; each++) MUST(cuMemAlloc_v2(&task.memory[each], task.piece_bytes));
        check_looks_plain(task.memory[0] + task.piece_bytes / 2);
    }
    pthread_t killer;
    uint64_t killed_ms = option(count, arguments, "killed_ms", 0);
    if (task.checks) write_pattern(&task);
    if (killed_ms) {
        egpuSimExpect(1);
        pthread_create(&killer, NULL, kill_at, &killed_ms);
    }
    uint64_t done = 0, start_ns = now_ns(), longest_ns = run(&task, &done), end_ns = now_ns();
    print_result(&task, start_ns, end_ns, done, longest_ns);
    for (uint64_t each = 0; each < task.pieces && !option(count, arguments, "keeps", 0); each++)
        MUST(cuMemFree_v2(task.memory[each]));
    return 0;
}
