#define _GNU_SOURCE
#include "loader.h"

#include <elf.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// dlvsym(RTLD_NEXT, "dlsym", ...) would do if this library did not export dlvsym as well; a versioned reference to the C
// library's binds to our own export, which has no version. So the tables are read.
//
// And no function is called on the way to the first answer, not even dl_iterate_phdr or strcmp: a sanitizer's runtime stands
// in for them, and asks dlsym where theirs are before it can serve anybody.

struct tables {
    const ElfW(Sym) *symbols;
    const char *names;
    const uint32_t *gnu_hash;
    const uint32_t *hash;
    const char *own_name;
};

static struct loader loader;

static bool begins_with(const char *text, const char *beginning) {
    while (*beginning != 0 && *text == *beginning) text++, beginning++;
    return *beginning == 0;
}

static bool same(const char *one, const char *other) {
    while (*one != 0 && *one == *other) one++, other++;
    return *one == *other;
}

static struct tables read_dynamic(const struct link_map *object) {
    struct tables tables = {0};
    size_t own_name = 0;
    for (const ElfW(Dyn) *entry = object->l_ld; entry->d_tag != DT_NULL; entry++) {
        // The loader relocates these in place, except in objects it may not write to (the vDSO).
        ElfW(Addr) value = entry->d_un.d_ptr;
        ElfW(Addr) address = value < object->l_addr ? value + object->l_addr : value;
        if (entry->d_tag == DT_SYMTAB) tables.symbols = (const ElfW(Sym) *)address;
        else if (entry->d_tag == DT_STRTAB) tables.names = (const char *)address;
        else if (entry->d_tag == DT_GNU_HASH) tables.gnu_hash = (const uint32_t *)address;
        else if (entry->d_tag == DT_HASH) tables.hash = (const uint32_t *)address;
        else if (entry->d_tag == DT_SONAME) own_name = value;
    }
    tables.own_name = tables.names != NULL && own_name != 0 ? tables.names + own_name : "";
    return tables;
}

// The number of symbols: told by the old hash table; with the GNU one it is behind the last chain.
static uint32_t symbol_count(const struct tables *tables) {
    if (tables->hash != NULL) return tables->hash[1];
    if (tables->gnu_hash == NULL) return 0;
    const uint32_t buckets = tables->gnu_hash[0], first = tables->gnu_hash[1], bloom = tables->gnu_hash[2];
    const uint32_t *bucket = tables->gnu_hash + 4 + bloom * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t *chain = bucket + buckets;
    uint32_t last = 0;
    for (uint32_t i = 0; i < buckets; i++) {
        if (bucket[i] > last) last = bucket[i];
    }
    if (last < first) return first;
    while ((chain[last - first] & 1U) == 0) last++;
    return last + 1;
}

static void *defined(const struct link_map *object, const struct tables *tables, const char *name) {
    const uint32_t count = symbol_count(tables);
    for (uint32_t i = 1; i < count; i++) {
        const ElfW(Sym) *symbol = &tables->symbols[i];
        if (symbol->st_shndx == SHN_UNDEF || (symbol->st_info & 0xfU) != STT_FUNC) continue;
        if (same(tables->names + symbol->st_name, name)) return (void *)(object->l_addr + symbol->st_value);
    }
    return NULL;
}

static bool is_c_library(const char *name) {
    return begins_with(name, "libc.so") || begins_with(name, "libdl.so") || begins_with(name, "ld-musl") ||
           begins_with(name, "libc.musl");
}

// glibc before 2.34 keeps all three in libdl, later ones in libc; either may come first.
static void look_into(const struct link_map *object) {
    struct tables tables = read_dynamic(object);
    void **found[] = {(void **)&loader.dlsym, (void **)&loader.dlvsym, (void **)&loader.dlmopen};
    static const char *const names[] = {"dlsym", "dlvsym", "dlmopen"};
    if (tables.symbols == NULL || tables.names == NULL || !is_c_library(tables.own_name)) return;
    for (int k = 0; k < 3; k++) {
        if (__atomic_load_n(found[k], __ATOMIC_RELAXED) != NULL) continue;
        __atomic_store_n(found[k], defined(object, &tables, names[k]), __ATOMIC_RELEASE);
    }
}

static bool complete(void) {
    return __atomic_load_n((void **)&loader.dlsym, __ATOMIC_ACQUIRE) != NULL &&
           __atomic_load_n((void **)&loader.dlvsym, __ATOMIC_ACQUIRE) != NULL &&
           __atomic_load_n((void **)&loader.dlmopen, __ATOMIC_ACQUIRE) != NULL;
}

// Threads that come at the same time find the same. The libraries a program starts with are never unloaded and are in
// front of the list, so it needs no lock.
const struct loader *loader_get(void) {
    for (const struct link_map *object = _r_debug.r_map; object != NULL && !complete(); object = object->l_next)
        look_into(object);
    if (loader.dlsym == NULL) {
        fputs("egpu: this C library has no dlsym: the hook cannot be used here\n", stderr);
        abort();
    }
    return &loader;
}

bool loader_is_driver(const char *file) {
    if (file == NULL) return false;
    const char *name = strrchr(file, '/');
    name = name == NULL ? file : name + 1;
    return begins_with(name, "libcuda.so") || begins_with(name, "libnvidia-ml.so");
}
