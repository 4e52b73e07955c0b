/* Does what its arguments say with device memory, one line of answer for each:
 *
 *   alloc:B pitch:W:H managed:B async:B pool:B vmm:B array:W:H array3d:W:H:D mipmap:W:H:L
 *   format:F:W:H     an array of that format
 *   host:B hostalloc:B register:B              page-locked
 *   free:K           frees the K-th allocation (from 0), in the way that fits
 *   until:B          cuMemAlloc of B bytes until it is refused: how many, and with what code
 *   threads:N:B      N threads allocate B bytes and free them, again and again
 *   export:K         prints the name under which another process opens the K-th allocation
 *   open:NAME close  opens one of another process, closes it
 *   churn:B          allocates and frees until it is killed
 *   pointer:K        attributes and sharing of the K-th allocation
 *   info total       cuMemGetInfo, cuDeviceTotalMem
 *   halves           cuMemGetInfo with a NULL for each of the two
 *   device:N         what follows is done on device N
 *   context destroy retain release leave reset    of the device; leave is release as of CUDA 7
 *   shared:B share:K take:PID:FILE          memory that other processes can have: makes it, names it, takes another's
 *   threshold:B trim:B                      of the pool that `pool` uses
 *   heap:B module unload
 *   wait             prints a point, goes on at the next line of stdin
 *   again            exec of the same program with the arguments that follow
 *   fork             a child does the rest, the parent waits for it
 *   sync             cuCtxSynchronize
 *   spin:MS          kernels of 1 ms, one after the other, for so long
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver_calls.h"

enum { ALLOCATIONS_MAX = 4096 };

struct allocation {
    char kind;
    unsigned long long handle;
    CUdeviceptr address;
    size_t bytes;
};

static struct allocation allocations[ALLOCATIONS_MAX];
static unsigned allocation_count;
static CUcontext context;
static CUmemoryPool pool;
static CUmodule module;
static CUdevice device;

static void say(const char *what, CUresult result) { printf("%s %d\n", what, result); }

static void keep(const char *what, CUresult result, struct allocation allocation) {
    say(what, result);
    if (result == CUDA_SUCCESS && allocation_count < ALLOCATIONS_MAX) allocations[allocation_count++] = allocation;
}

static CUmemoryPool own_pool(void) {
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
    if (pool == NULL && cuMemPoolCreate(&pool, &properties) != CUDA_SUCCESS) pool = NULL;
    return pool;
}

static CUresult create_mapped(struct allocation *made, size_t bytes) {
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
    CUresult result = cuMemCreate(&made->handle, bytes, &properties, 0);
    if (result != CUDA_SUCCESS) return result;
    result = cuMemAddressReserve(&made->address, bytes, 0, 0, 0);
    if (result != CUDA_SUCCESS) return result;
    result = cuMemMap(made->address, bytes, 0, made->handle, 0);
    if (result != CUDA_SUCCESS) return result;
    /* Released while mapped: the memory stays until it is unmapped. */
    return cuMemRelease(made->handle);
}

static CUresult give(const struct allocation *allocation) {
    CUresult result;
    switch (allocation->kind) {
    case 's':
        return cuMemFreeAsync(allocation->address, NULL);
    case 'v':
        result = cuMemUnmap(allocation->address, allocation->bytes);
        return result != CUDA_SUCCESS ? result : cuMemAddressFree(allocation->address, allocation->bytes);
    case 'p':
        return cuMemRelease(allocation->handle);
    case 'h':
        return cuMemFreeHost((void *)(uintptr_t)allocation->address);
    case 'r':
        return cuMemHostUnregister((void *)(uintptr_t)allocation->address);
    case 'a':
        return cuArrayDestroy((CUarray)(uintptr_t)allocation->handle);
    case 'm':
        return cuMipmappedArrayDestroy((CUmipmappedArray)(uintptr_t)allocation->handle);
    default:
        return cuMemFree_v2(allocation->address);
    }
}

static void until(size_t bytes) {
    CUdeviceptr address;
    unsigned count = 0;
    CUresult result;
    while ((result = cuMemAlloc_v2(&address, bytes)) == CUDA_SUCCESS) {
        count++;
        if (allocation_count < ALLOCATIONS_MAX)
            allocations[allocation_count++] = (struct allocation){'d', 0, address, bytes};
    }
    printf("until %u %d\n", count, result);
}

/* Never ends by itself: somebody kills it. */
static void churn(size_t bytes) {
    CUdeviceptr held[64];
    unsigned count = 0;
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* who was to kill it may be gone first */
    for (;;) {
        if (count < 64 && cuMemAlloc_v2(&held[count], bytes) == CUDA_SUCCESS) count++;
        else
            while (count > 0) cuMemFree_v2(held[--count]);
    }
}

enum { THREADS_MAX = 16, THREAD_ROUNDS = 2000 };

/* Refused now and then, for there is not room for all; never anything else. */
static void *allocate_and_free(void *argument) {
    size_t bytes = *(size_t *)argument;
    CUresult result = cuCtxSetCurrent(context);
    for (int round = 0; round < THREAD_ROUNDS && result == CUDA_SUCCESS; round++) {
        CUdeviceptr address;
        result = cuMemAlloc_v2(&address, bytes);
        if (result == CUDA_SUCCESS) result = cuMemFree_v2(address);
        else if (result == CUDA_ERROR_OUT_OF_MEMORY) result = CUDA_SUCCESS;
    }
    return result == CUDA_SUCCESS ? NULL : argument;
}

static void threads(size_t count, size_t bytes) {
    pthread_t running[THREADS_MAX];
    unsigned failed = 0;
    if (count > THREADS_MAX) count = THREADS_MAX;
    for (size_t index = 0; index < count; index++) pthread_create(&running[index], NULL, allocate_and_free, &bytes);
    for (size_t index = 0; index < count; index++) {
        void *wrong;
        pthread_join(running[index], &wrong);
        failed += wrong != NULL;
    }
    printf("threads %u\n", failed);
}

static void export_allocation(size_t index) {
    CUipcMemHandle handle = {{0}};
    CUresult result = index < allocation_count ? cuIpcGetMemHandle(&handle, allocations[index].address)
                                               : CUDA_ERROR_INVALID_VALUE;
    printf("export %d ", result);
    for (size_t byte = 0; byte < sizeof handle.reserved; byte++) printf("%02x", (unsigned char)handle.reserved[byte]);
    printf("\n");
}

static CUresult open_allocation(const char *name, CUdeviceptr *address) {
    CUipcMemHandle handle = {{0}};
    for (size_t byte = 0; byte < sizeof handle.reserved; byte++) {
        unsigned value;
        if (sscanf(name + 2 * byte, "%2x", &value) != 1) return CUDA_ERROR_UNKNOWN;
        handle.reserved[byte] = (char)value;
    }
    return cuIpcOpenMemHandle_v2(address, handle, 1);
}

static void make_shared(const char *name, size_t bytes) {
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};
    struct allocation made = {'p', 0, 0, bytes};
    CUresult result = cuMemCreate(&made.handle, bytes, &properties, 0);
    keep(name, result, made);
}

static void share(size_t index) {
    int file = -1;
    CUresult result = CUDA_ERROR_INVALID_VALUE;
    if (index < allocation_count)
        result = cuMemExportToShareableHandle(&file, allocations[index].handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
    printf("share %d %d:%d\n", result, (int)getpid(), file);
}

static void take(const char *name, size_t pid, size_t number) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%zu/fd/%zu", pid, number);
    int file = open(path, O_RDWR);
    struct allocation taken = {.kind = 'p'};
    CUresult result = cuMemImportFromShareableHandle(&taken.handle, (void *)(intptr_t)file,
                                                     CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR);
    close(file);
    keep(name, result, taken);
}

static bool between_processes(const char *name, const char *word, size_t a, size_t b) {
    static CUdeviceptr opened;
    if (strcmp(name, "shared") == 0) make_shared(name, a);
    else if (strcmp(name, "share") == 0) share(a);
    else if (strcmp(name, "take") == 0) take(name, a, b);
    else if (strcmp(name, "threads") == 0) threads(a, b);
    else if (strcmp(name, "export") == 0) export_allocation(a);
    else if (strcmp(name, "open") == 0) say(name, open_allocation(strchr(word, ':') + 1, &opened));
    else if (strcmp(name, "close") == 0) say(name, cuIpcCloseMemHandle(opened));
    else
        return false;
    return true;
}

static void spin(size_t milliseconds) {
    CUfunction function;
    unsigned microseconds = 1000;
    void *parameters[] = {&microseconds};
    CUresult result = cuModuleLoadData(&module, "image");
    if (result == CUDA_SUCCESS) result = cuModuleGetFunction(&function, module, "egpu_spin_us");
    for (size_t launch = 0; launch < milliseconds && result == CUDA_SUCCESS; launch++) {
        result = cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, NULL, parameters, NULL);
        if (result == CUDA_SUCCESS && launch % 8 == 7) result = cuCtxSynchronize();
    }
    say("spin", result);
}

static void information(void) {
    size_t unused = 0, total = 0;
    CUresult result = cuMemGetInfo_v2(&unused, &total);
    printf("info %d %zu %zu\n", result, unused, total);
}

/* What is said about memory: attributes one by one and together, whether it takes advice, whether others may have it. */
static void pointer(size_t index) {
    CUpointer_attribute asked[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                   CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
    unsigned one[3] = {0}, all[3] = {0};
    CUdeviceptr address = index < allocation_count ? allocations[index].address : 0;
    CUipcMemHandle handle;
    for (int each = 0; each < 3; each++) cuPointerGetAttribute(&one[each], asked[each], address);
    CUresult result = cuPointerGetAttributes(3, asked, (void *[]){&all[0], &all[1], &all[2]}, address);
    printf("pointer %u %u %u %d %u %u %u ", one[0], one[1], one[2], result, all[0], all[1], all[2]);
    printf("advise %d ", cuMemAdvise(address, allocations[index].bytes, CU_MEM_ADVISE_SET_READ_MOSTLY, device));
    printf("handle %d\n", cuIpcGetMemHandle(&handle, address));
}

static void halves(void) {
    size_t unused = 0, total = 0;
    CUresult first = cuMemGetInfo_v2(&unused, NULL), second = cuMemGetInfo_v2(NULL, &total);
    printf("halves %d %zu %d %zu\n", first, unused, second, total);
}

static void total(void) {
    size_t bytes = 0;
    CUresult result = cuDeviceTotalMem_v2(&bytes, device);
    printf("total %d %zu\n", result, bytes);
}

static bool allocate(const char *name, size_t a, size_t b, size_t c) {
    struct allocation made = {.bytes = a};
    if (strcmp(name, "alloc") == 0) {
        made.kind = 'd';
        keep(name, cuMemAlloc_v2(&made.address, a), made);
    } else if (strcmp(name, "pitch") == 0) {
        size_t pitch = 0;
        made.kind = 'd';
        CUresult result = cuMemAllocPitch_v2(&made.address, &pitch, a, b, 4);
        keep(name, result, made);
    } else if (strcmp(name, "managed") == 0) {
        made.kind = 'd';
        CUresult result = cuMemAllocManaged(&made.address, a, CU_MEM_ATTACH_GLOBAL);
        keep(name, result, made);
    } else if (strcmp(name, "async") == 0) {
        made.kind = 's';
        CUresult result = cuMemAllocAsync(&made.address, a, NULL);
        keep(name, result, made);
    } else if (strcmp(name, "pool") == 0) {
        made.kind = 's';
        CUresult result = cuMemAllocFromPoolAsync(&made.address, a, own_pool(), NULL);
        keep(name, result, made);
    } else if (strcmp(name, "vmm") == 0) {
        made.kind = 'v';
        CUresult result = create_mapped(&made, a);
        keep(name, result, made);
    } else if (strcmp(name, "array") == 0) {
        CUDA_ARRAY_DESCRIPTOR d = {a, b, CU_AD_FORMAT_FLOAT, 1};
        CUarray array = NULL;
        CUresult result = cuArrayCreate_v2(&array, &d);
        keep(name, result, (struct allocation){'a', (uintptr_t)array, 0, 0});
    } else if (strcmp(name, "format") == 0) {
        CUDA_ARRAY_DESCRIPTOR d = {b, c, (CUarray_format)a, 4};
        CUarray array = NULL;
        CUresult result = cuArrayCreate_v2(&array, &d);
        keep(name, result, (struct allocation){'a', (uintptr_t)array, 0, 0});
    } else if (strcmp(name, "array3d") == 0) {
        CUDA_ARRAY3D_DESCRIPTOR d = {a, b, c, CU_AD_FORMAT_FLOAT, 1, 0};
        CUarray array = NULL;
        CUresult result = cuArray3DCreate_v2(&array, &d);
        keep(name, result, (struct allocation){'a', (uintptr_t)array, 0, 0});
    } else if (strcmp(name, "mipmap") == 0) {
        CUDA_ARRAY3D_DESCRIPTOR d = {a, b, 0, CU_AD_FORMAT_FLOAT, 1, 0};
        CUmipmappedArray array = NULL;
        CUresult result = cuMipmappedArrayCreate(&array, &d, (unsigned)c);
        keep(name, result, (struct allocation){'m', (uintptr_t)array, 0, 0});
    } else
        return false;
    return true;
}

static bool allocate_host(const char *name, size_t bytes) {
    void *address = NULL;
    char kind = 'h';
    CUresult result;
    if (strcmp(name, "host") == 0) result = cuMemAllocHost_v2(&address, bytes);
    else if (strcmp(name, "hostalloc") == 0) result = cuMemHostAlloc(&address, bytes, 0);
    else if (strcmp(name, "register") == 0) {
        kind = 'r';
        if (posix_memalign(&address, 4096, bytes) != 0) abort();
        result = cuMemHostRegister_v2(address, bytes, 0);
    } else
        return false;
    keep(name, result, (struct allocation){kind, 0, (uintptr_t)address, bytes});
    return true;
}

static bool settings(const char *name, size_t a) {
    if (strcmp(name, "device") == 0) device = (CUdevice)a;
    else if (strcmp(name, "context") == 0) say(name, cuCtxCreate_v2(&context, 0, device));
    else if (strcmp(name, "destroy") == 0) say(name, cuCtxDestroy_v2(context));
    else if (strcmp(name, "retain") == 0) {
        say(name, cuDevicePrimaryCtxRetain(&context, device));
        cuCtxSetCurrent(context);
    } else if (strcmp(name, "release") == 0) say(name, cuDevicePrimaryCtxRelease_v2(device));
    else if (strcmp(name, "leave") == 0) say(name, cuDevicePrimaryCtxRelease(device));
    else if (strcmp(name, "reset") == 0) say(name, cuDevicePrimaryCtxReset_v2(device));
    else if (strcmp(name, "threshold") == 0) {
        uint64_t bytes = a;
        say(name, cuMemPoolSetAttribute(own_pool(), CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &bytes));
    } else if (strcmp(name, "trim") == 0) say(name, cuMemPoolTrimTo(own_pool(), a));
    else if (strcmp(name, "heap") == 0) say(name, cuCtxSetLimit(CU_LIMIT_MALLOC_HEAP_SIZE, a));
    else if (strcmp(name, "module") == 0) say(name, cuModuleLoadData(&module, "image"));
    else if (strcmp(name, "unload") == 0) say(name, cuModuleUnload(module));
    else if (strcmp(name, "sync") == 0) say(name, cuCtxSynchronize());
    else if (strcmp(name, "free") == 0) say(name, a < allocation_count ? give(&allocations[a]) : CUDA_ERROR_UNKNOWN);
    else
        return false;
    return true;
}

static void next_line(void) {
    int byte;
    printf(".\n");
    fflush(stdout);
    while ((byte = getchar()) != '\n' && byte != EOF) {
    }
}

int main(int count, char **words) {
    /* Answers are read while it waits. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (count > 1 && strcmp(words[1], "fork") != 0) say("init", cuInit(0));
    for (int index = 1; index < count; index++) {
        char name[32] = "";
        size_t a = 0, b = 0, c = 0;
        sscanf(words[index], "%31[^:]:%zu:%zu:%zu", name, &a, &b, &c);
        if (allocate(name, a, b, c) || allocate_host(name, a) || settings(name, a)) continue;
        if (between_processes(name, words[index], a, b)) continue;
        if (strcmp(name, "until") == 0) until(a);
        else if (strcmp(name, "churn") == 0) churn(a);
        else if (strcmp(name, "spin") == 0) spin(a);
        else if (strcmp(name, "info") == 0) information();
        else if (strcmp(name, "halves") == 0) halves();
        else if (strcmp(name, "pointer") == 0) pointer(a);
        else if (strcmp(name, "total") == 0) total();
        else if (strcmp(name, "wait") == 0) next_line();
        else if (strcmp(name, "again") == 0) {
            words[index] = words[0];
            execv("/proc/self/exe", words + index);
            return 3;
        } else if (strcmp(name, "fork") == 0) {
            pid_t child = fork();
            if (child != 0) return waitpid(child, NULL, 0) == child ? 0 : 4;
            say("init", cuInit(0));
        } else
            return 2;
    }
    return 0;
}
