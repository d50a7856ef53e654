/*
 * child_proc.c - /proc for our own writes: labels, sysctls, scores. SECURITY: a runtime that writes
 * "/proc/self/attr/exec" by name can be made to write a file of the container's choice, or nothing at all
 * (CVE-2019-16884, CVE-2019-19921, CVE-2025-52881). So the host's /proc is opened before the container's
 * mounts can matter, must be a procfs and its root, and nothing below it is reached through a mount. When
 * something of the host is mounted over the wanted part we make a procfs of our own that nobody else sees.
 */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <linux/magic.h>

enum { PROC_ROOT_INODE = 1 };

/* Owned fd of a procfs root, or -errno. */
static int verified(int fd)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r < 0)
		return r;
	return sys_fd_magic(fd) == PROC_SUPER_MAGIC && st.st_ino == PROC_ROOT_INODE ? fd : -ENODEV;
}

/* Shows our pid namespace; refused inside of most user namespaces. */
static int private_proc(void)
{
	child_fd int fs = sys_fsopen("proc");
	int r = fs < 0 ? fs : sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL);

	return r < 0 ? r : sys_fsmount(fs, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
}

int child_proc(struct child *c)
{
	child_fd int fd = -1;

	if (c->proc_fd >= 0)
		return c->proc_fd;
	fd = child_need(c, sys_open("/proc", O_PATH | O_DIRECTORY, 0), "open", "/proc");
	child_need(c, verified(fd), "/proc is not a proc file system:", "/proc");
	return c->proc_fd = TAKE_FD(fd);
}

void child_proc_write(struct child *c, const char *path, const char *text)
{
	child_fd int fd = sys_open_in_proc(child_proc(c), path, O_WRONLY), own = -1;

	if (fd == -EXDEV && (own = private_proc()) >= 0)
		fd = sys_open_in_proc(own, path, O_WRONLY);
	child_need(c, fd, "open in /proc:", path);
	child_need(c, (int)sys_write(fd, text, strlen(text)), "write in /proc:", path);
}
