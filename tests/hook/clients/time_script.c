/* A client that does what its arguments say, in order: every driver call of the tests about time is a word here.
 *
 * An argument is words joined by ":". Streams and events are numbers: stream 0 is the legacy stream, others are made
 * when first named. What a command finds out is printed as one line. A result that is not CUDA_SUCCESS is printed as
 * "error COMMAND NUMBER" and the script goes on. */
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "driver_calls.h"

#define HANDLES_MAX 64
#define WORDS_MAX 8

static CUstream streams[HANDLES_MAX];
static CUevent events[HANDLES_MAX];
static CUgraph graphs[HANDLES_MAX];
static CUgraphExec execs[HANDLES_MAX];
static CUmodule module;
static CUfunction spin;
static uint64_t began;
static const char *words[WORDS_MAX];
static const char *current;

static void complain(CUresult result)
{
    if (result != CUDA_SUCCESS)
        printf("error %s %d\n", current, (int)result);
}

static unsigned number(int word)
{
    return words[word] != NULL ? (unsigned)strtoul(words[word], NULL, 0) : 0;
}

static unsigned handle(int word)
{
    return number(word) % HANDLES_MAX;
}

static CUstream stream(int word)
{
    unsigned index = handle(word);

    if (index > 0 && streams[index] == NULL)
        complain(cuStreamCreate(&streams[index], CU_STREAM_NON_BLOCKING));
    return streams[index];
}

static CUevent event(int word)
{
    unsigned index = handle(word);

    if (events[index] == NULL)
        complain(cuEventCreate(&events[index], CU_EVENT_DEFAULT));
    return events[index];
}

static uint64_t now(void)
{
    struct timespec time;

    if (egpuSimNow() != 0)
        return egpuSimNow();
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000U + (uint64_t)time.tv_nsec;
}

static void open_card(void)
{
    CUcontext context;

    complain(cuInit(0));
    complain(cuCtxCreate_v2(&context, 0, (CUdevice)number(1)));
    complain(cuModuleLoadData(&module, "any"));
    complain(cuModuleGetFunction(&spin, module, "egpu_spin_us"));
}

/* launch:STREAM:US:COUNT:FORM */
static void launch(void)
{
    unsigned us = number(2);
    unsigned count = words[3] != NULL ? number(3) : 1;
    const char *form = words[4] != NULL ? words[4] : "plain";
    void *parameters[] = {&us};
    CUlaunchConfig config = {1, 1, 1, 1, 1, 1, 0, stream(1), NULL, 0};

    for (unsigned index = 0; index < count; index++) {
        if (strcmp(form, "ex") == 0)
            complain(cuLaunchKernelEx(&config, spin, parameters, NULL));
        else if (strcmp(form, "cooperative") == 0)
            complain(cuLaunchCooperativeKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream(1), parameters));
        else
            complain(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream(1), parameters, NULL));
    }
}

static void kernel_named(void)
{
    CUfunction function;

    complain(cuModuleGetFunction(&function, module, words[2]));
    complain(cuLaunchKernel(function, 1, 1, 1, 1, 1, 1, 0, stream(1), NULL, NULL));
}

/* flood:STREAM:US:UNTIL_MS: as many as fit until that time after the start */
static void flood(void)
{
    unsigned us = number(2);
    void *parameters[] = {&us};
    uint64_t end = began + (uint64_t)number(3) * 1000000U;
    unsigned count = 0;

    while (now() < end) {
        complain(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, stream(1), parameters, NULL));
        count++;
    }
    printf("launched %u\n", count);
}

static void host_function(void *data)
{
    egpuSimSleep((uint64_t)(uintptr_t)data * 1000U);
    printf("host at %llu\n", (unsigned long long)((now() - began) / 1000U));
}

static void callback(CUstream on, CUresult status, void *data)
{
    (void)on;
    printf("callback %d\n", (int)status);
    host_function(data);
}

static void elapsed(void)
{
    float milliseconds = 0;
    CUresult result = cuEventElapsedTime(&milliseconds, event(1), event(2));

    complain(result);
    if (result == CUDA_SUCCESS)
        printf("elapsed %.0f\n", (double)milliseconds * 1000.0);
}

static void fork_child(void)
{
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        printf("child init %d\n", (int)cuInit(0));
        fflush(stdout);
        _exit(0);
    }
    egpuSimDetach();
    waitpid(child, NULL, 0);
}

static void *run_thread(void *text);

/* thread:WORDS/WORDS...: the rest of the argument is a script of its own, "," between words, "/" between commands */
static void thread(const char *text)
{
    pthread_t handle_of_thread;

    egpuSimExpect(1);
    pthread_create(&handle_of_thread, NULL, run_thread, (void *)(uintptr_t)text);
    egpuSimDetach();
    pthread_join(handle_of_thread, NULL);
}

static void *launch_in_own_stream(void *opened)
{
    unsigned us = number(2);
    void *parameters[] = {&us};

    complain(cuCtxSetCurrent(opened));
    complain(cuLaunchKernel(spin, 1, 1, 1, 1, 1, 1, 0, CU_STREAM_PER_THREAD, parameters, NULL));
    return NULL;
}

/* churn:COUNT:US: threads that come, launch in the stream of the thread, and go */
static void churn(void)
{
    CUcontext opened = NULL;
    pthread_t one;

    complain(cuCtxGetCurrent(&opened));
    for (unsigned index = 0; index < number(1); index++) {
        egpuSimExpect(1);
        pthread_create(&one, NULL, launch_in_own_stream, opened);
        egpuSimDetach();
        pthread_join(one, NULL);
    }
}

static void graph_commands(void)
{
    if (strcmp(words[0], "capture") == 0)
        complain(cuStreamBeginCapture_v2(stream(1), number(2)));
    else if (strcmp(words[0], "endcapture") == 0)
        complain(cuStreamEndCapture(stream(1), &graphs[handle(2)]));
    else if (strcmp(words[0], "instantiate") == 0)
        complain(cuGraphInstantiateWithFlags(&execs[handle(1)], graphs[handle(1)], 0));
    else if (strcmp(words[0], "graph") == 0)
        complain(cuGraphLaunch(execs[handle(1)], stream(2)));
    else if (strcmp(words[0], "capturing") == 0) {
        CUstreamCaptureStatus status = 0;

        complain(cuStreamIsCapturing(stream(1), &status));
        printf("capturing %u\n", status);
    } else if (strcmp(words[0], "nodes") == 0) {
        size_t count = 0;

        complain(cuGraphGetNodes(graphs[handle(1)], NULL, &count));
        printf("nodes %zu\n", count);
    } else
        printf("unknown %s\n", words[0]);
}

static void command(void)
{
    const char *verb = words[0];

    if (strcmp(verb, "open") == 0)
        open_card();
    else if (strcmp(verb, "init") == 0)
        complain(cuInit(0));
    else if (strcmp(verb, "launch") == 0)
        launch();
    else if (strcmp(verb, "kernel") == 0)
        kernel_named();
    else if (strcmp(verb, "flood") == 0)
        flood();
    else if (strcmp(verb, "sync") == 0)
        complain(cuStreamSynchronize(stream(1)));
    else if (strcmp(verb, "synccontext") == 0)
        complain(cuCtxSynchronize());
    else if (strcmp(verb, "query") == 0)
        printf("query %d\n", (int)cuStreamQuery(stream(1)));
    else if (strcmp(verb, "record") == 0)
        complain(cuEventRecord(event(1), stream(2)));
    else if (strcmp(verb, "waitevent") == 0)
        complain(cuStreamWaitEvent(stream(1), event(2), 0));
    else if (strcmp(verb, "syncevent") == 0)
        complain(cuEventSynchronize(event(1)));
    else if (strcmp(verb, "queryevent") == 0)
        printf("queryevent %d\n", (int)cuEventQuery(event(1)));
    else if (strcmp(verb, "elapsed") == 0)
        elapsed();
    else if (strcmp(verb, "host") == 0)
        complain(cuLaunchHostFunc(stream(1), host_function, (void *)(uintptr_t)number(2)));
    else if (strcmp(verb, "callback") == 0)
        complain(cuStreamAddCallback(stream(1), callback, (void *)(uintptr_t)number(2), 0));
    else if (strcmp(verb, "sleep") == 0)
        egpuSimSleep((uint64_t)number(1) * 1000U);
    else if (strcmp(verb, "now") == 0)
        printf("now %llu\n", (unsigned long long)((now() - began) / 1000U));
    else if (strcmp(verb, "churn") == 0)
        churn();
    else if (strcmp(verb, "fork") == 0)
        fork_child();
    else if (strcmp(verb, "kill") == 0)
        raise(SIGKILL);
    else if (strcmp(verb, "pause") == 0)
        usleep(number(1) * 1000U);
    else if (strcmp(verb, "exchange") == 0) {
        CUstreamCaptureMode mode = number(1);

        complain(cuThreadExchangeStreamCaptureMode(&mode));
    } else
        graph_commands();
}

static void split(char *text, const char *separators)
{
    char *rest = NULL;

    memset(words, 0, sizeof(words));
    for (int word = 0; word < WORDS_MAX; word++) {
        words[word] = strtok_r(word == 0 ? text : NULL, separators, &rest);
        if (words[word] == NULL)
            break;
    }
}

static void *run_thread(void *text)
{
    CUcontext context = NULL;
    char *rest = NULL;
    char *copy = strdup(text);

    complain(cuDevicePrimaryCtxRetain(&context, 0));
    complain(cuCtxSetCurrent(context));
    for (char *one = strtok_r(copy, "/", &rest); one != NULL; one = strtok_r(NULL, "/", &rest)) {
        current = one;
        split(one, ",");
        command();
    }
    free(copy);
    return NULL;
}

int main(int count, char **arguments)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (int index = 1; index < count; index++) {
        char *copy = strdup(arguments[index]);

        current = arguments[index];
        if (strncmp(copy, "thread:", 7) == 0) {
            thread(copy + 7);
            continue;
        }
        split(copy, ":");
        command();
        if (began == 0)
            began = now();
        fflush(stdout);
    }
    return 0;
}
