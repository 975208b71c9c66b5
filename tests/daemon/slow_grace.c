/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For LD_PRELOAD: the kernel waits for programs before a change of a map of maps returns. Here that takes as many milliseconds more
 * as the file $SLOW_GRACE says, where it is there.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

static long (*real)(long number, ...);

static int is_map_of_maps(int fd)
{
    struct bpf_map_info info;
    union bpf_attr attr;

    memset(&attr, 0, sizeof(attr));
    memset(&info, 0, sizeof(info));
    attr.info.bpf_fd = fd;
    attr.info.info_len = sizeof(info);
    attr.info.info = (unsigned long)&info;
    return !real(SYS_bpf, (long)BPF_OBJ_GET_INFO_BY_FD, &attr, (long)sizeof(attr)) &&
           info.type == BPF_MAP_TYPE_ARRAY_OF_MAPS;
}

static void wait_longer(void)
{
    const char *path = getenv("SLOW_GRACE");
    FILE *file = path ? fopen(path, "r") : NULL;
    long ms = 0;

    if (!file)
        return;
    if (fscanf(file, "%ld", &ms) == 1) {
        struct timespec time = {ms / 1000, ms % 1000 * 1000000};

        nanosleep(&time, NULL);
    }
    fclose(file);
}

long syscall(long number, ...)
{
    long args[6], ret;
    int i, saved;
    va_list list;

    va_start(list, number);
    for (i = 0; i < 6; i++)
        args[i] = va_arg(list, long);
    va_end(list);
    if (!real)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    ret = real(number, args[0], args[1], args[2], args[3], args[4], args[5]);
    if (number == SYS_bpf && (args[0] == BPF_MAP_UPDATE_ELEM || args[0] == BPF_MAP_DELETE_ELEM)) {
        saved = errno;
        if (is_map_of_maps(((union bpf_attr *)args[1])->map_fd))
            wait_longer();
        errno = saved;
    }
    return ret;
}
