// The dynamic loader's own functions, found without asking dlsym: this library exports a dlsym itself.
#ifndef EGPU_LOADER_H
#define EGPU_LOADER_H

#include <dlfcn.h>
#include <stdbool.h>

struct loader {
    void *(*dlsym)(void *handle, const char *name);
    void *(*dlvsym)(void *handle, const char *name, const char *version);
    void *(*dlmopen)(long space, const char *file, int mode);
};

// Found once, in the symbol tables of the loaded libraries; ends the process with a sentence when the C library
// has no dlsym, because then no program could have been started with this library in front.
const struct loader *loader_get(void);

// Whether a file name is the CUDA driver ("libcuda.so...") or libnvidia-ml, with or without a folder.
bool loader_is_driver(const char *file);

#endif
