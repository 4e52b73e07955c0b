/* A second preloaded library that, as many do, finds the function it stands in for with RTLD_NEXT. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <unistd.h>

pid_t getppid(void)
{
    static int depth;
    pid_t (*next)(void) = (pid_t (*)(void))dlsym(RTLD_NEXT, "getppid");
    if (depth++ > 0)
        return -1; /* It was given itself. */
    return next() + 0;
}
