// dlsym, dlvsym and dlmopen as the application calls them.
//
// RTLD_NEXT and RTLD_DEFAULT, and the namespace of a dlmopen, depend on who calls: the loader looks at the return address.
// So a call that is not about the driver is not forwarded but jumped on, with the caller's return address left in place;
// otherwise a second preloaded library asking for the next malloc would be given its own and never return.
#define _GNU_SOURCE
#include <link.h>
#include <stdio.h>
#include <string.h>

#include "loader.h"
#include "route_names.h"

// Each returns the function that the call goes on in, with the same arguments.
void *lookup_dlsym(void *handle, const char *name);
void *lookup_dlvsym(void *handle, const char *name, const char *version);
void *lookup_dlmopen(long space, const char *file, int mode);

#if defined(__x86_64__)
#define FORWARD(name)                                                                                             \
    __asm__(".pushsection .text\n.globl " #name "\n.type " #name ", @function\n" #name                            \
            ":\n.cfi_startproc\nendbr64\n"                                                                        \
            "pushq %rdi\n.cfi_adjust_cfa_offset 8\npushq %rsi\n.cfi_adjust_cfa_offset 8\n"                        \
            "pushq %rdx\n.cfi_adjust_cfa_offset 8\ncall lookup_" #name                                            \
            "\npopq %rdx\n.cfi_adjust_cfa_offset -8\npopq %rsi\n.cfi_adjust_cfa_offset -8\n"                      \
            "popq %rdi\n.cfi_adjust_cfa_offset -8\njmp *%rax\n.cfi_endproc\n.size " #name ", .-" #name "\n.popsection\n")
#elif defined(__aarch64__)
#define FORWARD(name)                                                                                             \
    __asm__(".pushsection .text\n.globl " #name "\n.type " #name ", %function\n" #name ":\n.cfi_startproc\n"      \
            "hint #34\nstp x29, x30, [sp, #-48]!\n.cfi_adjust_cfa_offset 48\n.cfi_rel_offset x30, 8\n"            \
            "stp x0, x1, [sp, #16]\nstr x2, [sp, #32]\nbl lookup_" #name                                          \
            "\nmov x16, x0\nldp x0, x1, [sp, #16]\nldr x2, [sp, #32]\nldp x29, x30, [sp], #48\n"                  \
            ".cfi_adjust_cfa_offset -48\n.cfi_restore x30\nbr x16\n.cfi_endproc\n.size " #name ", .-" #name       \
            "\n.popsection\n")
#else
#error "the hook is written for x86-64 and aarch64"
#endif

FORWARD(dlsym);
FORWARD(dlvsym);
FORWARD(dlmopen);

static void *driver_dlsym(void *handle, const char *name) {
    return route_substitute_name(name, loader_get()->dlsym(handle, name));
}

static void *driver_dlvsym(void *handle, const char *name, const char *version) {
    return route_substitute_name(name, loader_get()->dlvsym(handle, name, version));
}

static bool brings_driver(void *handle) {
    struct link_map *map = NULL;
    if (dlinfo(handle, RTLD_DI_LINKMAP, &map) != 0 || map == NULL) return false;
    while (map->l_prev != NULL) map = map->l_prev;
    for (; map != NULL; map = map->l_next) {
        if (loader_is_driver(map->l_name)) return true;
    }
    return false;
}

// A second libcuda in a namespace of its own has other addresses and would not be seen by this library at all.
static void *base_dlmopen(long space, const char *file, int mode) {
    if (loader_is_driver(file)) return dlopen(file, mode);
    void *handle = loader_get()->dlmopen(space, file, mode);
    if (handle == NULL || !brings_driver(handle)) return handle;
    fprintf(stderr, "egpu: refused to load %s into a namespace of its own: it brings a second GPU driver\n", file);
    dlclose(handle);
    return NULL;
}

void *lookup_dlsym(void *handle, const char *name) {
    (void)handle;
    return route_name_is_driver(name) ? (void *)driver_dlsym : (void *)loader_get()->dlsym;
}

void *lookup_dlvsym(void *handle, const char *name, const char *version) {
    (void)handle;
    (void)version;
    return route_name_is_driver(name) ? (void *)driver_dlvsym : (void *)loader_get()->dlvsym;
}

void *lookup_dlmopen(long space, const char *file, int mode) {
    (void)mode;
    (void)file;
    return space == LM_ID_BASE ? (void *)loader_get()->dlmopen : (void *)base_dlmopen;
}
