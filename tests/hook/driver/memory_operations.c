/* Memory operations of streams: a stream writes a word of memory, or waits until it has a value. On the driver's thread, at
 * the time of the stream, like host functions; no card time. */
#include <stdlib.h>
#include <string.h>

#include "graphs.h"
#include "memory.h"
#include "simulated.h"

enum { WAIT_32 = 1, WRITE_32 = 2, FLUSH = 3, WAIT_64 = 4, WRITE_64 = 5, BARRIER = 6 };
enum { WAIT_GREATER_OR_EQUAL = 0, WAIT_EQUAL = 1, WAIT_AND = 2, WAIT_NOR = 3, WAIT_MODES = 3 };
#define OPERATIONS_MAX 256
#define WRITE_FLAGS 1U /* no barrier before it, which changes nothing here */

/* One wait or write. */
struct value {
    unsigned type;
    unsigned mode;
    uint64_t address;
    uint64_t value;
};

static bool is_64(unsigned type)
{
    return type == WAIT_64 || type == WRITE_64;
}

static bool is_wait(unsigned type)
{
    return type == WAIT_32 || type == WAIT_64;
}

/* Under memory_enter(): the word may have been freed since, and then nothing is waited for. */
static bool reachable(const struct value *value)
{
    uint64_t bytes = is_64(value->type) ? sizeof(uint64_t) : sizeof(uint32_t);

    return value->address % bytes == 0 && addresses_reach(value->address) >= bytes;
}

static uint64_t read_word(const struct value *value)
{
    const void *word = (const void *)(uintptr_t)value->address;

    return is_64(value->type) ? __atomic_load_n((const uint64_t *)word, __ATOMIC_ACQUIRE)
                              : __atomic_load_n((const uint32_t *)word, __ATOMIC_ACQUIRE);
}

static void write_word(const struct value *value)
{
    void *word = (void *)(uintptr_t)value->address;

    if (is_64(value->type))
        __atomic_store_n((uint64_t *)word, value->value, __ATOMIC_RELEASE);
    else
        __atomic_store_n((uint32_t *)word, (uint32_t)value->value, __ATOMIC_RELEASE);
}

/* "Greater" is cyclic: a counter may run over. */
static bool holds(const struct value *value)
{
    uint64_t word = read_word(value);

    switch (value->mode) {
    case WAIT_EQUAL:
        return word == value->value;
    case WAIT_AND:
        return (word & value->value) != 0;
    case WAIT_NOR:
        return is_64(value->type) ? ~(word | value->value) != 0 : (uint32_t) ~(word | value->value) != 0;
    default:
        return is_64(value->type) ? (int64_t)(word - value->value) >= 0 : (int32_t)(word - value->value) >= 0;
    }
}

/* With memory entered. */
static bool happen(void *argument)
{
    const struct value *value = argument;
    bool known = reachable(value);

    if (known && !is_wait(value->type))
        write_word(value);
    return !known || !is_wait(value->type) || holds(value);
}

static struct value value_of(const CUstreamBatchMemOpParams *operation)
{
    struct value value = {operation->operation, operation->waitValue.flags & WAIT_MODES, operation->waitValue.address,
                          operation->waitValue.value64};

    if (!is_64(value.type))
        value.value = (uint32_t)value.value;
    return value;
}

static CUresult check(const CUstreamBatchMemOpParams *operation)
{
    struct value value = value_of(operation);
    bool known;

    if (value.type == FLUSH)
        return CUDA_ERROR_NOT_SUPPORTED; /* as the card says: it cannot flush what others wrote to it */
    if (value.type == BARRIER)
        return operation->memoryBarrier.flags <= 1 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
    if (value.type == 0 || value.type > BARRIER)
        return CUDA_ERROR_INVALID_VALUE;
    if ((operation->waitValue.flags & ~(unsigned)(is_wait(value.type) ? WAIT_MODES : WRITE_FLAGS)) != 0)
        return CUDA_ERROR_INVALID_VALUE;
    memory_enter();
    known = reachable(&value);
    memory_leave();
    return known ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

static CUresult submit(struct sim_stream *stream, const CUstreamBatchMemOpParams *operations, size_t count)
{
    CUresult result = CUDA_SUCCESS;

    for (size_t index = 0; index < count && result == CUDA_SUCCESS; index++) {
        struct value value = value_of(&operations[index]);

        if (value.type != BARRIER)
            result = sim_host_submit_condition(stream, happen, &value, sizeof(value));
    }
    return result;
}

CUresult sim_memory_operations_launch(struct sim_stream *stream, const struct CUgraphNode_st *node)
{
    return submit(stream, node->operation.argument, node->operation.argument_bytes / sizeof(CUstreamBatchMemOpParams));
}

CUresult sim_cuStreamBatchMemOp_v2(CUstream handle, unsigned int count, CUstreamBatchMemOpParams *operations,
                                   unsigned int flags)
{
    struct sim_stream *stream;
    CUresult result = sim_answer(sim_enter(SIM_CALL_LAUNCH), operations);

    if (result == CUDA_SUCCESS)
        result = sim_stream_of(handle, &stream);
    if (result != CUDA_SUCCESS)
        return result;
    if (count == 0 || count > OPERATIONS_MAX || flags != 0)
        return CUDA_ERROR_INVALID_VALUE;
    for (unsigned index = 0; index < count && result == CUDA_SUCCESS; index++)
        result = check(&operations[index]);
    if (result == CUDA_SUCCESS && sim_capture_active(stream)) {
        size_t bytes = count * sizeof(*operations);
        struct sim_operation operation = {.kind = SIM_HOST, .argument = operations, .argument_bytes = bytes,
                                          .node_type = CU_GRAPH_NODE_TYPE_BATCH_MEM_OP};

        return sim_capture_add(stream, &operation);
    }
    if (result == CUDA_SUCCESS && stream == stream->context->legacy)
        result = sim_capture_implicit(stream);
    return result == CUDA_SUCCESS ? submit(stream, operations, count) : result;
}

CUresult sim_cuStreamBatchMemOp(CUstream stream, unsigned int count, CUstreamBatchMemOpParams *operations,
                                unsigned int flags)
{
    return sim_cuStreamBatchMemOp_v2(stream, count, operations, flags);
}

static CUresult one(CUstream stream, unsigned type, CUdeviceptr address, uint64_t value, unsigned int flags)
{
    CUstreamBatchMemOpParams operation = {.waitValue = {type, address, value, flags, 0}};

    return sim_cuStreamBatchMemOp_v2(stream, 1, &operation, 0);
}

#define FORMS(name, type, bits)                                                                                       \
    CUresult sim_##name##_v2(CUstream stream, CUdeviceptr address, uint##bits##_t value, unsigned int flags)          \
    {                                                                                                                 \
        return one(stream, type, address, value, flags);                                                              \
    }                                                                                                                 \
    CUresult sim_##name(CUstream stream, CUdeviceptr address, uint##bits##_t value, unsigned int flags)               \
    {                                                                                                                 \
        return one(stream, type, address, value, flags);                                                              \
    }

FORMS(cuStreamWaitValue32, WAIT_32, 32)
FORMS(cuStreamWaitValue64, WAIT_64, 64)
FORMS(cuStreamWriteValue32, WRITE_32, 32)
FORMS(cuStreamWriteValue64, WRITE_64, 64)
