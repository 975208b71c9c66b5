/* LD_PRELOAD: while the file that NO_INSTANCES names is there, inotify_init1() fails as where the user has as many instances as
 * it may; the same of NO_WATCHES and inotify_add_watch(). Both limits are the user's, who has other programs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

static int is_there(const char *variable)
{
	const char *file = getenv(variable);

	return file && !access(file, F_OK);
}

int inotify_init1(int flags)
{
	int (*next)(int) = (int (*)(int))dlsym(RTLD_NEXT, "inotify_init1");

	if (is_there("NO_INSTANCES")) {
		errno = EMFILE;
		return -1;
	}
	return next(flags);
}

int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	int (*next)(int, const char *, uint32_t) = (int (*)(int, const char *, uint32_t))dlsym(RTLD_NEXT, "inotify_add_watch");

	if (is_there("NO_WATCHES")) {
		errno = ENOSPC;
		return -1;
	}
	return next(fd, path, mask);
}
