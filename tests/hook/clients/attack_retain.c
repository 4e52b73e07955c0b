/* All threads of a program make the primary context at the same time: it is one, and charged once. */
#include <pthread.h>

#include "memory_client.h"

enum { THREADS = 4, ROUNDS = 200 };

static pthread_barrier_t together;

static void *retain(void *unused) {
    CUcontext context;
    for (int round = 0; round < ROUNDS; round++) {
        pthread_barrier_wait(&together);
        MUST(cuDevicePrimaryCtxRetain(&context, 0));
        pthread_barrier_wait(&together);
        MUST(cuDevicePrimaryCtxRelease_v2(0));
    }
    return unused;
}

int main(void) {
    pthread_t threads[THREADS];
    MUST(cuInit(0));
    pthread_barrier_init(&together, NULL, THREADS);
    for (int each = 0; each < THREADS; each++) pthread_create(&threads[each], NULL, retain, NULL);
    for (int each = 0; each < THREADS; each++) pthread_join(threads[each], NULL);
    begin();
    say("used_mib", (int64_t)used_mib());
    return 0;
}
