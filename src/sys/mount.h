/*
 * mount.h - mounts, old and new API: >= 0 or -errno, no policy.
 *
 * fds of detached mounts are owned and close-on-exec. Layer: sys.  Threads: any.
 * Kernel: fsopen … move_mount 5.2, mount_setattr 5.12; the wrappers return -ENOSYS below that.
 */
#pragma once
#include <linux/mount.h>
#include <stddef.h>
#include <stdint.h>

int sys_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data);
int sys_umount(const char *target, int flags);
int sys_fsopen(const char *type);						/* owned context fd */
int sys_fsconfig(int fs_fd, unsigned cmd, const char *key, const char *value);	/* value: string or NULL */
int sys_fsmount(int fs_fd, unsigned attrs);					/* owned mount fd */
int sys_fspick(int mount_fd);							/* owned context fd to reconfigure its file system */
int sys_open_tree(int dir_fd, const char *path, unsigned flags);		/* owned fd */
int sys_move_mount(int from_fd, int to_fd, const char *to_path);		/* from: the mount fd itself */
int sys_mount_setattr(int fd, const char *path, unsigned flags, const struct mount_attr *a);
int sys_pivot_root(const char *new_root, const char *put_old);
int sys_chroot(const char *path);
int sys_chdir(const char *path);
int sys_fchdir(int fd);
/* The working directory as the kernel tells it: "(unreachable)/…" when it lies outside of the root. Returns the length. */
int sys_getcwd(char *out, size_t size);
/* fstatfs: the magic number of the file system fd is in. */
int64_t sys_fd_magic(int fd);
