#include "sys/self.h"
#include "base/own.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/statfs.h>
#include <sys/syscall.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x0010U /* 6.3 */
#endif
enum {
	ALL_SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE,
	MOUNTED_READ_ONLY = 1 /* ST_RDONLY */
};

extern char **environ;

int sys_self_is_shielded(void)
{
	auto_fd int fd = sys_open("/proc/self/exe", O_RDONLY, 0);
	struct statfs s;
	int seals;

	if (fd < 0)
		return fd;
	SYS_FAULT("fstatfs");
	if (fstatfs(fd, &s) < 0)
		return -errno;
	if (s.f_flags & MOUNTED_READ_ONLY)
		return 1;
	seals = fcntl(fd, F_GET_SEALS);
	return seals >= 0 && (seals & F_SEAL_WRITE) != 0;
}

static int read_only_clone(const char *path)
{
	struct mount_attr ro = { .attr_set = MOUNT_ATTR_RDONLY };
	auto_fd int fd = sys_open_tree(AT_FDCWD, path, OPEN_TREE_CLONE);
	int r = fd < 0 ? fd : sys_mount_setattr(fd, "", 0, &ro);

	return r < 0 ? r : TAKE_FD(fd);
}

static int exec_memfd(void)
{
	int fd;

	SYS_FAULT("memfd_create");
	fd = sys_ret(memfd_create("hoy", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC));
	return fd == -EINVAL ? sys_ret(memfd_create("hoy", MFD_CLOEXEC | MFD_ALLOW_SEALING)) : fd;
}

int sys_shield_copy(const char *path)
{
	auto_fd int from = sys_open(path, O_RDONLY, 0), to = from < 0 ? -1 : exec_memfd();
	ssize_t n;

	if (from < 0 || to < 0)
		return from < 0 ? from : to;
	do
		n = sys_copy_range(from, to, 1 << 24);
	while (n > 0);
	if (n < 0)
		return (int)n;
	if (fcntl(to, F_ADD_SEALS, ALL_SEALS) < 0)
		return -errno;
	return TAKE_FD(to);
}

int sys_shield(const char *path)
{
	auto_fd int fd = read_only_clone(path);

	/* no rights for mounts, or a kernel or filter without these calls */
	if (fd == -EPERM || fd == -ENOSYS || fd == -EINVAL)
		fd = sys_shield_copy(path);
	return fd < 0 ? fd : sys_ret(fcntl(fd, F_DUPFD_CLOEXEC, SHIELD_FD_MIN));
}

int sys_shield_exec(int fd, char *const argv[])
{
	SYS_FAULT("execveat");
	return sys_ret(syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH));
}
