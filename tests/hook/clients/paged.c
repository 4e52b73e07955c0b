/* A task with a set of memory that its kernels go through, piece by piece, and says when it was done.
 *
 * paged KEY=VALUE ...   mib=1024 pieces=8 kernel_us=10000 kernels=1000 from_ms=0 until_ms=0 (0: all kernels)
 *                       managed=0 (1: cuMemAllocManaged, as a program that knows of paging would)
 *                       dies=0 (1: half way, by SIGKILL, with work on the card)
 *                       burst=1 pause_us=0 (after each burst) ahead=1 (kernels submitted before one is waited for)
 * One line of JSON: start_ns, end_ns, kernels, wait_ns_max (the longest time for one burst), free_mib and total_mib as the
 * application sees them, and from the driver's own books moved_in_mib and moved_out_mib. */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "sim.h"
#include "task.h"

#define PIECES_MAX 64

struct task {
    uint64_t pieces, piece_bytes, kernels, burst, ahead, pause_ns, until_ns, dies;
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

static uint64_t run(struct task *task, uint64_t *done) {
    uint64_t longest_ns = 0;
    while (*done < task->kernels && (task->until_ns == 0 || now_ns() < task->until_ns)) {
        uint64_t begin_ns = now_ns();
        for (uint64_t each = 0; each < task->burst && *done < task->kernels; each++, ++*done) {
            void *parameters[] = {&task->memory[*done % task->pieces], &task->piece_bytes, &task->kernel_us};
            MUST(cuLaunchKernel(task->function, 1, 1, 1, 1, 1, 1, 0, task->stream, parameters, NULL));
            if (task->dies && *done == task->kernels / 2) kill(getpid(), SIGKILL);
            if (*done % task->ahead == 0) MUST(cuStreamSynchronize(task->stream));
        }
        MUST(cuStreamSynchronize(task->stream));
        uint64_t took_ns = now_ns() - begin_ns;
        longest_ns = took_ns > longest_ns ? took_ns : longest_ns;
        rest(task->pause_ns);
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
                        .burst = option(count, arguments, "burst", 1), .dies = option(count, arguments, "dies", 0), .ahead = option(count, arguments, "ahead", 1),
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
    uint64_t done = 0, start_ns = now_ns(), longest_ns = run(&task, &done), end_ns = now_ns();
    print_result(&task, start_ns, end_ns, done, longest_ns);
    for (uint64_t each = 0; each < task.pieces; each++) MUST(cuMemFree_v2(task.memory[each]));
    return 0;
}
