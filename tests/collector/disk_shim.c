/* LD_PRELOAD: a disk that is slow or broken, and a process that dies at its n-th sync.
 *
 * SHIM_SYNC_MS        every sync takes so many milliseconds more
 * SHIM_FAIL_WHILE     syncs fail with EIO while this file exists
 * SHIM_KILL_BEFORE=n  SIGKILL when the n-th sync is asked for: written, not durable
 * SHIM_KILL_AFTER=n   SIGKILL when the n-th sync has returned: durable, nobody was told
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long number_of(const char *name)
{
	const char *text = getenv(name);
	return text ? atol(text) : 0;
}

static int sync_as(const char *name, int descriptor)
{
	static long count;
	int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
	const char *fails_while = getenv("SHIM_FAIL_WHILE");
	const long mine = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
	const long delay_ms = number_of("SHIM_SYNC_MS");
	if (delay_ms) {
		struct timespec delay = {delay_ms / 1000, delay_ms % 1000 * 1000000};
		nanosleep(&delay, NULL);
	}
	if (fails_while && !access(fails_while, F_OK)) {
		errno = EIO;
		return -1;
	}
	if (mine == number_of("SHIM_KILL_BEFORE"))
		raise(SIGKILL);
	int result = real(descriptor);
	if (mine == number_of("SHIM_KILL_AFTER"))
		raise(SIGKILL);
	return result;
}

int fsync(int descriptor) { return sync_as("fsync", descriptor); }

int fdatasync(int descriptor) { return sync_as("fdatasync", descriptor); }
