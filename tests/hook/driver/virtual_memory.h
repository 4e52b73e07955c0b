/* Virtual memory management: addresses, physical memory and the mappings between them live each by itself. */
#ifndef EGPU_SIM_VIRTUAL_MEMORY_H
#define EGPU_SIM_VIRTUAL_MEMORY_H

#include "memory.h"

/* Physical memory: gone when no handle names it and nothing maps it. */
struct physical {
    struct physical *next;
    int card; /* MEMORY_NO_CARD: host memory */
    uint64_t bytes;
    uint64_t home; /* where the bytes are mapped for the driver itself; mappings are made from it */
    int file;      /* behind it when it may be exported, else -1 */
    uint32_t handles;
    uint32_t mappings;
    bool exported; /* other processes may hold it: exported_memory.c says who pays */
    CUmemAllocationProp properties;
};

struct virtual_mapping {
    struct physical *physical;
    uint64_t offset;
    CUmemAccess_flags access[SIM_CARDS_MAX];
    CUmemAccess_flags host_access;
};

/* physical_memory.c; under memory_enter(). */
struct physical *physical_of(CUmemGenericAllocationHandle handle);
void physical_drop_if_unused(struct physical *physical);

/* exported_memory.c: who of several processes pays for memory they share. The file behind it is the key. */
bool export_begin(int file, int card, uint64_t bytes);
bool export_join(int file, int *card, uint64_t *bytes);
void export_leave(int file);
void exports_forget_process(uint32_t process);

#endif
