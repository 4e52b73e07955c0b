// Structs of the driver's interface that describe objects: textures, what other interfaces share, memory operations of
// streams, parts of a card. Only the simulated driver looks into them. Field names are the interface's. Included by driver.h.
#ifndef EGPU_DRIVER_OBJECTS_H
#define EGPU_DRIVER_OBJECTS_H

typedef union {
    unsigned int operation;
    struct {
        unsigned int operation;
        CUdeviceptr address;
        uint64_t value64;  // Also the value of 32 bits: the interface's union begins with the low half.
        unsigned int flags;
        CUdeviceptr alias;
    } waitValue, writeValue;
    struct {
        unsigned int operation;
        unsigned int flags;
    } flushRemoteWrites, memoryBarrier;
    uint64_t pad[6];
} CUstreamBatchMemOpParams;

typedef struct {
    CUcontext ctx;
    unsigned int count;
    CUstreamBatchMemOpParams *paramArray;
    unsigned int flags;
} CUDA_BATCH_MEM_OP_NODE_PARAMS;

// The interface's are unions of what an attribute can be, pointers among them.
typedef struct {
    _Alignas(8) char pad[64];
} CUstreamAttrValue;

typedef struct {
    _Alignas(8) char pad[64];
} CUkernelNodeAttrValue;

typedef struct {
    unsigned int resType;
    union {
        struct { CUarray hArray; } array;
        struct { CUmipmappedArray hMipmappedArray; } mipmap;
        struct {
            CUdeviceptr devPtr;
            CUarray_format format;
            unsigned int numChannels;
            size_t sizeInBytes;
        } linear;
        struct {
            CUdeviceptr devPtr;
            CUarray_format format;
            unsigned int numChannels;
            size_t width, height, pitchInBytes;
        } pitch2D;
        int reserved[32];
    } res;
    unsigned int flags;
} CUDA_RESOURCE_DESC;

typedef struct {
    CUaddress_mode addressMode[3];
    CUfilter_mode filterMode;
    unsigned int flags, maxAnisotropy;
    CUfilter_mode mipmapFilterMode;
    float mipmapLevelBias, minMipmapLevelClamp, maxMipmapLevelClamp, borderColor[4];
    int reserved[12];
} CUDA_TEXTURE_DESC;

typedef struct {
    unsigned int format;
    size_t width, height, depth;
    unsigned int firstMipmapLevel, lastMipmapLevel, firstLayer, lastLayer, reserved[16];
} CUDA_RESOURCE_VIEW_DESC;

typedef struct {
    unsigned int type;
    union {
        int fd;
        void *pointers[2];
    } handle;
    unsigned long long size;
    unsigned int flags, reserved[16];
} CUDA_EXTERNAL_MEMORY_HANDLE_DESC;

typedef struct {
    unsigned long long offset;
    CUDA_ARRAY3D_DESCRIPTOR arrayDesc;
    unsigned int numLevels, reserved[16];
} CUDA_EXTERNAL_MEMORY_MIPMAPPED_ARRAY_DESC;

typedef struct {
    unsigned int type;
    union {
        int fd;
        void *pointers[2];
    } handle;
    unsigned int flags, reserved[16];
} CUDA_EXTERNAL_SEMAPHORE_HANDLE_DESC;

typedef struct {
    struct {
        struct { unsigned long long value; } fence;
        unsigned long long others[8];
    } params;
    unsigned int flags, reserved[16];
} CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS;

typedef CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS CUDA_EXTERNAL_SEMAPHORE_WAIT_PARAMS;

typedef struct {
    CUexternalSemaphore *extSemArray;
    const CUDA_EXTERNAL_SEMAPHORE_SIGNAL_PARAMS *paramsArray;
    unsigned int numExtSems;
} CUDA_EXT_SEM_SIGNAL_NODE_PARAMS;

typedef CUDA_EXT_SEM_SIGNAL_NODE_PARAMS CUDA_EXT_SEM_WAIT_NODE_PARAMS;

typedef struct {
    CUdevResourceType type;
    unsigned char _internal_padding[92];
    union {
        struct { unsigned int smCount, minSmPartitionSize, smCoscheduledAlignment; } sm;
        unsigned char _oversize[48];
    };
} CUdevResource;

typedef struct {
    unsigned int numDevices;
    size_t size;
    unsigned long long handleTypes, flags;
} CUmulticastObjectProp;

typedef struct {
    struct { unsigned int width, height, depth; } tileExtent;
    unsigned int miptailFirstLevel;
    unsigned long long miptailSize;
    unsigned int flags, reserved[4];
} CUDA_ARRAY_SPARSE_PROPERTIES;

typedef struct {
    _Alignas(128) uint64_t opaque[16];
} CUtensorMap;

#endif
