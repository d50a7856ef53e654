/*
 * overlay.c - overlay mounts, on kernels that take each layer by itself and on those that do not; see fs.h.
 */
#include "base/own.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/socket.h>

enum { DETACH = 2 }; /* umount2's MNT_DETACH: <sys/mount.h> and <linux/mount.h> do not go together */

/* fsconfig takes strings of at most 255 bytes, and upperdir reads a backslash as an escape: such paths go by
 * an fd. */
static int set_path(int fs, const char *key, const char *path, int *fd)
{
	char text[32], *at = text + sizeof text;
	int n;

	*fd = -1;
	if (strlen(path) < 250 && !strchr(path, '\\'))
		return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, path);
	if ((*fd = sys_open(path, O_PATH | O_DIRECTORY, 0)) < 0)
		return *fd;
	n = *fd;
	*--at = 0;
	do
		*--at = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	at -= sizeof "/proc/self/fd/" - 1;
	memcpy(at, "/proc/self/fd/", sizeof "/proc/self/fd/" - 1);
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, at);
}

static int one_path(int fs, const char *key, const char *path)
{
	auto_fd int fd = -1;

	return set_path(fs, key, path, &fd); /* the kernel resolves it at once */
}

/* Makes the mount of what was configured so far. */
static int overlay_finish(int fs, const struct fs_overlay *o, unsigned attrs)
{
	static const char *const off[] = { "index", "metacopy", "redirect_dir" };
	size_t n = sizeof off / sizeof *off - o->is_user; /* user attributes never redirect, and bear no word of it */
	int r = 0;

	for (size_t i = 0; o->upper && i < n; i++)
		(void)sys_fsconfig(fs, FSCONFIG_SET_STRING, off[i],
				   "off"); /* a kernel without it has it off */
	if (o->is_user)
		r = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "userxattr", NULL);
	if (r >= 0 && o->upper && o->is_volatile)
		r = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "volatile", NULL);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
	return r < 0 ? r : sys_fsmount(fs, attrs);
}

static int overlay_new(const struct fs_overlay *o, unsigned attrs)
{
	auto_fd int fs = sys_fsopen("overlay");
	int r = fs < 0 ? fs : 0;

	for (size_t i = 0; r >= 0 && i < o->n_lower; i++)
		r = one_path(fs, "lowerdir+", o->lower[i]);
	if (r >= 0 && o->upper && (r = one_path(fs, "upperdir", o->upper)) >= 0)
		r = one_path(fs, "workdir", o->work);
	return r < 0 ? r : overlay_finish(fs, o, attrs);
}

static bool starts(const char *text, const char *with)
{
	return strncmp(text, with, strlen(with)) == 0;
}

static bool is_described(const char *lower)
{
	return starts(lower, FS_LOWER_EROFS) || starts(lower, FS_LOWER_FD);
}

static bool any_described(const struct fs_overlay *o)
{
	for (size_t i = 0; i < o->n_lower; i++)
		if (is_described(o->lower[i]))
			return true;
	return false;
}

static int fd_number(const char *digits)
{
	int n = 0;

	while (*digits >= '0' && *digits <= '9' && n < 1 << 20)
		n = n * 10 + (*digits++ - '0');
	return n;
}

int fs_lower_mount(const char *lower)
{
	char device[64];
	size_t n;

	if (starts(lower, FS_LOWER_FD))
		return sys_dup(fd_number(lower + sizeof FS_LOWER_FD - 1));
	if (!is_described(lower))
		return sys_open_tree(AT_FDCWD, lower, OPEN_TREE_CLONE);
	lower += sizeof FS_LOWER_EROFS - 1;
	n = strcspn(lower, ":");
	if (n >= sizeof device || !lower[n])
		return -EINVAL;
	memcpy(device, lower, n);
	device[n] = 0;
	return fs_erofs_mount(device, lower + n + 1);
}

int fs_erofs_mount(const char *source, const char *device)
{
	auto_fd int fs = sys_fsopen("erofs");
	int r = fs < 0 ? fs : sys_fsconfig(fs, FSCONFIG_SET_STRING, "source", source);

	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "device", device);
	if (r >= 0) /* what is mounted writable is opened so, and these devices are not */
		r = sys_fsconfig(fs, FSCONFIG_SET_FLAG, "ro", NULL);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
	return r < 0 ? r : sys_fsmount(fs, MOUNT_ATTR_RDONLY);
}

struct apart {
	const struct fs_overlay *o;
	unsigned attrs;
	int sock;
};

static int mount_apart(void *ctx)
{
	const struct apart *a = ctx;
	auto_fd int fd = -1;
	int r = sys_unshare(CLONE_NEWNS);

	if (r >= 0)
		r = sys_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
	if (r >= 0)
		r = fd = fs_overlay_mount_old(a->o, a->attrs);
	r = r < 0 ? r : 0;
	return sys_send_fds(a->sock, &r, sizeof r, &fd, fd >= 0) < 0;
}

/* In a process with a mount namespace of its own, which sends us the mount. */
static int overlay_apart(const struct fs_overlay *o, unsigned attrs)
{
	int sock[2], r = sys_socketpair(SOCK_SEQPACKET, sock), result = -EIO, fd = -1;
	size_t n = 0;

	if (r < 0)
		return r;
	r = sys_spawn_call(mount_apart, &(struct apart){ o, attrs, sock[1] });
	own_close(&sock[1]);
	if (r == 0 && sys_recv_fds(sock[0], &result, sizeof result, &fd, 1, &n) != sizeof result)
		result = -EIO;
	own_close(&sock[0]);
	return result < 0 ? result : n ? fd : -EIO;
}

int fs_overlay_mount(const struct fs_overlay *o, unsigned attrs)
{
	int r;

	if (any_described(o))
		return o->is_apart ? fs_overlay_mount_old(o, attrs) : overlay_apart(o, attrs);
	r = overlay_new(o, attrs);

	/* old kernels say EINVAL to lowerdir+, at once or at the end; if it means something else, the old way
	 * says so again */
	return r == -EINVAL ? fs_overlay_mount_old(o, attrs) : r;
}

static int empty_tmpfs(void)
{
	auto_fd int fs = sys_fsopen("tmpfs");
	int r = fs < 0 ? fs : sys_fsconfig(fs, FSCONFIG_SET_STRING, "mode", "700");

	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
	return r < 0 ? r : sys_fsmount(fs, 0);
}

/* What is described is mounted at its name. */
static int place_lower(int dir_fd, const char *name, const char *lower)
{
	auto_fd int mount = -1;
	int r;

	if (!is_described(lower))
		return sys_symlink(lower, dir_fd, name);
	if ((r = sys_mkdir(dir_fd, name, 0700)) < 0 || (mount = fs_lower_mount(lower)) < 0)
		return r < 0 ? r : mount;
	return sys_move_mount(mount, dir_fd, name);
}

/* Names of one byte in dir_fd for all lowers; list: the names, separated by colons. */
static int place_lowers(int dir_fd, const struct fs_overlay *o, char list[256])
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	int r = 0;

	for (size_t i = 0; r >= 0 && i < o->n_lower; i++) {
		size_t n = sizeof letters - 1;
		char name[2] = { i < n ? letters[i] : (char)(0x80 + (i - n)), 0 };

		r = place_lower(dir_fd, name, o->lower[i]);
		list[2 * i] = name[0];
		list[2 * i + 1] = i + 1 < o->n_lower ? ':' : 0;
	}
	return r;
}

/*
 * All lowers are one option there, of at most 255 bytes: so they are links with names of one byte in a
 * private tmpfs that is the working directory while the mount is made.
 *
 * Before 6.15 overlayfs takes only what has a place in our mount namespace: for mounts that are to be made the
 * tmpfs stands over our root meanwhile, and they in it; the overlay keeps copies.
 */
static int overlay_from(int fs, const struct fs_overlay *o, const char *list, unsigned attrs)
{
	int r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", list);

	if (r >= 0 && o->upper && (r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", "up")) >= 0)
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", "wk");
	return r < 0 ? r : overlay_finish(fs, o, attrs);
}

/* In the directory of names, whose mount goes when is_placed. */
static int overlay_at(int names, int fs, const struct fs_overlay *o, unsigned attrs, bool is_placed)
{
	auto_fd int back = sys_open(".", O_PATH | O_DIRECTORY, 0);
	char list[256] = "";
	int r = back < 0 ? back : sys_fchdir(names);

	if (r < 0)
		return r;
	r = place_lowers(names, o, list);
	if (r >= 0 && o->upper && (r = sys_symlink(o->upper, names, "up")) >= 0)
		r = sys_symlink(o->work, names, "wk");
	if (r >= 0)
		r = overlay_from(fs, o, list, attrs);
	if (is_placed)
		(void)sys_umount(".", DETACH);
	if (sys_fchdir(back) < 0 && r >= 0) {
		own_close(&r);
		r = -EIO;
	}
	return r;
}

int fs_overlay_mount_old(const struct fs_overlay *o, unsigned attrs)
{
	auto_fd int fs = sys_fsopen("overlay"), names = -1;
	bool is_placed;
	int r = fs < 0 ? fs : o->n_lower > FS_OVERLAY_OLD_MAX ? -E2BIG : sys_unshare(CLONE_FS);

	is_placed = r >= 0 && any_described(o);
	if (r < 0 || (names = empty_tmpfs()) < 0)
		return r < 0 ? r : names;
	if (is_placed && (r = sys_move_mount(names, AT_FDCWD, "/")) < 0)
		return r;
	return overlay_at(names, fs, o, attrs, is_placed);
}
