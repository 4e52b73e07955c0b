/* Several processes and one card: memory by handle, memory that outlives its maker, eviction of another's pages.
 * The processes are made before any call of the driver, and go on by turns over a pipe each. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "memory_client.h"

static int to_child[2], to_parent[2], descriptors[2];

/* The other side may now go on; what was written before is there. */
static void pass(int file, const void *data, size_t bytes) {
    egpuSimDetach();
    fflush(stdout);
    if (write(file, data, bytes) != (ssize_t)bytes)
        exit(3);
}

static void await(int file, void *data, size_t bytes) {
    egpuSimDetach();
    if (read(file, data, bytes) != (ssize_t)bytes)
        exit(4);
}

static void turn_of_child(void) { pass(to_child[1], "", 1); }
static void turn_of_parent(void) { pass(to_parent[1], "", 1); }

static void await_child(void) {
    char byte;
    await(to_parent[0], &byte, 1);
}

static void await_parent(void) {
    char byte;
    await(to_child[0], &byte, 1);
}

static pid_t fork_with(void (*child)(void)) {
    if (pipe(to_child) || pipe(to_parent) || socketpair(AF_UNIX, SOCK_STREAM, 0, descriptors))
        exit(5);
    fflush(stdout);
    pid_t process = fork();
    /* Each side keeps its own ends: who fails ends the other's waiting. */
    close(process != 0 ? to_child[0] : to_child[1]);
    close(process != 0 ? to_parent[1] : to_parent[0]);
    close(process != 0 ? descriptors[0] : descriptors[1]);
    if (process != 0)
        return process;
    child();
    fflush(stdout);
    _exit(0);
}

static void killed(pid_t process) {
    egpuSimDetach();
    kill(process, SIGKILL);
    waitpid(process, NULL, 0);
}

static void handle_user(void) {
    CUipcMemHandle handle;
    CUdeviceptr address, again;
    unsigned value;
    begin();
    await(to_child[0], &handle, sizeof handle);
    uint64_t before = used_mib();
    say("no flag", (int)cuIpcOpenMemHandle_v2(&address, handle, 0));
    MUST(cuIpcOpenMemHandle_v2(&address, handle, 1));
    MUST(cuIpcOpenMemHandle_v2(&again, handle, 1));
    say("the same address", address == again);
    say("costs", (int64_t)(used_mib() - before));
    MUST(cuMemcpyDtoH_v2(&value, address, sizeof value));
    say("owner wrote", value);
    MUST(cuMemsetD32_v2(address, 43, 1));
    say("cuMemFree", (int)cuMemFree_v2(address));
    turn_of_parent();
    await_parent();
    MUST(cuIpcCloseMemHandle(again));
    MUST(cuIpcCloseMemHandle(address));
    say("closed too often", (int)cuIpcCloseMemHandle(address));
    say("after its owner freed it", (int)cuIpcOpenMemHandle_v2(&address, handle, 1));
    turn_of_parent();
}

static void handles(void) {
    CUdeviceptr address, managed;
    CUipcMemHandle handle;
    unsigned value;
    pid_t user = fork_with(handle_user);
    begin();
    MUST(cuMemAlloc_v2(&managed, 4096));
    MUST(cuMemAlloc_v2(&address, 4 * MIB));
    MUST(cuMemsetD32_v2(address, 42, 1));
    MUST(cuIpcGetMemHandle(&handle, address));
    say("its own handle", (int)cuIpcOpenMemHandle_v2(&managed, handle, 1));
    pass(to_child[1], &handle, sizeof handle);
    await_child();
    MUST(cuMemcpyDtoH_v2(&value, address, sizeof value));
    say("user wrote", value);
    MUST(cuMemFree_v2(address));
    MUST(cuMemAllocManaged(&managed, 4096, CU_MEM_ATTACH_GLOBAL));
    say("managed memory", (int)cuIpcGetMemHandle(&handle, managed));
    turn_of_child();
    await_child();
    waitpid(user, NULL, 0);
}

static void send_descriptor(int socket, int descriptor) {
    char byte = 0, room[CMSG_SPACE(sizeof(int))] = "";
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &descriptor, sizeof descriptor);
    egpuSimDetach();
    if (sendmsg(socket, &message, 0) != 1)
        exit(6);
}

static int receive_descriptor(int socket) {
    char byte, room[CMSG_SPACE(sizeof(int))];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
    int descriptor;
    egpuSimDetach();
    if (recvmsg(socket, &message, 0) != 1)
        exit(7);
    memcpy(&descriptor, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof descriptor);
    return descriptor;
}

struct pool_message {
    CUmemPoolPtrExportData first, second;
};

static void pool_user(void) {
    struct pool_message message;
    CUmemoryPool pool;
    CUdeviceptr one, two;
    unsigned value;
    begin();
    int descriptor = receive_descriptor(descriptors[0]);
    await(to_child[0], &message, sizeof message);
    uint64_t before = used_mib();
    MUST(cuMemPoolImportFromShareableHandle(&pool, (void *)(intptr_t)descriptor, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    MUST(cuMemPoolImportPointer(&one, pool, &message.first));
    MUST(cuMemPoolImportPointer(&two, pool, &message.second));
    say("costs", (int64_t)(used_mib() - before));
    MUST(cuMemcpyDtoH_v2(&value, two, sizeof value));
    say("owner wrote", value);
    MUST(cuMemsetD32_v2(one, 46, 1));
    say("allocates nothing", (int)cuMemAllocFromPoolAsync(&one, 1, pool, NULL));
    MUST(cuMemFreeAsync(one, NULL));
    MUST(cuMemFree_v2(two));
    say("freed twice", (int)cuMemFree_v2(two));
    turn_of_parent();
}

static void pool_sharing(void) {
    CUmemPoolProps properties = {.allocType = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .handleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                 .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    struct pool_message message;
    CUmemoryPool pool, plain;
    CUdeviceptr one, two;
    unsigned value;
    int descriptor;
    pid_t user = fork_with(pool_user);
    begin();
    MUST(cuMemPoolCreate(&pool, &properties));
    MUST(cuMemPoolExportToShareableHandle(&descriptor, pool, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    MUST(cuDeviceGetDefaultMemPool(&plain, 0));
    say("not made for it", (int)cuMemPoolExportToShareableHandle(&descriptor, plain, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    MUST(cuMemAllocFromPoolAsync(&one, 4096, pool, NULL));
    MUST(cuMemAllocFromPoolAsync(&two, 4096, pool, NULL));
    MUST(cuMemsetD32_v2(two, 45, 1));
    MUST(cuMemPoolExportPointer(&message.first, one));
    MUST(cuMemPoolExportPointer(&message.second, two));
    send_descriptor(descriptors[1], descriptor);
    pass(to_child[1], &message, sizeof message);
    await_child();
    MUST(cuMemcpyDtoH_v2(&value, one, sizeof value));
    say("user wrote", value);
    waitpid(user, NULL, 0);
}

static CUmemGenericAllocationHandle own_handle(void) {
    CUmemAllocationProp properties = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                      .requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
                                      .location = {CU_MEM_LOCATION_TYPE_DEVICE, 0}};
    CUmemGenericAllocationHandle handle;
    MUST(cuMemCreate(&handle, 64 * MIB, &properties, 0));
    return handle;
}

static CUdeviceptr map(CUmemGenericAllocationHandle handle) {
    CUmemAccessDesc access = {{CU_MEM_LOCATION_TYPE_DEVICE, 0}, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUdeviceptr address;
    MUST(cuMemAddressReserve(&address, 64 * MIB, 0, 0, 0));
    MUST(cuMemMap(address, 64 * MIB, 0, handle, 0));
    MUST(cuMemSetAccess(address, 64 * MIB, &access, 1));
    return address;
}

static void exporter(void) {
    await_parent();
    begin();
    CUmemGenericAllocationHandle handle = own_handle();
    int descriptor;
    MUST(cuMemsetD32_v2(map(handle), 44, 1));
    MUST(cuMemExportToShareableHandle(&descriptor, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
    send_descriptor(descriptors[0], descriptor);
    await_parent();
}

/* The memory lives on with its importer, who then pays for it. */
static void exports(void) {
    CUmemGenericAllocationHandle handle;
    unsigned value;
    pid_t maker = fork_with(exporter);
    begin();
    uint64_t before = used_mib();
    turn_of_child();
    int descriptor = receive_descriptor(descriptors[1]);
    say("with its maker", (int64_t)(used_mib() - before));
    MUST(cuMemImportFromShareableHandle(&handle, (void *)(intptr_t)descriptor, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
    CUdeviceptr address = map(handle);
    say("imported", (int64_t)(used_mib() - before));
    killed(maker);
    say("maker killed", (int64_t)(used_mib() - before));
    MUST(cuMemcpyDtoH_v2(&value, address, sizeof value));
    say("maker wrote", value);
    MUST(cuMemUnmap(address, 64 * MIB));
    MUST(cuMemRelease(handle));
    say("released", (int64_t)(used_mib() - before));
    say("no descriptor of ours", (int)cuMemImportFromShareableHandle(&handle, NULL, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR));
}

static void victim(void) {
    CUdeviceptr address, plain;
    CUmemoryPool pool;
    CUmemGenericAllocationHandle handle;
    begin();
    MUST(cuMemAlloc_v2(&plain, 100 * MIB));
    MUST(cuMemAllocManaged(&address, 500 * MIB, CU_MEM_ATTACH_GLOBAL));
    touch(address, 500 * MIB, 1, NULL);
    MUST(cuDeviceGetDefaultMemPool(&pool, 0));
    MUST(cuMemAllocAsync(&plain, 50 * MIB, NULL));
    handle = own_handle();
    map(handle);
    turn_of_parent();
    await_parent();
    uint64_t began = egpuSimNow();
    touch(address, 500 * MIB, 1, NULL);
    MUST(cuCtxSynchronize());
    say("back again us", (int64_t)(egpuSimNow() - began) / 10000 * 10);
    turn_of_parent();
    await_parent();
}

/* A card of 1,024 MiB; 24 MiB a context. */
static void eviction(void) {
    CUdeviceptr address, plain;
    pid_t other = fork_with(victim);
    await_child();
    begin();
    say("its use and our context", (int64_t)used_mib());
    MUST(cuMemAllocManaged(&address, 400 * MIB, CU_MEM_ATTACH_GLOBAL));
    touch(address, 400 * MIB, 1, NULL);
    MUST(cuCtxSynchronize());
    say("full", (int64_t)used_mib());
    turn_of_child();
    await_child();
    say("still full", (int64_t)used_mib());
    killed(other);
    say("its plain part too much for it alone", (int)cuMemAlloc_v2(&plain, 590 * MIB));
    say("other killed", (int64_t)used_mib());
}

/* A fork's child cannot use the driver, and gives none of its parent's memory back. */
static void forked(void) {
    CUdeviceptr address, own;
    begin();
    MUST(cuMemAlloc_v2(&address, 64 * MIB));
    egpuSimDetach();
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        say("child's cuInit", (int)cuInit(0));
        say("parent's memory", (int)cuMemFree_v2(address));
        say("its own", (int)cuMemAlloc_v2(&own, 1));
        fflush(stdout);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    say("parent after it", (int64_t)used_mib());
    MUST(cuMemFree_v2(address));
    say("parent free", (int64_t)used_mib());
}

int main(int argc, char **argv) {
    static const struct memory_case cases[] = {
        {"handles", handles}, {"pool_sharing", pool_sharing}, {"exports", exports}, {"eviction", eviction}, {"forked", forked}};
    return run_case(cases, sizeof cases / sizeof cases[0], argc, argv);
}
