/*
 * loop.h - files as block devices, for kernels that mount nothing else.
 *
 * A device is read only, reads directly from the disk where the file system can, and goes with its last user (LO_FLAGS_AUTOCLEAR):
 * an fd, or what is mounted of it; so a kill leaves none. Layer: sys.  Source: Linux drivers/block/loop.c, loop(4).
 */
#pragma once
#include <stdbool.h>
#include <sys/types.h>

#define SYS_LOOP_PATH_MAX 24 /* "/dev/loop", a number */
/*
 * The loop device of file_fd (borrowed): one that there is already, else a new one. Owned fd, and its path. -ENOENT, -EPERM: there are
 * no loop devices here. Two callers at once may make two.
 */
int sys_loop_of(int file_fd, char out_path[SYS_LOOP_PATH_MAX]);
/* Calls each for every device whose file's path, as the kernel tells it, is below dir (no slash at its end); stops at non-zero. */
int sys_loop_each(const char *dir, int (*each)(void *ctx, const char *device, const char *file), void *ctx);
