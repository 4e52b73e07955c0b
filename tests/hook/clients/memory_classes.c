/* One class of device memory a case: prints what the driver answers and what the card then has in use. */
#include "memory_client.h"

static void plain(void) {
    CUdeviceptr small, second, large, all;
    size_t free_bytes, total_bytes, base_bytes;
    CUdeviceptr base;
    begin();
    say("context", (int64_t)used_mib());
    MUST(cuMemAlloc_v2(&small, 1));
    say("one byte", (int64_t)used_mib());
    MUST(cuMemAlloc_v2(&second, 100000));
    say("another in the same granule", (int64_t)used_mib());
    MUST(cuMemAlloc_v2(&large, 3 * MIB));
    say("three MiB", (int64_t)used_mib());
    MUST(cuMemGetAddressRange_v2(&base, &base_bytes, large + 5));
    say("range", base == large ? (int64_t)base_bytes : -1);
    say("inner free", (int)cuMemFree_v2(large + 512));
    say("zero bytes", (int)cuMemAlloc_v2(&base, 0));
    say("no pointer", (int)cuMemAlloc_v2(NULL, 1));
    say("free of nothing", (int)cuMemFree_v2(0));
    say("unknown free", (int)cuMemFree_v2(4096));
    MUST(cuMemFree_v2(small));
    MUST(cuMemFree_v2(large));
    say("second left", (int64_t)used_mib());
    MUST(cuMemFree_v2(second));
    say("all free", (int64_t)used_mib());
    say("freed twice", (int)cuMemFree_v2(second));
    MUST(cuMemGetInfo_v2(&free_bytes, &total_bytes));
    say("one granule too many", (int)cuMemAlloc_v2(&all, free_bytes + 1));
    say("the whole rest", (int)cuMemAlloc_v2(&all, free_bytes));
    say("full", (int)cuMemAlloc_v2(&small, 1));
    MUST(cuMemFree_v2(all));
    say("again", (int)cuMemAlloc_v2(&small, 1));
    say("huge", (int)cuMemAlloc_v2(&all, SIZE_MAX));
}

static void refused(void) {
    CUdeviceptr address;
    size_t bytes;
    CUcontext context;
    say("before cuInit", (int)cuMemAlloc_v2(&address, 1));
    MUST(cuInit(0));
    say("without context", (int)cuMemAlloc_v2(&address, 1));
    say("free without context", (int)cuMemFree_v2(1));
    say("info without context", (int)cuMemGetInfo_v2(&bytes, &bytes));
    MUST(cuDeviceTotalMem_v2(&bytes, 0));
    say("total", (int64_t)(bytes / MIB));
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
    MUST(cuMemAlloc_v2(&address, 10 * MIB));
    say("before reset", (int64_t)used_mib());
    MUST(cuDevicePrimaryCtxReset_v2(0));
    MUST(cuDevicePrimaryCtxRetain(&context, 0));
    MUST(cuCtxSetCurrent(context));
    say("after reset", (int64_t)used_mib());
}

static void pitched(void) {
    CUdeviceptr address;
    size_t pitch;
    begin();
    uint64_t before = used_mib();
    MUST(cuMemAllocPitch_v2(&address, &pitch, 1000, 4096, 4));
    say("pitch", (int64_t)pitch);
    say("MiB", (int64_t)(used_mib() - before));
    say("element of 3 bytes", (int)cuMemAllocPitch_v2(&address, &pitch, 1000, 4096, 3));
    say("no rows", (int)cuMemAllocPitch_v2(&address, &pitch, 1000, 0, 4));
    MUST(cuMemFree_v2(address));
    say("freed", (int64_t)(used_mib() - before));
}

static void host(void) {
    void *pinned;
    unsigned flags;
    CUdeviceptr address;
    static char own[8192];
    begin();
    uint64_t before = used_mib();
    MUST(cuMemHostAlloc(&pinned, 8 * MIB, 2));
    MUST(cuMemHostGetFlags(&flags, pinned));
    say("flags", flags);
    MUST(cuMemHostGetDevicePointer_v2(&address, (char *)pinned + 16, 0));
    say("device pointer", (int64_t)(address - (CUdeviceptr)pinned));
    say("on the card", (int64_t)(used_mib() - before));
    say("cuMemFree", (int)cuMemFree_v2((CUdeviceptr)pinned));
    MUST(cuMemFreeHost(pinned));
    say("freed twice", (int)cuMemFreeHost(pinned));
    MUST(cuMemHostRegister_v2(own, sizeof own, 0));
    say("registered twice", (int)cuMemHostRegister_v2(own, sizeof own, 0));
    MUST(cuMemHostUnregister(own));
    say("unregistered twice", (int)cuMemHostUnregister(own));
    say("bad flags", (int)cuMemHostAlloc(&pinned, 1, 64));
}

static void arrays(void) {
    CUDA_ARRAY_DESCRIPTOR flat = {.Width = 1024, .Height = 1024, .Format = 0x20, .NumChannels = 4};
    CUDA_ARRAY3D_DESCRIPTOR solid = {.Width = 64, .Height = 64, .Depth = 64, .Format = 0x01, .NumChannels = 1}, read;
    CUarray array, other, level;
    CUmipmappedArray mipmapped;
    begin();
    uint64_t before = used_mib();
    MUST(cuArrayCreate_v2(&array, &flat));
    say("1024 x 1024 float4", (int64_t)(used_mib() - before));
    MUST(cuArray3DCreate_v2(&other, &solid));
    say("64 cubed", (int64_t)(used_mib() - before));
    MUST(cuArray3DGetDescriptor_v2(&read, other));
    say("depth", (int64_t)read.Depth);
    char out[16] = "bytes of a row", in[16] = "";
    MUST(cuMemcpyHtoA_v2(array, 32, out, sizeof out));
    MUST(cuMemcpyAtoH_v2(in, array, 32, sizeof in));
    printf("array %s\n", in);
    say("beyond its end", (int)cuMemcpyHtoA_v2(array, 16 * MIB - 8, out, sizeof out));
    MUST(cuArrayDestroy(array));
    MUST(cuArrayDestroy(other));
    say("destroyed", (int64_t)(used_mib() - before));
    say("destroyed twice", (int)cuArrayDestroy(array));
    solid.Width = solid.Height = 1024;
    solid.Depth = 0;
    solid.NumChannels = 4;
    MUST(cuMipmappedArrayCreate(&mipmapped, &solid, 20));
    say("mipmapped", (int64_t)(used_mib() - before));
    MUST(cuMipmappedArrayGetLevel(&level, mipmapped, 3));
    MUST(cuArray3DGetDescriptor_v2(&read, level));
    say("level 3", (int64_t)read.Width);
    say("level 11", (int)cuMipmappedArrayGetLevel(&level, mipmapped, 11));
    MUST(cuMipmappedArrayDestroy(mipmapped));
    say("gone", (int64_t)(used_mib() - before));
    solid.Format = 0x77;
    say("unknown format", (int)cuArray3DCreate_v2(&other, &solid));
}

static void virtual_memory(void) {
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUmemAccessDesc access = {.location = properties.location, .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle handle, retained;
    CUdeviceptr address;
    size_t granularity;
    unsigned value = 0;
    begin();
    uint64_t before = used_mib();
    MUST(cuMemGetAllocationGranularity(&granularity, &properties, 0));
    say("granularity", (int64_t)granularity);
    say("not whole", (int)cuMemCreate(&handle, granularity + 1, &properties, 0));
    MUST(cuMemCreate(&handle, 4 * MIB, &properties, 0));
    say("created", (int64_t)(used_mib() - before));
    MUST(cuMemAddressReserve(&address, 16 * MIB, 0, 0, 0));
    say("reserved", (int64_t)(used_mib() - before));
    MUST(cuMemMap(address, 4 * MIB, 0, handle, 0));
    say("mapped twice there", (int)cuMemMap(address, 4 * MIB, 0, handle, 0));
    MUST(cuMemMap(address + 8 * MIB, 4 * MIB, 0, handle, 0));
    say("without access", (int)cuMemsetD32_v2(address, 7, 4));
    MUST(cuMemSetAccess(address, 4 * MIB, &access, 1));
    MUST(cuMemSetAccess(address + 8 * MIB, 4 * MIB, &access, 1));
    MUST(cuMemsetD32_v2(address + 2 * MIB, 7, 4));
    MUST(cuMemcpyDtoH_v2(&value, address + 10 * MIB, sizeof value));
    say("the same bytes at both", value);
    MUST(cuMemRetainAllocationHandle(&retained, (void *)address));
    say("retained", retained == handle);
    MUST(cuMemRelease(handle));
    MUST(cuMemRelease(handle));
    say("released, mapped", (int64_t)(used_mib() - before));
    say("address free", (int)cuMemAddressFree(address, 16 * MIB));
    MUST(cuMemUnmap(address, 4 * MIB));
    say("one mapping left", (int64_t)(used_mib() - before));
    say("half a mapping", (int)cuMemUnmap(address + 8 * MIB, 2 * MIB));
    MUST(cuMemUnmap(address + 8 * MIB, 4 * MIB));
    say("unmapped", (int64_t)(used_mib() - before));
    say("unmapped twice", (int)cuMemUnmap(address, 4 * MIB));
    MUST(cuMemAddressFree(address, 16 * MIB));
    say("released before", (int)cuMemRelease(handle));
    say("more than the card", (int)cuMemCreate(&handle, 1024 * 1024 * MIB, &properties, 0));
}

static void copies(void) {
    CUdeviceptr one, other;
    unsigned char in[64 * 48], out[64 * 48] = {0};
    unsigned short words[8];
    begin();
    for (size_t index = 0; index < sizeof in; index++)
        in[index] = (unsigned char)(index * 7);
    MUST(cuMemAlloc_v2(&one, sizeof in));
    MUST(cuMemAlloc_v2(&other, sizeof in));
    MUST(cuMemcpyHtoD_v2(one, in, sizeof in));
    MUST(cuMemcpyDtoD_v2(other, one, sizeof in));
    MUST(cuMemcpy((CUdeviceptr)out, other, sizeof out));
    say("round", memcmp(in, out, sizeof in) == 0);
    CUDA_MEMCPY2D box = {.srcXInBytes = 8, .srcY = 4, .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = one, .srcPitch = 64,
                         .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = out, .dstPitch = 16, .WidthInBytes = 16, .Height = 2};
    MUST(cuMemcpy2D_v2(&box));
    say("2D", out[0] == in[4 * 64 + 8] && out[16] == in[5 * 64 + 8] && out[31] == in[5 * 64 + 23]);
    CUDA_MEMCPY3D solid = {.srcZ = 1, .srcMemoryType = CU_MEMORYTYPE_DEVICE, .srcDevice = one, .srcPitch = 64, .srcHeight = 8,
                           .dstMemoryType = CU_MEMORYTYPE_HOST, .dstHost = out, .dstPitch = 4, .dstHeight = 2,
                           .WidthInBytes = 4, .Height = 2, .Depth = 3};
    MUST(cuMemcpy3D_v2(&solid));
    say("3D", out[0] == in[8 * 64] && out[4] == in[9 * 64] && out[16] == in[24 * 64]);
    MUST(cuMemsetD16_v2(other, 0x1234, 8));
    MUST(cuMemcpyDtoH_v2(words, other, sizeof words));
    say("set", words[7]);
    MUST(cuMemsetD2D8_v2(one, 64, 9, 2, 3));
    MUST(cuMemcpyDtoH_v2(out, one, sizeof out));
    say("set in rows", out[129] == 9 && out[130] == in[130]);
    say("beyond the end", (int)cuMemcpyHtoD_v2(one + 64, in, sizeof in));
    say("unknown address", (int)cuMemcpyDtoH_v2(out, 4096, 1));
    say("odd address", (int)cuMemsetD32_v2(one + 1, 0, 1));
    say("nothing", (int)cuMemcpyHtoD_v2(one, in, 0));
}

static void attributes(void) {
    CUdeviceptr plain, managed, zero = 0;
    CUpointer_attribute asked[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_IS_MANAGED,
                                   CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, CU_POINTER_ATTRIBUTE_RANGE_SIZE};
    unsigned type = 9, is_managed = 9, on = 1;
    int ordinal = 9;
    size_t bytes = 9;
    void *data[] = {&type, &is_managed, &ordinal, &bytes};
    begin();
    MUST(cuMemAlloc_v2(&plain, 1000));
    MUST(cuMemAllocManaged(&managed, 2000, CU_MEM_ATTACH_GLOBAL));
    MUST(cuPointerGetAttributes(4, asked, data, plain + 10));
    printf("plain %u %u %d %zu\n", type, is_managed, ordinal, bytes);
    MUST(cuPointerGetAttributes(4, asked, data, managed));
    printf("managed %u %u %d %zu\n", type, is_managed, ordinal, bytes);
    MUST(cuPointerGetAttributes(4, asked, data, 4096));
    printf("unknown %u %u %d %zu\n", type, is_managed, ordinal, bytes);
    say("unknown alone", (int)cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, 4096));
    say("no host pointer", (int)cuPointerGetAttribute(&zero, CU_POINTER_ATTRIBUTE_HOST_POINTER, plain));
    MUST(cuPointerSetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, plain));
    on = 0;
    MUST(cuPointerGetAttribute(&on, CU_POINTER_ATTRIBUTE_SYNC_MEMOPS, plain));
    say("sync", on);
}

/* The third allocation of any kind is refused by EGPU_SIM_FAULT=oom:3. */
static void fault(void) {
    CUdeviceptr address;
    CUmemGenericAllocationHandle handle;
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED, .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    begin();
    say("first", (int)cuMemAlloc_v2(&address, 1));
    say("second", (int)cuMemAllocManaged(&address, 1, CU_MEM_ATTACH_GLOBAL));
    say("third", (int)cuMemCreate(&handle, 2 * MIB, &properties, 0));
    say("fourth", (int)cuMemAllocAsync(&address, 1, NULL));
}

/* EGPU_SIM_MODULE_MIB=6: code and its globals are on the card, as long as the module is loaded. */
static void modules(void) {
    CUmodule module;
    CUdeviceptr global;
    CUcontext context = begin(), own;
    uint64_t before = used_mib();
    MUST(cuModuleLoadData(&module, "any"));
    say("loaded", (int64_t)(used_mib() - before));
    MUST(cuModuleGetGlobal_v2(&global, NULL, module, "any"));
    say("with a global", (int64_t)(used_mib() - before));
    MUST(cuModuleUnload(module));
    say("unloaded", (int64_t)(used_mib() - before));
    MUST(cuCtxCreate_v2(&own, 0, 0));
    MUST(cuModuleLoadData(&module, "any"));
    MUST(cuCtxDestroy_v2(own));
    MUST(cuCtxSetCurrent(context));
    say("its context destroyed", (int64_t)(used_mib() - before));
}

int main(int argc, char **argv) {
    static const struct memory_case cases[] = {
        {"plain", plain},   {"refused", refused},   {"pitched", pitched},
        {"host", host},     {"arrays", arrays},     {"virtual", virtual_memory},
        {"copies", copies}, {"attributes", attributes}, {"fault", fault},
        {"modules", modules},
    };
    return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
