/* Takes and gives back memory of all kinds for ever, in an order that follows from the seed: to be killed. With a second
 * argument it moves pages instead. */
#include <time.h>

#include "memory_client.h"

#define HELD 8

struct held {
    int kind;
    CUdeviceptr address;
    CUarray array;
    CUmemGenericAllocationHandle handle;
};

static uint64_t seed;

static unsigned draw(unsigned below) {
    seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(seed >> 33) % below;
}

static CUresult take(struct held *held) {
    CUDA_ARRAY_DESCRIPTOR shape = {.Width = 512 + draw(512), .Height = 512, .Format = 0x20, .NumChannels = 1};
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUresult result;
    held->kind = 1 + (int)draw(6);
    switch (held->kind) {
    case 1:
        return cuMemAlloc_v2(&held->address, 1 + draw(20 * MIB));
    case 2:
        return cuMemAlloc_v2(&held->address, 1 + draw(4096));
    case 3:
        return cuMemAllocAsync(&held->address, 1 + draw(8 * MIB), NULL);
    case 4:
        return cuMemCreate(&held->handle, (1 + draw(8)) * 2 * MIB, &properties, 0);
    case 5:
        return cuArrayCreate_v2(&held->array, &shape);
    default:
        result = cuMemAllocManaged(&held->address, 40 * MIB, CU_MEM_ATTACH_GLOBAL);
        if (result == CUDA_SUCCESS)
            touch(held->address, 40 * MIB, 1, NULL);
        return result;
    }
}

static CUresult give_back(struct held *held) {
    int kind = held->kind;
    held->kind = 0;
    switch (kind) {
    case 0:
        return CUDA_SUCCESS;
    case 3:
        return cuMemFreeAsync(held->address, NULL);
    case 4:
        return cuMemRelease(held->handle);
    case 5:
        return cuArrayDestroy(held->array);
    default:
        return cuMemFree_v2(held->address);
    }
}

/* Pages of all who do this push each other out all the time: a kill falls inside the lists of frames. */
static void move_pages(void) {
    CUdeviceptr address;
    MUST(cuMemAllocManaged(&address, 600 * MIB, CU_MEM_ATTACH_GLOBAL));
    for (;;) {
        touch(address, 600 * MIB, 1, NULL);
        MUST(cuMemPrefetchAsync(address, 100 * MIB, draw(2) ? 0 : CU_DEVICE_CPU, NULL));
    }
}

int main(int argc, char **argv) {
    static struct held held[HELD];
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    begin();
    puts("begun");
    fflush(stdout);
    if (argc > 2)
        move_pages();
    for (;;) {
        struct held *one = &held[draw(HELD)];
        MUST(give_back(one));
        CUresult result = take(one);
        if (result != CUDA_SUCCESS)
            one->kind = 0;
        if (result != CUDA_SUCCESS && result != CUDA_ERROR_OUT_OF_MEMORY)
            MUST(result);
    }
}
