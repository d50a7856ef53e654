/* child_dev.c - /dev of the container and its terminal; tmpfs copy-up. */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

static const struct plan_device standard[] = {
	{ "/dev/null", S_IFCHR | 0666, 1, 3, 0, 0 },    { "/dev/zero", S_IFCHR | 0666, 1, 5, 0, 0 },
	{ "/dev/full", S_IFCHR | 0666, 1, 7, 0, 0 },    { "/dev/random", S_IFCHR | 0666, 1, 8, 0, 0 },
	{ "/dev/urandom", S_IFCHR | 0666, 1, 9, 0, 0 }, { "/dev/tty", S_IFCHR | 0666, 5, 0, 0, 0 },
};
static const char *const links[][2] = { { "fd", "/proc/self/fd" },       { "stdin", "/proc/self/fd/0" },
					{ "stdout", "/proc/self/fd/1" }, { "stderr", "/proc/self/fd/2" },
					{ "core", "/proc/kcore" },       { "ptmx", "pts/ptmx" } };

/* Where a mount of the host's /dev stands there are no devices to be made. */
static bool dev_is_foreign(const struct plan *p)
{
	for (size_t i = 0; i < p->mounts.n; i++)
		if (!p->mounts.p[i].type && strcmp(p->mounts.p[i].target, "/dev") == 0)
			return true;
	return false;
}

/* In a user namespace mknod is refused: the host's node is bound instead, if it is that device there, too. */
static void bind_device(const struct child *c, const struct plan_device *d)
{
	child_fd int fd =
	    child_need(c, sys_open_tree(AT_FDCWD, d->path, OPEN_TREE_CLONE), "bind device", d->path);
	child_fd int at = child_target(c, d->path, 0);
	struct mount_attr only = { .attr_set = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };
	struct stat st;

	child_need(c, sys_fstat(fd, &st), "look at device", d->path);
	if ((st.st_mode & S_IFMT) != (d->mode & S_IFMT) ||
	    (!S_ISFIFO(st.st_mode) && st.st_rdev != makedev(d->major, d->minor)))
		child_fail(c, ENODEV, "the host has another device at", d->path);
	child_need(c, sys_mount_setattr(fd, "", 0, &only), "bind device", d->path);
	child_need(c, sys_move_mount(fd, at, ""), "bind device", d->path);
}

/* The node that the parent made for the i-th device of the plan; false: there is none. */
static bool bind_made(const struct child *c, const struct plan_device *d, size_t i)
{
	char name[24], *at = name + sizeof name - 1;
	child_fd int fd = -1, target = -1;

	if (c->devices_fd < 0 || d != &c->p->devices.p[i])
		return false;
	*at = 0;
	do
		*--at = (char)('0' + i % 10);
	while ((i /= 10) > 0);
	fd = sys_open_tree(c->devices_fd, at, OPEN_TREE_CLONE);
	if (fd == -ENOENT)
		return false;
	child_need(c, fd, "bind device", d->path);
	target = child_target(c, d->path, 0);
	child_need(c, sys_move_mount(fd, target, ""), "bind device", d->path);
	return true;
}

/* i: which of the plan's it is, if it is one of them; dev_fd: /dev, borrowed */
static void one_device(const struct child *c, const struct plan_device *d, size_t i, int dev_fd)
{
	char dir[4096];
	const char *name = strrchr(d->path, '/') + 1;
	child_fd int own = -1;
	int parent = dev_fd;
	struct stat st;
	dev_t dev = makedev(d->major, d->minor);
	int r;

	child_cat(dir, sizeof dir, d->path, NULL, NULL);
	dir[name - d->path] = 0;
	if (strcmp(dir, "/dev/") != 0)
		parent = own = child_target(c, dir, TARGET_DIR);
	r = sys_mknod(parent, name, d->mode, dev);
	if (r == -EPERM && bind_made(c, d, i))
		return;
	if (r == -EPERM) {
		bind_device(c, d);
		return;
	}
	if (r == -EEXIST) {
		child_need(c, sys_fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW), "look at device", d->path);
		if ((st.st_mode & S_IFMT) == (d->mode & S_IFMT) &&
		    (S_ISFIFO(st.st_mode) || st.st_rdev == dev))
			return;
	}
	child_need(c, r, "make device", d->path);
	if (d->uid || d->gid)
		child_need(c, sys_fchownat(parent, name, d->uid, d->gid, AT_SYMLINK_NOFOLLOW), "give device",
			   d->path);
}

void child_devices(struct child *c)
{
	child_fd int dev = -1;

	if (dev_is_foreign(c->p))
		return;
	/* SECURITY: a link could name any place in the root */
	dev = c->dev_fd >= 0 ? c->dev_fd : child_target(c, "/dev", TARGET_DIR | TARGET_NO_LINKS);
	c->dev_fd = -1;
	for (size_t i = 0; i < LEN(links); i++) {
		int r = sys_symlink(links[i][1], dev, links[i][0]);

		if (r == -EEXIST && !strcmp(links[i][0], "ptmx") && sys_unlink(dev, "ptmx") == 0)
			r = sys_symlink(links[i][1], dev, links[i][0]);
		if (r != -EEXIST && !(r == -EROFS))
			child_need(c, r, "make /dev/", links[i][0]);
	}
	for (size_t i = 0; i < LEN(standard); i++)
		one_device(c, &standard[i], i, dev);
	/* only what is in our mount namespace can be cloned (until Linux 6.15): for a moment it stands over
	 * the root, which we do not enter by its name */
	if (c->devices_fd >= 0)
		child_need(c, sys_move_mount(c->devices_fd, c->root_fd, ""), "place the devices", NULL);
	for (size_t i = 0; i < c->p->devices.n; i++)
		one_device(c, &c->p->devices.p[i], i, dev);
	if (c->devices_fd >= 0) {
		child_need(c, sys_fchdir(c->devices_fd), "remove the devices", NULL);
		child_need(c, sys_umount(".", 2 /* MNT_DETACH */), "remove the devices", NULL);
	}
}

/* SECURITY: what stands there in a hostile root may be any file; it is opened, but never used unless it is
 * the one (CVE-2025-52565). */
static int open_ptmx(const struct child *c)
{
	int fd = child_need(c, sys_open_in_root(c->root_fd, "dev/pts/ptmx", O_RDWR | O_NOCTTY, 0),
			    "open a terminal", "/dev/pts/ptmx");
	struct stat st;

	child_need(c, sys_fstat(fd, &st), "look at", "/dev/pts/ptmx");
	if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2) || sys_fd_magic(fd) != DEVPTS_SUPER_MAGIC)
		child_fail(c, ENODEV, "this is no devpts:", "/dev/pts/ptmx");
	return fd;
}

/* The pair comes from the container's own devpts; the master goes to the parent. */
void child_console(struct child *c)
{
	const struct plan *p = c->p;
	struct winsize size = { .ws_row = (unsigned short)p->rows, .ws_col = (unsigned short)p->cols };
	struct child_report r = { .kind = CHILD_TTY };
	int unlock = 0;
	child_fd int master = open_ptmx(c);

	child_need(c, sys_ioctl(master, TIOCSPTLCK, &unlock), "unlock the terminal", NULL);
	c->tty_fd = child_need(c, sys_ioctl_int(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC),
			       "open the terminal", NULL);
	if (p->rows && p->cols)
		child_need(c, sys_ioctl(master, TIOCSWINSZ, &size), "set the terminal's size", NULL);
	if (!p->is_exec) {
		child_fd int at = child_target(c, "/dev/console", TARGET_NO_LINKS);
		child_fd int fd = child_need(c, sys_open_tree(c->tty_fd, "", OPEN_TREE_CLONE | AT_EMPTY_PATH),
					    "bind the terminal", "/dev/console");

		child_need(c, sys_move_mount(fd, at, ""), "bind the terminal", "/dev/console");
	}
	child_need(c, (int)sys_send_fds(c->sync, &r, sizeof r, &master, 1), "hand over the terminal", NULL);
}
