#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stddef.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

/* <sys/mount.h> and <linux/mount.h> collide in glibc 2.36: the two calls needed from the former */
extern int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data);
extern int umount2(const char *target, int flags);

int sys_mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)
{
	SYS_FAULT("mount");
	return sys_ret(mount(source, target, type, flags, data));
}

int sys_umount(const char *target, int flags)
{
	SYS_FAULT("umount2");
	return sys_ret(umount2(target, flags));
}

int sys_fsopen(const char *type)
{
	SYS_FAULT("fsopen");
	return sys_ret(syscall(SYS_fsopen, type, FSOPEN_CLOEXEC));
}

int sys_fsconfig(int fs_fd, unsigned cmd, const char *key, const char *value)
{
	SYS_FAULT("fsconfig");
	return sys_ret(syscall(SYS_fsconfig, fs_fd, cmd, key, value, 0));
}

int sys_fsmount(int fs_fd, unsigned attrs)
{
	SYS_FAULT("fsmount");
	return sys_ret(syscall(SYS_fsmount, fs_fd, FSMOUNT_CLOEXEC, attrs));
}

int sys_fspick(int mount_fd)
{
	SYS_FAULT("fspick");
	return sys_ret(syscall(SYS_fspick, mount_fd, "", FSPICK_CLOEXEC | FSPICK_EMPTY_PATH));
}

int sys_open_tree(int dir_fd, const char *path, unsigned flags)
{
	SYS_FAULT("open_tree");
	return sys_ret(syscall(SYS_open_tree, dir_fd, path, flags | OPEN_TREE_CLOEXEC));
}

int sys_move_mount(int from_fd, int to_fd, const char *to_path)
{
	unsigned flags = MOVE_MOUNT_F_EMPTY_PATH | (to_path[0] ? 0 : MOVE_MOUNT_T_EMPTY_PATH);

	SYS_FAULT("move_mount");
	return sys_ret(syscall(SYS_move_mount, from_fd, "", to_fd, to_path, flags));
}

int sys_mount_setattr(int fd, const char *path, unsigned flags, const struct mount_attr *a)
{
	SYS_FAULT("mount_setattr");
	return sys_ret(syscall(SYS_mount_setattr, fd, path, flags | (path[0] ? 0 : AT_EMPTY_PATH), a, sizeof *a));
}

int sys_pivot_root(const char *new_root, const char *put_old)
{
	SYS_FAULT("pivot_root");
	return sys_ret(syscall(SYS_pivot_root, new_root, put_old));
}

int sys_chroot(const char *path)
{
	SYS_FAULT("chroot");
	return sys_ret(chroot(path));
}

int sys_chdir(const char *path)
{
	SYS_FAULT("chdir");
	return sys_ret(chdir(path));
}

int sys_fchdir(int fd)
{
	SYS_FAULT("fchdir");
	return sys_ret(fchdir(fd));
}

/* Not getcwd(3), which walks up by itself when the kernel says "(unreachable)", and allocates. */
int sys_getcwd(char *out, size_t size)
{
	SYS_FAULT("getcwd");
	return sys_ret(syscall(SYS_getcwd, out, size));
}

int64_t sys_fd_magic(int fd)
{
	struct statfs s;

	SYS_FAULT("fstatfs");
	return fstatfs(fd, &s) < 0 ? sys_ret(-1) : (int64_t)s.f_type;
}
