// What we know of the CUDA driver's interface: result codes, handles and the few structs that are read.
// Written down by hand from the published interface; hook/check_headers.py holds sizes, offsets and values against
// cuda.h of CUDA 12.8 and 13.0. Used by the hook and by the simulated driver of the tests.
#ifndef EGPU_DRIVER_H
#define EGPU_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#define CUDA_VERSION_OLDEST 12080  // The releases symbols.def is held against.
#define CUDA_VERSION_NEWEST 13000

// Codes only by name where hook or simulated driver use them: all others pass through as numbers.
typedef enum {
    CUDA_SUCCESS = 0,
    CUDA_ERROR_INVALID_VALUE = 1,
    CUDA_ERROR_OUT_OF_MEMORY = 2,
    CUDA_ERROR_NOT_INITIALIZED = 3,
    CUDA_ERROR_DEINITIALIZED = 4,
    CUDA_ERROR_STUB_LIBRARY = 34,
    CUDA_ERROR_DEVICE_UNAVAILABLE = 46,
    CUDA_ERROR_NO_DEVICE = 100,
    CUDA_ERROR_INVALID_DEVICE = 101,
    CUDA_ERROR_INVALID_IMAGE = 200,
    CUDA_ERROR_INVALID_CONTEXT = 201,
    CUDA_ERROR_MAP_FAILED = 205,
    CUDA_ERROR_UNMAP_FAILED = 206,
    CUDA_ERROR_ALREADY_MAPPED = 208,
    CUDA_ERROR_NOT_MAPPED = 211,
    CUDA_ERROR_UNSUPPORTED_LIMIT = 215,
    CUDA_ERROR_CONTEXT_ALREADY_IN_USE = 216,
    CUDA_ERROR_PEER_ACCESS_UNSUPPORTED = 217,
    CUDA_ERROR_FILE_NOT_FOUND = 301,
    CUDA_ERROR_OPERATING_SYSTEM = 304,
    CUDA_ERROR_INVALID_HANDLE = 400,
    CUDA_ERROR_ILLEGAL_STATE = 401,
    CUDA_ERROR_NOT_FOUND = 500,
    CUDA_ERROR_NOT_READY = 600,
    CUDA_ERROR_ILLEGAL_ADDRESS = 700,
    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES = 701,
    CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED = 704,
    CUDA_ERROR_PEER_ACCESS_NOT_ENABLED = 705,
    CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE = 708,
    CUDA_ERROR_CONTEXT_IS_DESTROYED = 709,
    CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED = 712,
    CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED = 713,
    CUDA_ERROR_LAUNCH_FAILED = 719,
    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE = 720,
    CUDA_ERROR_NOT_PERMITTED = 800,
    CUDA_ERROR_NOT_SUPPORTED = 801,
    CUDA_ERROR_SYSTEM_NOT_READY = 802,
    CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED = 900,
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901,
    CUDA_ERROR_STREAM_CAPTURE_MERGE = 902,
    CUDA_ERROR_STREAM_CAPTURE_UNMATCHED = 903,
    CUDA_ERROR_STREAM_CAPTURE_UNJOINED = 904,
    CUDA_ERROR_STREAM_CAPTURE_ISOLATION = 905,
    CUDA_ERROR_STREAM_CAPTURE_IMPLICIT = 906,
    CUDA_ERROR_CAPTURED_EVENT = 907,
    CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD = 908,
    CUDA_ERROR_TIMEOUT = 909,
    CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE = 910,
    CUDA_ERROR_UNKNOWN = 999,
} CUresult;

// Handles: pointers nobody here looks behind. The simulated driver completes the structs it owns.
typedef struct CUarray_st *CUarray;
typedef struct CUasyncCallbackEntry_st *CUasyncCallbackHandle;
typedef struct CUctx_st *CUcontext;
typedef struct CUdevResourceDesc_st *CUdevResourceDesc;
typedef struct CUevent_st *CUevent;
typedef struct CUextMemory_st *CUexternalMemory;
typedef struct CUextSemaphore_st *CUexternalSemaphore;
typedef struct CUfunc_st *CUfunction;
typedef struct CUgraphExec_st *CUgraphExec;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphicsResource_st *CUgraphicsResource;
typedef struct CUgreenCtx_st *CUgreenCtx;
typedef struct CUkern_st *CUkernel;
typedef struct CUlib_st *CUlibrary;
typedef struct CUlinkState_st *CUlinkState;
typedef struct CUlogsCallbackEntry_st *CUlogsCallbackHandle;
typedef struct CUmemPoolHandle_st *CUmemoryPool;
typedef struct CUmipmappedArray_st *CUmipmappedArray;
typedef struct CUmod_st *CUmodule;
typedef struct CUstream_st *CUstream;
typedef struct CUsurfref_st *CUsurfref;
typedef struct CUtexref_st *CUtexref;
typedef struct CUuserObject_st *CUuserObject;

#define CU_STREAM_LEGACY ((CUstream)0x1)
#define CU_STREAM_PER_THREAD ((CUstream)0x2)

// Numbers.
typedef int CUdevice;
typedef uint64_t CUdeviceptr;
typedef unsigned int CUdeviceptr_v1;
typedef unsigned int CUlogIterator;
typedef unsigned long long CUmemGenericAllocationHandle;
typedef unsigned long long CUsurfObject;
typedef unsigned long long CUtexObject;
typedef uint64_t CUgraphConditionalHandle;

// Functions of the application.
typedef void (*CUhostFn)(void *user_data);
typedef void (*CUstreamCallback)(CUstream stream, CUresult status, void *user_data);
typedef size_t (*CUoccupancyB2DSize)(int block_size);
typedef void (*CUasyncCallback)(void *information, void *user_data, CUasyncCallbackHandle handle);
typedef void (*CUlogsCallback)(void *user_data, unsigned int level, char *message, size_t length);

// Enumerations of the driver: all are passed as 32 bits.
typedef unsigned int CUaddress_mode;
typedef unsigned int CUarray_format;
typedef unsigned int CUatomicOperation;
typedef unsigned int CUcoredumpSettings;
typedef unsigned int CUdevResourceType;
typedef unsigned int CUdevice_P2PAttribute;
typedef unsigned int CUdevice_attribute;
typedef unsigned int CUdriverProcAddressQueryResult;
typedef unsigned int CUexecAffinityType;
typedef unsigned int CUfilter_mode;
typedef unsigned int CUflushGPUDirectRDMAWritesScope;
typedef unsigned int CUflushGPUDirectRDMAWritesTarget;
typedef unsigned int CUfunc_cache;
typedef unsigned int CUfunctionLoadingState;
typedef unsigned int CUfunction_attribute;
typedef unsigned int CUgraphExecUpdateResult;
typedef unsigned int CUgraphMem_attribute;
typedef unsigned int CUgraphNodeType;
typedef unsigned int CUgraphInstantiateResult;
typedef unsigned int CUjitInputType;
typedef unsigned int CUjit_option;
typedef unsigned int CUkernelNodeAttrID;
typedef unsigned int CUlaunchAttributeID;
typedef unsigned int CUlibraryOption;
typedef unsigned int CUlimit;
typedef unsigned int CUmemAccess_flags;
typedef unsigned int CUmemAllocationGranularity_flags;
typedef unsigned int CUmemAllocationHandleType;
typedef unsigned int CUmemAllocationType;
typedef unsigned int CUmemLocationType;
typedef unsigned int CUmemPool_attribute;
typedef unsigned int CUmemRangeHandleType;
typedef unsigned int CUmem_advise;
typedef unsigned int CUmem_range_attribute;
typedef unsigned int CUmemcpy3DOperandType;
typedef unsigned int CUmemcpySrcAccessOrder;
typedef unsigned int CUmemorytype;
typedef unsigned int CUmoduleLoadingMode;
typedef unsigned int CUmulticastGranularity_flags;
typedef unsigned int CUpointer_attribute;
typedef unsigned int CUprocessState;
typedef unsigned int CUsharedconfig;
typedef unsigned int CUstreamAttrID;
typedef unsigned int CUstreamCaptureMode;
typedef unsigned int CUstreamCaptureStatus;
typedef unsigned int CUtensorMapDataType;
typedef unsigned int CUtensorMapFloatOOBfill;
typedef unsigned int CUtensorMapIm2ColWideMode;
typedef unsigned int CUtensorMapInterleave;
typedef unsigned int CUtensorMapL2promotion;
typedef unsigned int CUtensorMapSwizzle;

#include "driver_values.h"
#include "driver_structs.h"
#include "driver_objects.h"

#endif
