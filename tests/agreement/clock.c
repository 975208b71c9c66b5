/* For LD_PRELOAD: the wall clock always shows EDNS_AGREEMENT_TIME. A daemon takes the SERIAL of its SOA from it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    static int (*next)(clockid_t, struct timespec *);
    const char *seconds = getenv("EDNS_AGREEMENT_TIME");

    if (clock == CLOCK_REALTIME && seconds) {
        now->tv_sec = atol(seconds);
        now->tv_nsec = 0;
        return 0;
    }
    if (!next)
        next = dlsym(RTLD_NEXT, "clock_gettime");
    return next(clock, now);
}
