/*
 * cgroup.h - the two calls only control groups need: which file system is it, and a short wait. Layer: sys.
 * Threads: any.
 */
#pragma once
#include <stdint.h>

/* statfs: the magic number of the file system at path (CGROUP2_SUPER_MAGIC …), or -errno. */
int64_t sys_fs_magic(const char *path);
/* The same of an open file, with the file system's id as it says itself. */
int64_t sys_fs_magic_fd(int fd, uint64_t *out_fsid);
/* Sleeps; the kernel gives no event for the last process leaving a v1 group. */
void sys_pause_ns(int64_t ns);
