/* Modules, libraries and their functions; kernels known by name run on the host. */
#ifndef EGPU_SIM_FUNCTIONS_H
#define EGPU_SIM_FUNCTIONS_H

#include "internal.h"

#define SIM_FUNCTION_MAGIC UINT64_C(0x636e7566636e7566)
#define SIM_PARAMETERS_MAX 8
#define SIM_PARAMETER_BYTES_MAX 256

/* Parameters in the order of the kernel's signature: their sizes, 0 ends. */
struct sim_kernel {
    const char *name; /* a part of the (perhaps mangled) name */
    unsigned char parameters[SIM_PARAMETERS_MAX];
    uint64_t (*duration_ns)(const void *packed);
    uint64_t (*extra_ns)(void *launch); /* struct sim_launch */
    void (*effect)(void *launch);
};

struct sim_module;

/* A CUfunction and a CUkernel at once: the driver takes either in a launch. */
struct sim_function {
    uint64_t magic;
    const struct sim_kernel *kernel; /* NULL = unknown */
    struct sim_module *module;
    struct sim_function *next;
    int dynamic_shared_bytes;
    unsigned block[3]; /* of the oldest launch interface */
    unsigned char parameters[SIM_PARAMETER_BYTES_MAX];
    char name[];
};

/* A CUmodule and a CUlibrary at once. */
struct sim_module {
    uint64_t magic;
    struct sim_context *context; /* NULL for a library */
    struct sim_function *functions;
    CUdeviceptr memory; /* of its globals, made when first asked for */
    CUdeviceptr managed; /* likewise */
    CUdeviceptr code; /* what the module itself takes of the card; 0 = nothing */
    struct sim_module *next; /* of its context */
    struct sim_module **link;
};

/* One launch with its parameters packed as the signature says; copied into nodes of graphs. */
struct sim_launch {
    struct sim_function *function;
    struct sim_context *context;
    unsigned grid[3];
    unsigned block[3];
    unsigned shared_bytes;
    unsigned cooperative;
    unsigned char packed[SIM_PARAMETER_BYTES_MAX];
};

struct sim_module *sim_module_of(const void *handle); /* NULL = neither module nor library */
void sim_modules_end(struct sim_context *context); /* their handles are told from live ones afterwards */
CUresult sim_file_readable(const char *path);
const struct sim_kernel *sim_kernel_find(const char *name);
struct sim_function *sim_function_of(const void *handle); /* NULL = neither function nor kernel */
uint64_t sim_kernel_duration_ns(const struct sim_launch *launch);
/* Packs kernelParams or the `extra` buffer; INVALID_VALUE when a known kernel's parameters are missing. */
CUresult sim_kernel_pack(struct sim_launch *launch, void **parameters, void **extra);
CUresult sim_launch_submit(CUstream stream, const struct sim_launch *launch);
/* The operation of a launch, for graphs as well. */
struct sim_operation sim_launch_operation(const struct sim_launch *launch);
CUresult sim_launch_check(const struct sim_launch *launch);

#endif
