/* LD_PRELOAD: a disk that is slow or broken, and a process that dies at its n-th sync.
 *
 * SHIM_SLOW_WHILE     every sync takes 0.4 s more while this file exists
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
	const char *slow_while = getenv("SHIM_SLOW_WHILE");
	const char *fails_while = getenv("SHIM_FAIL_WHILE");
	const long mine = __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST);
	if (slow_while && !access(slow_while, F_OK))
		nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
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
