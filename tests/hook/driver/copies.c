/* The work of copies and fills: checks, time on the copy engine, and the bytes themselves.
 *
 * Bytes move when the work is submitted (at each launch of a graph for captured ones): streams that are ordered
 * against each other see what a card would show, and nothing needs a thread in the background. */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "copies.h"
#include "managed.h"

#define HOST_PAGE_BYTES UINT64_C(4096)

/* EGPU_SIM_DATA=0: time and accounting only, for figures with more memory than the machine has. */
static bool data_moves;

__attribute__((constructor)) static void read_data(void) { data_moves = sim_environment("EGPU_SIM_DATA", 1) != 0; }

static uint64_t copy_ns(uint64_t bytes) {
    return (uint64_t)((double)bytes * 1e9 / (double)MEMORY_COPY_BYTES_PER_SECOND);
}

struct copy_side copy_side_unified(uint64_t address, uint64_t pitch, uint64_t slice) {
    memory_enter();
    bool known = addresses_find(address) != NULL;
    memory_leave();
    return (struct copy_side){.address = address, .pitch = pitch, .slice = slice, .of_card = known};
}

/* From the first byte to the last one, over all rows. */
static uint64_t span_of(const struct copy_side *side, const struct copy_work *work) {
    return (work->depth - 1) * side->slice + (work->height - 1) * side->pitch + work->width;
}

static bool side_holds(const struct copy_side *side, uint64_t span) {
    if (side->address == 0)
        return false;
    return !side->of_card || addresses_reach(side->address) >= span;
}

/* Under memory_enter(). */
static bool work_fits(const struct copy_work *work) {
    return side_holds(&work->from, span_of(&work->from, work)) && side_holds(&work->to, span_of(&work->to, work));
}

static bool is_empty(const struct copy_work *work) {
    return work->width == 0 || work->height == 0 || work->depth == 0;
}

static void move_bytes(const struct copy_work *work) {
    bool one_piece = work->from.pitch == work->width && work->to.pitch == work->width && work->depth == 1;
    uint64_t rows = one_piece ? 1 : work->height;
    uint64_t row_bytes = one_piece ? work->width * work->height : work->width;
    for (uint64_t slice = 0; slice < work->depth; slice++)
        for (uint64_t row = 0; row < rows; row++)
            memmove((char *)work->to.address + slice * work->to.slice + row * work->to.pitch,
                    (const char *)work->from.address + slice * work->from.slice + row * work->from.pitch, row_bytes);
}

static void copy_effect(void *argument) {
    const struct copy_work *work = argument;
    memory_enter();
    bool fits = work_fits(work); /* A graph may be launched after its memory was freed. */
    memory_leave();
    if (fits && data_moves)
        move_bytes(work);
}

/* A side in managed memory: what is written goes to where its data are to be, what is read is read where it lies. */
static uint64_t managed_ns(uint64_t address, uint64_t bytes, bool written) {
    struct sim_context *context = sim_context_current();
    struct frames_moved moved = {0, 0};
    memory_enter();
    struct memory_range *range = addresses_find(address);
    if (range != NULL && range->kind == MEMORY_MANAGED && context != NULL && written) {
        uint64_t key;
        const struct managed_page *page = managed_page_at(range, address, &key);
        bool to_card = page->preferred == context->card || page->state != MANAGED_HOST;
        uint64_t room = range->address + range->bytes - address;
        if (to_card)
            moved = managed_move(range, address, bytes < room ? bytes : room, context->card, true);
    }
    memory_leave();
    return managed_transfer_ns(moved.in_bytes + moved.out_bytes);
}

static uint64_t copy_extra_ns(void *argument) {
    const struct copy_work *work = argument;
    return managed_ns(work->to.address, span_of(&work->to, work), true);
}

static struct sim_operation operation_of(const struct copy_work *work) {
    return (struct sim_operation){.kind = SIM_COPY,
                                  .duration_ns = copy_ns(work->width * work->height * work->depth),
                                  .effect = copy_effect,
                                  .extra_ns = copy_extra_ns,
                                  .argument = work,
                                  .argument_bytes = sizeof *work,
                                  .node_type = CU_GRAPH_NODE_TYPE_MEMCPY};
}

CUresult copy_submit(const struct copy_work *work, CUstream stream, enum copy_wait wait) {
    if (is_empty(work))
        return CUDA_SUCCESS;
    memory_enter();
    bool fits = work_fits(work);
    memory_leave();
    if (!fits)
        return CUDA_ERROR_INVALID_VALUE;
    struct sim_operation operation = operation_of(work);
    CUresult result = sim_submit(stream, &operation);
    if (result == CUDA_SUCCESS && wait == COPY_WAIT)
        result = sim_wait_stream(stream);
    return result;
}

static uint64_t fill_span(const struct fill_work *work) {
    return (work->height - 1) * work->pitch + work->width * work->element_bytes;
}

/* Whole pages of zeros are given back instead of written: a cleared card costs the host nothing. */
static bool clear_cheaply(const struct fill_work *work, uint64_t bytes) {
    uint64_t start = memory_round_up(work->address, HOST_PAGE_BYTES);
    uint64_t end = (work->address + bytes) / HOST_PAGE_BYTES * HOST_PAGE_BYTES;
    if (work->value != 0 || end <= start)
        return false;
    memory_enter();
    const struct memory_range *range = addresses_find(work->address);
    /* Of private pages only: others could still hold what a file or another process has in them. */
    bool private_pages = range != NULL && (range->kind == MEMORY_PLAIN || range->kind == MEMORY_MANAGED ||
                                           range->kind == MEMORY_POOL) && !block_shared(&range->block);
    memory_leave();
    if (!private_pages || madvise((void *)start, end - start, MADV_DONTNEED) != 0)
        return false;
    memset((void *)work->address, 0, start - work->address);
    memset((void *)end, 0, work->address + bytes - end);
    return true;
}

static void fill_row(char *row, const struct fill_work *work) {
    if (work->element_bytes == 1)
        memset(row, (int)work->value, work->width);
    for (uint64_t element = 0; work->element_bytes > 1 && element < work->width; element++)
        memcpy(row + element * work->element_bytes, &work->value, work->element_bytes);
}

static void fill_effect(void *argument) {
    const struct fill_work *work = argument;
    memory_enter();
    bool fits = addresses_reach(work->address) >= fill_span(work);
    memory_leave();
    if (!fits || !data_moves)
        return;
    if (work->height == 1 && clear_cheaply(work, work->width * work->element_bytes))
        return;
    for (uint64_t row = 0; row < work->height; row++)
        fill_row((char *)work->address + row * work->pitch, work);
}

static uint64_t fill_extra_ns(void *argument) {
    const struct fill_work *work = argument;
    return managed_ns(work->address, fill_span(work), true);
}

static struct sim_operation fill_operation_of(const struct fill_work *work) {
    return (struct sim_operation){.kind = SIM_SET,
                                  .duration_ns = copy_ns(work->width * work->height * work->element_bytes),
                                  .effect = fill_effect,
                                  .extra_ns = fill_extra_ns,
                                  .argument = work,
                                  .argument_bytes = sizeof *work,
                                  .node_type = CU_GRAPH_NODE_TYPE_MEMSET};
}

static CUresult fill_check(const struct fill_work *work) {
    if (work->address % work->element_bytes != 0)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    bool fits = addresses_reach(work->address) >= fill_span(work);
    memory_leave();
    return fits ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult fill_submit(const struct fill_work *work, CUstream stream) {
    if (work->width == 0 || work->height == 0)
        return CUDA_SUCCESS;
    CUresult result = fill_check(work);
    if (result != CUDA_SUCCESS)
        return result;
    struct sim_operation operation = fill_operation_of(work);
    return sim_submit(stream, &operation);
}
