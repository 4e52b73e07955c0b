/* Asks for driver functions by one of the ways programs have, and prints for each whose it got: "name file" or "name -".
 *
 *   lookup plt | dlsym | deepbind | default | next | dlvsym | space | handle:FILE | proc:VERSION:FLAGS | self:VERSION:FLAGS
 *          NAME...
 * `self` asks cuGetProcAddress for cuGetProcAddress and goes on with what it got. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "simulated.h"

CUresult cuInit(unsigned int flags);
CUresult cuMemAlloc_v2(CUdeviceptr *address, size_t bytes);
CUresult cuCtxGetApiVersion(CUcontext context, unsigned int *version);
CUresult cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags,
                             CUdriverProcAddressQueryResult *status);

static void print(const char *name, void *function)
{
    Dl_info info;
    if (function == NULL) {
        printf("%s -\n", name);
    } else if (dladdr(function, &info) != 0) {
        const char *slash = strrchr(info.dli_fname, '/');
        printf("%s %s\n", name, slash == NULL ? info.dli_fname : slash + 1);
    }
}

static void *linked(const char *name)
{
    static const struct {
        const char *name;
        void *function;
    } functions[] = {
        {"cuInit", (void *)cuInit},
        {"cuMemAlloc_v2", (void *)cuMemAlloc_v2},
        {"cuCtxGetApiVersion", (void *)cuCtxGetApiVersion},
    };
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (strcmp(functions[i].name, name) == 0)
            return functions[i].function;
    }
    return NULL;
}

typedef CUresult resolver(const char *, void **, int, uint64_t, CUdriverProcAddressQueryResult *);

static void resolve(const char *how, char **names)
{
    int version = 0;
    unsigned long flags = 0;
    CUdriverProcAddressQueryResult status = 9;
    resolver *ask = cuGetProcAddress_v2;
    if (sscanf(strchr(how, ':'), ":%d:%lu", &version, &flags) != 2)
        exit(2);
    if (strncmp(how, "self", 4) == 0 && ask("cuGetProcAddress", (void **)&ask, 12000, 0, &status) != CUDA_SUCCESS)
        exit(3);
    for (; *names != NULL; names++) {
        void *function = NULL;
        CUresult result = ask(*names, &function, version, flags, &status);
        if (result == CUDA_SUCCESS)
            print(*names, function);
        else
            printf("%s %d %u\n", *names, (int)result, status);
    }
}

int main(int count, char **words)
{
    if (count < 3)
        return 2;
    const char *how = words[1];
    if (strncmp(how, "proc:", 5) == 0 || strncmp(how, "self:", 5) == 0) {
        resolve(how, words + 2);
        return 0;
    }
    void *handle = RTLD_DEFAULT;
    if (strcmp(how, "space") == 0)
        handle = dlmopen(LM_ID_NEWLM, "libcuda.so.1", RTLD_NOW);
    else if (strcmp(how, "next") == 0)
        handle = RTLD_NEXT;
    else if (strncmp(how, "handle:", 7) == 0)
        handle = dlopen(how + 7, RTLD_NOW);
    else if (strcmp(how, "default") != 0)
        handle = dlopen("libcuda.so.1", RTLD_NOW | (strcmp(how, "deepbind") == 0 ? RTLD_DEEPBIND : 0));
    for (char **name = words + 2; *name != NULL; name++) {
        if (strcmp(how, "plt") == 0)
            print(*name, linked(*name));
        else if (strcmp(how, "dlvsym") == 0)
            print(*name, dlvsym(handle, *name, "ANY"));
        else
            print(*name, dlsym(handle, *name));
    }
    return 0;
}
