/* Calls each named function in a child with objects of its own, with zeros in place of all that is not named, and prints
 * "name code" or "name signal N". Who stands between a program and its driver must not fall over what the driver refuses,
 * and the driver refuses every pointer that is not there.
 *
 * A word is NAME, or NAME=KIND,KIND...: what each argument is, "0" or a kind of handle below. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver_calls.h"

#define ARGUMENTS_MAX 16

/* As many as the longest function takes: what it does not take it does not see. */
typedef CUresult any_function(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t,
                              uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t);

typedef CUresult nvml_start(void);

static void *driver;
static uintptr_t arguments[ARGUMENTS_MAX];

/* One live object of each kind; a kind that cannot be made stays 0. */
static struct {
    uintptr_t CUcontext, CUstream, CUevent, CUmodule, CUfunction, CUlibrary, CUkernel, CUgraph, CUgraphNode, CUgraphExec,
        CUarray, CUmipmappedArray, CUdeviceptr, CUmemoryPool, CUuserObject, CUmemGenericAllocationHandle;
} made;

#define CALL(name, ...) ((__typeof__(&name))dlsym(driver, #name))(__VA_ARGS__)
#define OF(kind, type) (type *)&made.kind

static void destroy_nothing(void *data) { (void)data; }

static void make_objects(void)
{
    CUDA_ARRAY3D_DESCRIPTOR shape = {16, 16, 0, CU_AD_FORMAT_UNSIGNED_INT8, 1, 0};
    CUmemAllocationProp place = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUmemPoolProps pool = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};

    CALL(cuCtxGetCurrent, OF(CUcontext, CUcontext));
    CALL(cuStreamCreate, OF(CUstream, CUstream), CU_STREAM_NON_BLOCKING);
    CALL(cuEventCreate, OF(CUevent, CUevent), 0);
    CALL(cuModuleLoadData, OF(CUmodule, CUmodule), "any");
    CALL(cuModuleGetFunction, OF(CUfunction, CUfunction), (CUmodule)made.CUmodule, "any");
    CALL(cuLibraryLoadData, OF(CUlibrary, CUlibrary), "any", NULL, NULL, 0, NULL, NULL, 0);
    CALL(cuLibraryGetKernel, OF(CUkernel, CUkernel), (CUlibrary)made.CUlibrary, "any");
    CALL(cuGraphCreate, OF(CUgraph, CUgraph), 0);
    CALL(cuGraphAddEmptyNode, OF(CUgraphNode, CUgraphNode), (CUgraph)made.CUgraph, NULL, 0);
    CALL(cuGraphInstantiateWithFlags, OF(CUgraphExec, CUgraphExec), (CUgraph)made.CUgraph, 0);
    CALL(cuArray3DCreate_v2, OF(CUarray, CUarray), &shape);
    CALL(cuMipmappedArrayCreate, OF(CUmipmappedArray, CUmipmappedArray), &shape, 2);
    CALL(cuMemAlloc_v2, OF(CUdeviceptr, CUdeviceptr), 4096);
    CALL(cuMemPoolCreate, OF(CUmemoryPool, CUmemoryPool), &pool);
    CALL(cuUserObjectCreate, OF(CUuserObject, CUuserObject), NULL, destroy_nothing, 1, 1);
    CALL(cuMemCreate, OF(CUmemGenericAllocationHandle, CUmemGenericAllocationHandle), 2U << 20, &place, 0);
}

static void choose(char *kinds)
{
#define CHOOSE(kind) if (strcmp(word, #kind) == 0) arguments[place] = made.kind;
    int place = 0;

    for (char *word = strtok(kinds, ","); word != NULL && place < ARGUMENTS_MAX; word = strtok(NULL, ","), place++) {
        CHOOSE(CUcontext) CHOOSE(CUstream) CHOOSE(CUevent) CHOOSE(CUmodule) CHOOSE(CUfunction) CHOOSE(CUlibrary)
        CHOOSE(CUkernel) CHOOSE(CUgraph) CHOOSE(CUgraphNode) CHOOSE(CUgraphExec) CHOOSE(CUarray)
        CHOOSE(CUmipmappedArray) CHOOSE(CUdeviceptr) CHOOSE(CUmemoryPool) CHOOSE(CUuserObject)
        CHOOSE(CUmemGenericAllocationHandle)
    }
}

static void child(void *library, const char *name, char *kinds)
{
    const uintptr_t *a = arguments;
    any_function *function = (any_function *)dlsym(library, name);
    nvml_start *start = (nvml_start *)dlsym(library, "nvmlInit_v2");
    CUcontext context;

    if (CALL(cuInit, 0) != CUDA_SUCCESS || CALL(cuCtxCreate_v2, &context, 0, 0) != CUDA_SUCCESS)
        _exit(3);
    if (start != NULL && start() != CUDA_SUCCESS)
        _exit(4);
    if (kinds != NULL) {
        make_objects();
        choose(kinds);
    }
    if (function == NULL)
        printf("%s absent\n", name);
    else
        printf("%s %d\n", name, (int)function(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11],
                                              a[12], a[13], a[14], a[15]));
    fflush(stdout);
    _exit(0);
}

int main(int count, char **words)
{
    void *library = dlopen(words[1], RTLD_NOW);

    driver = dlopen("libcuda.so.1", RTLD_NOW);
    for (int i = 2; i < count; i++) {
        char *kinds = strchr(words[i], '=');
        int status = 0;

        if (kinds != NULL)
            *kinds++ = '\0';
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0)
            child(library, words[i], kinds);
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 2;
        if (WIFSIGNALED(status))
            printf("%s signal %d\n", words[i], WTERMSIG(status));
        else if (WEXITSTATUS(status) != 0)
            printf("%s exit %d\n", words[i], WEXITSTATUS(status));
    }
    return 0;
}
