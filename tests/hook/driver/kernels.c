/* Kernels that the simulated card knows by name; they take the time they declare. */
#include <string.h>

#include "functions.h"

#define NS_PER_US 1000U
#define UNKNOWN_KERNEL_NS_DEFAULT 10000
/* What a kernel moves through device memory in a second, for those that declare bytes and no time. */
#define KERNEL_BYTES_PER_SECOND (UINT64_C(1) << 40)
#define NS_PER_SECOND 1000000000.0

struct spin { uint32_t us; };
struct touch { uint64_t pointer; uint64_t bytes; uint32_t us; };
struct fill { uint64_t pointer; uint64_t count; uint32_t value; };
struct vadd { uint64_t sum; uint64_t one; uint64_t other; uint32_t count; };

uint64_t __attribute__((weak)) sim_touch_managed(struct sim_context *context, CUdeviceptr pointer, uint64_t bytes)
{
    (void)context;
    (void)pointer;
    (void)bytes;
    return 0;
}

static uint64_t moving_ns(uint64_t bytes)
{
    return (uint64_t)((double)bytes * NS_PER_SECOND / (double)KERNEL_BYTES_PER_SECOND) + NS_PER_US;
}

static uint64_t spin_ns(const void *packed)
{
    const struct spin *spin = packed;

    return (uint64_t)spin->us * NS_PER_US;
}

static uint64_t touch_ns(const void *packed)
{
    const struct touch *touch = packed;

    return (uint64_t)touch->us * NS_PER_US;
}

static uint64_t touch_extra_ns(void *argument)
{
    const struct sim_launch *launch = argument;
    const struct touch *touch = (const void *)launch->packed;

    return sim_touch_managed(launch->context, touch->pointer, touch->bytes);
}

static uint64_t fill_ns(const void *packed)
{
    const struct fill *fill = packed;

    return moving_ns(fill->count * sizeof(uint32_t));
}

static uint64_t fill_extra_ns(void *argument)
{
    const struct sim_launch *launch = argument;
    const struct fill *fill = (const void *)launch->packed;

    return sim_touch_managed(launch->context, fill->pointer, fill->count * sizeof(uint32_t));
}

static void fill_effect(void *argument)
{
    const struct sim_launch *launch = argument;
    const struct fill *fill = (const void *)launch->packed;
    uint32_t *words = (uint32_t *)(uintptr_t)fill->pointer;

    for (uint64_t index = 0; index < fill->count; index++)
        words[index] = fill->value;
}

static uint64_t vadd_ns(const void *packed)
{
    const struct vadd *vadd = packed;

    return moving_ns(3 * sizeof(float) * (uint64_t)vadd->count);
}

static uint64_t vadd_extra_ns(void *argument)
{
    const struct sim_launch *launch = argument;
    const struct vadd *vadd = (const void *)launch->packed;
    uint64_t bytes = (uint64_t)vadd->count * sizeof(float);

    return sim_touch_managed(launch->context, vadd->sum, bytes) + sim_touch_managed(launch->context, vadd->one, bytes)
        + sim_touch_managed(launch->context, vadd->other, bytes);
}

static void vadd_effect(void *argument)
{
    const struct sim_launch *launch = argument;
    const struct vadd *vadd = (const void *)launch->packed;
    float *sum = (float *)(uintptr_t)vadd->sum;
    const float *one = (const float *)(uintptr_t)vadd->one;
    const float *other = (const float *)(uintptr_t)vadd->other;

    for (uint32_t index = 0; index < vadd->count; index++)
        sum[index] = one[index] + other[index];
}

/* egpu_spin_us(u32 us); egpu_touch(ptr, u64 bytes, u32 us); egpu_fill(u32 *ptr, u64 count, u32 value);
 * egpu_vadd(float *sum, const float *one, const float *other, u32 count) */
static const struct sim_kernel kernels[] = {
    {"egpu_spin_us", {4}, spin_ns, NULL, NULL},
    {"egpu_touch", {8, 8, 4}, touch_ns, touch_extra_ns, NULL},
    {"egpu_fill", {8, 8, 4}, fill_ns, fill_extra_ns, fill_effect},
    {"egpu_vadd", {8, 8, 8, 4}, vadd_ns, vadd_extra_ns, vadd_effect},
};

const struct sim_kernel *sim_kernel_find(const char *name)
{
    for (size_t index = 0; index < sizeof(kernels) / sizeof(kernels[0]); index++)
        if (strstr(name, kernels[index].name) != NULL)
            return &kernels[index];
    return NULL;
}

static uint64_t jittered(uint64_t duration_ns)
{
    static uint64_t read = SIM_NEVER;
    static uint64_t counter;
    uint64_t thousandths = __atomic_load_n(&read, __ATOMIC_RELAXED);
    uint64_t mixed;

    if (thousandths == SIM_NEVER) {
        thousandths = sim_environment("EGPU_SIM_JITTER", 0);
        __atomic_store_n(&read, thousandths, __ATOMIC_RELAXED);
    }
    if (thousandths == 0)
        return duration_ns;
    mixed = (sim_state()->seed + sim_process()->rank * 0x100000001b3U +
             __atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED)) * UINT64_C(0x9e3779b97f4a7c15);
    mixed ^= mixed >> 29;
    mixed *= UINT64_C(0xbf58476d1ce4e5b9);
    mixed ^= mixed >> 32;
    return duration_ns - duration_ns * thousandths / 1000 + mixed % (2 * duration_ns * thousandths / 1000 + 1);
}

uint64_t sim_kernel_duration_ns(const struct sim_launch *launch)
{
    const struct sim_kernel *kernel = launch->function->kernel;

    if (kernel != NULL)
        return jittered(kernel->duration_ns(launch->packed));
    __atomic_add_fetch(&sim_share(launch->context->card)->unknown_kernels, 1, __ATOMIC_RELAXED);
    return sim_environment("EGPU_SIM_UNKNOWN_KERNEL_NS", UNKNOWN_KERNEL_NS_DEFAULT);
}

static void pack_extra(struct sim_launch *launch, void **extra)
{
    const void *buffer = NULL;
    size_t bytes = 0;

    for (size_t index = 0; extra[index] != CU_LAUNCH_PARAM_END; index += 2) {
        if (extra[index] == CU_LAUNCH_PARAM_BUFFER_POINTER)
            buffer = extra[index + 1];
        else if (extra[index] == CU_LAUNCH_PARAM_BUFFER_SIZE)
            bytes = *(const size_t *)extra[index + 1];
    }
    if (buffer != NULL)
        memcpy(launch->packed, buffer, bytes < sizeof(launch->packed) ? bytes : sizeof(launch->packed));
}

CUresult sim_kernel_pack(struct sim_launch *launch, void **parameters, void **extra)
{
    const struct sim_kernel *kernel = launch->function->kernel;
    size_t offset = 0;

    if (parameters != NULL && extra != NULL)
        return CUDA_ERROR_INVALID_VALUE;
    if (extra != NULL)
        pack_extra(launch, extra);
    if (kernel == NULL || extra != NULL)
        return CUDA_SUCCESS;
    if (parameters == NULL)
        return CUDA_ERROR_INVALID_VALUE;
    for (int index = 0; index < SIM_PARAMETERS_MAX && kernel->parameters[index] != 0; index++) {
        size_t bytes = kernel->parameters[index];

        if (parameters[index] == NULL)
            return CUDA_ERROR_INVALID_VALUE;
        offset = (offset + bytes - 1) / bytes * bytes;
        memcpy(launch->packed + offset, parameters[index], bytes);
        offset += bytes;
    }
    return CUDA_SUCCESS;
}
