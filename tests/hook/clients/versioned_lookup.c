/* dlvsym on the driver: versioned_lookup VERSION NAME...; prints whose function each is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

int main(int count, char **words)
{
    void *handle = dlopen("libcuda.so.1", RTLD_NOW);
    for (int i = 2; i < count; i++) {
        Dl_info info;
        void *function = dlvsym(handle, words[i], words[1]);
        const char *file = function != NULL && dladdr(function, &info) != 0 ? info.dli_fname : "-";
        const char *slash = strrchr(file, '/');
        printf("%s %s\n", words[i], slash == NULL ? file : slash + 1);
    }
    return 0;
}
