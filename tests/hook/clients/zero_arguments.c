/* Calls each named function with nothing but zeros, in a child with a context of its own, and prints "name code" or
 * "name signal N". Who stands between a program and its driver must not fall over what the driver refuses. */
#include <stdint.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "driver.h"

/* As many as the longest function takes: what it does not take it does not see. */
typedef CUresult all_zeros(uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t,
                           uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t, uintptr_t);

static void child(const char *file, const char *name)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW), *library = dlopen(file, RTLD_NOW);
    CUresult (*init)(unsigned int) = (CUresult(*)(unsigned int))dlsym(driver, "cuInit");
    CUresult (*create)(CUcontext *, unsigned int, CUdevice) =
        (CUresult(*)(CUcontext *, unsigned int, CUdevice))dlsym(driver, "cuCtxCreate_v2");
    all_zeros *function = (all_zeros *)dlsym(library, name);
    CUcontext context;
    CUresult (*start)(void) = (CUresult(*)(void))dlsym(library, "nvmlInit_v2");
    if (init(0) != CUDA_SUCCESS || create(&context, 0, 0) != CUDA_SUCCESS || (start != NULL && start() != CUDA_SUCCESS))
        _exit(3);
    if (function == NULL)
        printf("%s absent\n", name);
    else
        printf("%s %d\n", name, (int)function(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0));
    fflush(stdout);
    _exit(0);
}

int main(int count, char **words)
{
    for (int i = 2; i < count; i++) {
        int status = 0;
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0)
            child(words[1], words[i]);
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 2;
        if (WIFSIGNALED(status))
            printf("%s signal %d\n", words[i], WTERMSIG(status));
        else if (WEXITSTATUS(status) != 0)
            printf("%s exit %d\n", words[i], WEXITSTATUS(status));
    }
    return 0;
}
