/* Objects of the driver that take neither memory nor time: what is set is told, what cannot be is refused. Prints what
 * differs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "driver_calls.h"
#include "expect.h"

enum { LINEAR = 2, PITCHED = 3, PROCESSORS = 1, BYTES = 4096 };

static CUmodule module;
static CUdeviceptr memory;
static CUarray array;

static void texture_objects(void) {
    CUDA_RESOURCE_DESC of_array = {.res = {.array = {array}}}, told;
    CUDA_RESOURCE_DESC linear = {.resType = LINEAR, .res = {.linear = {memory, CU_AD_FORMAT_FLOAT, 1, BYTES}}};
    CUDA_TEXTURE_DESC how = {.filterMode = 1, .maxAnisotropy = 4}, told_how;
    CUDA_RESOURCE_VIEW_DESC view;
    CUtexObject texture;
    CUsurfObject surface;
    DO(cuTexObjectCreate(&texture, &linear, &how, NULL));
    DO(cuTexObjectGetResourceDesc(&told, texture));
    EXPECT(told.res.linear.devPtr == memory && told.res.linear.sizeInBytes == BYTES, 1);
    DO(cuTexObjectGetTextureDesc(&told_how, texture));
    EXPECT(told_how.maxAnisotropy, 4);
    EXPECT(cuTexObjectGetResourceViewDesc(&view, texture), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuSurfObjectDestroy(texture), CUDA_ERROR_INVALID_VALUE);
    DO(cuTexObjectDestroy(texture));
    EXPECT(cuTexObjectDestroy(0), CUDA_ERROR_INVALID_VALUE);
    linear.res.linear.sizeInBytes = BYTES * 1024; /* more than was allocated */
    EXPECT(cuTexObjectCreate(&texture, &linear, &how, NULL), CUDA_ERROR_INVALID_VALUE);
    DO(cuSurfObjectCreate(&surface, &of_array));
    DO(cuSurfObjectGetResourceDesc(&told, surface));
    EXPECT(told.res.array.hArray == array, 1);
    EXPECT(cuSurfObjectCreate(&surface, &linear), CUDA_ERROR_INVALID_VALUE);
    of_array.res.array.hArray = NULL;
    EXPECT(cuSurfObjectCreate(&surface, &of_array), CUDA_ERROR_INVALID_HANDLE);
}

static void texture_references(void) {
    CUtexref named, again, made;
    CUsurfref surface;
    CUarray bound = NULL;
    CUarray_format format = 0;
    CUaddress_mode mode = 0;
    size_t offset = 0;
    float border[4] = {1, 2, 3, 4}, least = 0, most = 0;
    int channels = 0;
    DO(cuModuleGetTexRef(&named, module, "texture"));
    DO(cuModuleGetTexRef(&again, module, "texture"));
    EXPECT(named == again, 1);
    DO(cuTexRefSetArray(named, array, 1));
    DO(cuTexRefGetArray(&bound, named));
    EXPECT(bound == array, 1);
    DO(cuTexRefSetFormat(named, CU_AD_FORMAT_HALF, 2));
    DO(cuTexRefGetFormat(&format, &channels, named));
    EXPECT(format == CU_AD_FORMAT_HALF && channels == 2, 1);
    DO(cuTexRefSetAddressMode(named, 2, 3));
    DO(cuTexRefGetAddressMode(&mode, named, 2));
    EXPECT(mode, 3);
    EXPECT(cuTexRefSetAddressMode(named, 3, 1), CUDA_ERROR_INVALID_VALUE);
    DO(cuTexRefSetMipmapLevelClamp(named, 1.5F, 2.5F));
    DO(cuTexRefGetMipmapLevelClamp(&least, &most, named));
    EXPECT(least == 1.5F && most == 2.5F, 1);
    DO(cuTexRefSetBorderColor(named, border));
    memset(border, 0, sizeof border);
    DO(cuTexRefGetBorderColor(border, named));
    EXPECT(border[3], 4);
    DO(cuTexRefCreate(&made));
    DO(cuTexRefSetAddress_v2(&offset, made, memory + 8, 64));
    EXPECT(offset, 8);
    EXPECT(cuTexRefSetAddress_v2(NULL, made, memory + 8, 64), CUDA_ERROR_INVALID_VALUE);
    DO(cuTexRefDestroy(made));
    EXPECT(cuTexRefDestroy(named), CUDA_ERROR_INVALID_VALUE); /* the module's */
    DO(cuModuleGetSurfRef(&surface, module, "surface"));
    DO(cuSurfRefSetArray(surface, array, 0));
    DO(cuSurfRefGetArray(&bound, surface));
}

static void code(void) {
    CUlinkState state;
    CUmodule linked;
    CUfunction function, listed[4] = {NULL};
    CUlibrary library;
    CUdeviceptr managed = 0;
    void *image = NULL, *unified = NULL;
    size_t bytes = 0;
    CUlaunchConfig config = {.gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1};
    int count = 0;
    DO(cuLinkCreate_v2(0, NULL, NULL, &state));
    EXPECT(cuLinkComplete(state, &image, &bytes), CUDA_ERROR_INVALID_VALUE); /* nothing to link */
    DO(cuLinkAddData_v2(state, 1, "text", 5, "name", 0, NULL, NULL));
    EXPECT(cuLinkAddFile_v2(state, 1, "/no/such/file", 0, NULL, NULL), CUDA_ERROR_FILE_NOT_FOUND);
    DO(cuLinkComplete(state, &image, &bytes));
    DO(cuModuleLoadData(&linked, image));
    DO(cuLinkDestroy(state));
    DO(cuModuleGetFunction(&function, linked, "kernel"));
    DO(cuModuleEnumerateFunctions(listed, 4, linked));
    EXPECT(listed[0] == function && listed[1] == NULL, 1);
    DO(cuOccupancyAvailableDynamicSMemPerBlock(&bytes, function, 4, 128));
    EXPECT(bytes, 233472 / 4);
    DO(cuOccupancyMaxPotentialClusterSize(&count, function, &config));
    EXPECT(count, 8);
    DO(cuLibraryLoadData(&library, "any", NULL, NULL, 0, NULL, NULL, 0));
    DO(cuLibraryGetManaged(&managed, &bytes, library, "variable"));
    EXPECT(managed != 0, 1);
    EXPECT(cuLibraryGetUnifiedFunction(&unified, library, "function"), CUDA_ERROR_NOT_FOUND);
    DO(cuLibraryUnload(library));
}

static void parts_of_a_card(void) {
    CUdevResource whole, groups[3], rest, told;
    CUdevResourceDesc description;
    CUgreenCtx green, found;
    CUstream stream;
    unsigned int count = 3;
    DO(cuDeviceGetDevResource(0, &whole, PROCESSORS));
    EXPECT(whole.sm.smCount, 100);
    DO(cuDevSmResourceSplitByCount(NULL, &count, &whole, NULL, 0, 20));
    EXPECT(count, 4); /* of 24 each */
    count = 3;
    DO(cuDevSmResourceSplitByCount(groups, &count, &whole, &rest, 0, 20));
    EXPECT(count * 1000 + groups[2].sm.smCount * 100 + rest.sm.smCount, 3000 + 2400 + 28);
    EXPECT(cuDevSmResourceSplitByCount(groups, &count, &whole, NULL, 0, 101), CUDA_ERROR_INVALID_VALUE);
    DO(cuDevResourceGenerateDesc(&description, groups, 2));
    DO(cuGreenCtxCreate(&green, description, 0, 1));
    DO(cuGreenCtxGetDevResource(green, &told, PROCESSORS));
    EXPECT(told.sm.smCount, 48);
    DO(cuGreenCtxStreamCreate(&stream, green, CU_STREAM_NON_BLOCKING, 0));
    DO(cuStreamGetGreenCtx(stream, &found));
    EXPECT(found == green, 1);
    DO(cuStreamGetGreenCtx(NULL, &found));
    EXPECT(found == NULL, 1);
    DO(cuGreenCtxDestroy(green));
    EXPECT(cuGreenCtxCreate(&green, (CUdevResourceDesc)(void *)&count, 0, 1), CUDA_ERROR_INVALID_VALUE);
}

static void attributes(void) {
    CUstreamAttrValue value = {.pad = {1}}, told = {.pad = {0}};
    CUkernelNodeAttrValue of_node = {.pad = {7}}, told_of_node = {.pad = {0}};
    CUstream one, other;
    CUgraph graph;
    CUgraphNode nodes[2], wrong;
    CUfunction function;
    CUDA_KERNEL_NODE_PARAMS kernel = {.gridDimX = 1, .gridDimY = 1, .gridDimZ = 1, .blockDimX = 1, .blockDimY = 1, .blockDimZ = 1};
    DO(cuStreamCreate(&one, 0));
    DO(cuStreamCreate(&other, 0));
    DO(cuStreamSetAttribute(one, 3, &value));
    DO(cuStreamCopyAttributes(other, one));
    DO(cuStreamGetAttribute(other, 3, &told));
    EXPECT(told.pad[0], 1);
    EXPECT(cuStreamGetAttribute(other, 99, &told), CUDA_ERROR_INVALID_VALUE);
    DO(cuModuleGetFunction(&function, module, "kernel"));
    kernel.func = function;
    DO(cuGraphCreate(&graph, 0));
    for (int each = 0; each < 2; each++) DO(cuGraphAddKernelNode_v2(&nodes[each], graph, NULL, 0, &kernel));
    DO(cuGraphAddEmptyNode(&wrong, graph, nodes, 2));
    DO(cuGraphKernelNodeSetAttribute(nodes[0], 8, &of_node));
    DO(cuGraphKernelNodeCopyAttributes(nodes[1], nodes[0]));
    DO(cuGraphKernelNodeGetAttribute(nodes[1], 8, &told_of_node));
    EXPECT(told_of_node.pad[0], 7);
    EXPECT(cuGraphKernelNodeGetAttribute(wrong, 8, &told_of_node), CUDA_ERROR_INVALID_VALUE);
    DO(cuGraphDebugDotPrint(graph, "/dev/null", 0));
    DO(cuGraphDestroy(graph));
}

static void tensor_maps(void) {
    CUtensorMap map;
    uint64_t sizes[2] = {64, 8}, strides[1] = {256};
    uint32_t box[2] = {16, 8}, steps[2] = {1, 1};
    void *address = (void *)(uintptr_t)memory;
    DO(cuTensorMapEncodeTiled(&map, 7, 2, address, sizes, strides, box, steps, 0, 0, 0, 0));
    DO(cuTensorMapReplaceAddress(&map, (char *)address + 16));
    EXPECT(cuTensorMapReplaceAddress(&map, (char *)address + 8), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuTensorMapEncodeTiled(&map, 7, 6, address, sizes, strides, box, steps, 0, 0, 0, 0), CUDA_ERROR_INVALID_VALUE);
    box[1] = 257;
    EXPECT(cuTensorMapEncodeTiled(&map, 7, 2, address, sizes, strides, box, steps, 0, 0, 0, 0), CUDA_ERROR_INVALID_VALUE);
    box[1] = 8, strides[0] = 250; /* no multiple of 16 */
    EXPECT(cuTensorMapEncodeTiled(&map, 7, 2, address, sizes, strides, box, steps, 0, 0, 0, 0), CUDA_ERROR_INVALID_VALUE);
}

static void external_memory(void) {
    CUDA_EXTERNAL_MEMORY_HANDLE_DESC handle = {.type = 1, .handle = {.fd = memfd_create("external", 0)}, .size = 8192};
    CUDA_EXTERNAL_MEMORY_BUFFER_DESC buffer = {.offset = 4096, .size = 4096};
    CUexternalMemory external;
    CUdeviceptr address;
    char bytes[4] = "abc";
    EXPECT(cuImportExternalMemory(&external, &handle), CUDA_ERROR_INVALID_VALUE); /* the file is empty */
    EXPECT(ftruncate(handle.handle.fd, 8192), 0);
    EXPECT(pwrite(handle.handle.fd, bytes, 4, 4096), 4);
    DO(cuImportExternalMemory(&external, &handle));
    DO(cuExternalMemoryGetMappedBuffer(&address, external, &buffer));
    memset(bytes, 0, 4);
    DO(cuMemcpyDtoH_v2(bytes, address, 4));
    EXPECT(strcmp(bytes, "abc"), 0);
    buffer.size = 8192;
    EXPECT(cuExternalMemoryGetMappedBuffer(&address, external, &buffer), CUDA_ERROR_INVALID_VALUE);
    DO(cuMemFree_v2(address));
    DO(cuDestroyExternalMemory(external));
}

static void no_graphics_and_no_planes(void) {
    CUDA_ARRAY_SPARSE_PROPERTIES sparse;
    CUgraphicsResource resource = NULL;
    CUarray plane;
    CUdevprop properties;
    char file[8] = "core";
    size_t bytes = sizeof file;
    EXPECT(cuGraphicsMapResources(1, &resource, NULL), CUDA_ERROR_INVALID_HANDLE);
    EXPECT(cuArrayGetSparseProperties(&sparse, array), CUDA_ERROR_INVALID_VALUE);
    EXPECT(cuArrayGetPlane(&plane, array, 0), CUDA_ERROR_INVALID_VALUE);
    DO(cuDeviceGetProperties(&properties, 0));
    EXPECT(properties.maxThreadsPerBlock, 1024);
    DO(cuCoredumpSetAttributeGlobal(5, file, &bytes));
    memset(file, 0, sizeof file);
    DO(cuCoredumpGetAttribute(5, file, &bytes));
    EXPECT(strcmp(file, "core"), 0);
}

int main(void) {
    CUDA_ARRAY3D_DESCRIPTOR shape = {16, 16, 0, CU_AD_FORMAT_UNSIGNED_INT8, 1, 0};
    CUcontext context;
    DO(cuInit(0));
    DO(cuCtxCreate_v2(&context, 0, 0));
    DO(cuModuleLoadData(&module, "any"));
    DO(cuMemAlloc_v2(&memory, BYTES));
    DO(cuArray3DCreate_v2(&array, &shape));
    texture_objects();
    texture_references();
    code();
    parts_of_a_card();
    attributes();
    tensor_maps();
    external_memory();
    no_graphics_and_no_planes();
    return failures != 0;
}
