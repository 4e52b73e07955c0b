/* Looks up names in the library given, before and after cuInit, and waits to be killed. */
#include <dlfcn.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char **words)
{
    void *other = count > 1 ? dlopen(words[1], RTLD_NOW) : NULL;
    void *driver = dlopen("libcuda.so.1", RTLD_NOW);
    if (other == NULL || driver == NULL || dlsym(other, "cuTomorrow") == NULL)
        return 2;
    int (*init)(unsigned int) = (int (*)(unsigned int))dlsym(driver, "cuInit");
    if (init(0) != 0 || dlsym(other, "cuTomorrow") == NULL || dlsym(other, "cublasCreate_v2") == NULL)
        return 3;
    puts("asked");
    fflush(stdout);
    pause();
    return 0;
}
