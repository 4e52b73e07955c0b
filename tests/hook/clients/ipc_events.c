/* An event that two processes know: what one records, the other waits for. Prints what differs.
 *
 * The child has its own context and its own queue; the parent's kernel comes after the child's. */
#include <stdint.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spin.h"

enum { CHILD_US = 5000, PARENT_US = 100 };

static void child(int to_parent, int from_parent) {
    CUipcEventHandle told;
    CUevent event;
    char go;
    open_card();
    DO(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING));
    EXPECT(cuIpcGetEventHandle(&told, event), CUDA_ERROR_INVALID_VALUE); /* not for other processes */
    DO(cuEventCreate(&event, CU_EVENT_DISABLE_TIMING | CU_EVENT_INTERPROCESS));
    DO(cuIpcGetEventHandle(&told, event));
    launch(NULL, CHILD_US);
    DO(cuEventRecord(event, NULL));
    EXPECT(write(to_parent, &told, sizeof told), (long)sizeof told);
    egpuSimDetach();
    EXPECT(read(from_parent, &go, 1), 1);
    DO(cuCtxSynchronize());
    egpuSimDetach();
}

int main(void) {
    CUipcEventHandle told;
    int up[2], down[2];
    CUevent event = NULL;
    if (pipe(up) != 0 || pipe(down) != 0) return 2;
    pid_t other = fork();
    if (other == 0) {
        child(up[1], down[0]);
        _exit(failures);
    }
    EXPECT(read(up[0], &told, sizeof told), (long)sizeof told);
    open_card();
    DO(cuIpcOpenEventHandle(&event, told));
    EXPECT(cuEventQuery(event), CUDA_ERROR_NOT_READY);
    DO(cuStreamWaitEvent(NULL, event, 0));
    launch(NULL, PARENT_US);
    DO(cuCtxSynchronize());
    DO(cuEventSynchronize(event));
    EXPECT(egpuSimNow() / 1000 % 1000000 >= CHILD_US + PARENT_US, 1);
    told.reserved[0]++;
    CUevent none;
    EXPECT(cuIpcOpenEventHandle(&none, told), CUDA_ERROR_INVALID_VALUE);
    EXPECT(write(down[1], "g", 1), 1);
    egpuSimDetach();
    int status = 0;
    waitpid(other, &status, 0);
    EXPECT(status, 0);
    DO(cuEventDestroy_v2(event));
    return failures != 0;
}
