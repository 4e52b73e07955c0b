/* Loads a library into a namespace of its own: "loaded" or "refused". */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **words)
{
    void *handle = count > 1 ? dlmopen(LM_ID_NEWLM, words[1], RTLD_NOW) : NULL;
    puts(handle == NULL ? "refused" : "loaded");
    return 0;
}
