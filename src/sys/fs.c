#include "sys/fs.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/vec.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>

static int by_bytes(const void *a, const void *b)
{
	char *const *x = a, *const *y = b;

	return strcmp(*x, *y);
}

/* Calls each(ctx, name) for what directory fd holds, from its beginning, until one returns < 0. */
static int each_name(int fd, int (*each)(void *ctx, const char *name), void *ctx)
{
	char entries[8192] __attribute__((aligned(8)));
	int r = (int)sys_lseek(fd, 0, SEEK_SET), n = 0;

	while (r >= 0 && (n = sys_getdents(fd, entries, sizeof entries)) > 0)
		for (int at = 0; r >= 0 && at < n;) {
			unsigned short reclen;
			const char *name = entries + at + offsetof(struct dirent64, d_name);

			memcpy(&reclen, entries + at + offsetof(struct dirent64, d_reclen), sizeof reclen);
			at += reclen;
			if (strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
				r = each(ctx, name);
		}
	return r < 0 ? r : n;
}

struct names {
	VEC(char *) v;
};

static int add_name(void *ctx, const char *name)
{
	struct names *names = ctx;

	*vec_push(&names->v) = xstrdup(name);
	return 0;
}

int fs_list(int dir_fd, char ***out_names)
{
	struct names names = { 0 };
	auto_fd int fd = sys_openat(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	int r = fd < 0 ? fd : each_name(fd, add_name, &names);

	if (r < 0) {
		for (size_t i = 0; i < names.v.n; i++)
			free(names.v.p[i]);
		vec_fini(&names.v);
		return r;
	}
	if (names.v.n)
		qsort(names.v.p, names.v.n, sizeof *names.v.p, by_bytes);
	*vec_push(&names.v) = NULL;
	*out_names = names.v.p;
	return (int)names.v.n - 1;
}

/*
 * Removal recurses to REMOVE_DEPTH only: a directory that lies deeper moves up into the top of the tree,
 * where the next pass over the top finds it. So a tree of any depth goes with few fds and little stack.
 */
enum { REMOVE_DEPTH = 40 };
struct removal {
	int top_fd; /* the tree's top directory */
	int fd, depth;
	unsigned *moved;
};

static int remove_in(void *ctx, const char *name);

static int remove_content(const struct removal *x)
{
	return each_name(x->fd, remove_in, (void *)(uintptr_t)x);
}

static int move_up(const struct removal *x, const char *name)
{
	char up[32];
	int r;

	do {
		(void)snprintf(up, sizeof up, ".deep-%u", (*x->moved)++);
		r = sys_renameat(x->fd, name, x->top_fd, up, RENAME_NOREPLACE);
	} while (r == -EEXIST);
	return r;
}

static int remove_in(void *ctx, const char *name)
{
	const struct removal *x = ctx;
	struct removal in = { .top_fd = x->top_fd, .depth = x->depth + 1, .moved = x->moved };
	auto_fd int fd = -1;
	int r = sys_unlink(x->fd, name);

	if (r == 0 || r == -ENOENT)
		return 0;
	if (r != -EISDIR && r != -EPERM)
		return r;
	if (x->depth >= REMOVE_DEPTH)
		return move_up(x, name);
	fd = sys_openat(x->fd, name, O_RDONLY | O_DIRECTORY, 0);
	if (fd < 0) /* gone meanwhile: somebody else removes the same */
		return fd == -ENOENT ? 0 : fd == -ENOTDIR ? r : fd;
	in.fd = fd;
	if (x->top_fd < 0)
		in.top_fd = fd;
	do { /* again when something moved up into this one, or came in meanwhile */
		if ((r = remove_content(&in)) < 0)
			return r == -ENOENT ? 0 : r;
		r = sys_rmdir(x->fd, name);
	} while (r == -ENOTEMPTY);
	return r == -ENOENT ? 0 : r;
}

int fs_remove_tree(int dir_fd, const char *name)
{
	unsigned moved = 0;
	struct removal x = { .top_fd = -1, .fd = dir_fd, .moved = &moved };

	return remove_in(&x, name);
}

int fs_chmod(int dir_fd, const char *name, mode_t mode)
{
	auto_fd int fd = sys_openat(dir_fd, name, O_PATH, 0);
	char self[40];

	if (fd < 0)
		return fd;
	(void)snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	return sys_chmodat(AT_FDCWD, self, mode);
}

/* The one way to reach a name's own attributes by directory fd on all kernels: through /proc, not followed at
 * the end. */
static void proc_path(int dir_fd, const char *name, char out[320])
{
	(void)snprintf(out, 320, "/proc/self/fd/%d/%s", dir_fd, name);
}

int fs_xattr_set(int dir_fd, const char *name, const char *key, const void *value, size_t n)
{
	char path[320];

	SYS_FAULT("lsetxattr");
	proc_path(dir_fd, name, path);
	return sys_ret(lsetxattr(path, key, value, n, 0));
}

ssize_t fs_xattr_get(int dir_fd, const char *name, const char *key, void *out, size_t size)
{
	char path[320];

	SYS_FAULT("lgetxattr");
	proc_path(dir_fd, name, path);
	return sys_ret(lgetxattr(path, key, out, size));
}

ssize_t fs_xattr_get_fd(int fd, const char *key, void *out, size_t size)
{
	SYS_FAULT("fgetxattr");
	return sys_ret(fgetxattr(fd, key, out, size));
}

ssize_t fs_xattr_list(int dir_fd, const char *name, char *out, size_t size)
{
	char path[320];

	SYS_FAULT("llistxattr");
	proc_path(dir_fd, name, path);
	return sys_ret(llistxattr(path, out, size));
}

int fs_own_umask(mode_t mask)
{
	int r = sys_unshare(CLONE_FS);

	return r < 0 ? r : (int)umask(mask);
}

static _Atomic int marks_known; /* 1: of the first user namespace, 2: of another */

int fs_marks_ask(void)
{
	char ns[64];
	ssize_t n = marks_known ? 0 : sys_readlink(AT_FDCWD, "/proc/self/ns/user", ns, sizeof ns);

	if (n > 0) /* the first one has this number always (PROC_USER_INIT_INO) */
		marks_known = strcmp(ns, "user:[4026531837]") != 0 ? 2 : 1;
	return n < 0 ? (int)n : 0;
}

bool fs_marks_are_user(void)
{
	return marks_known == 2;
}

const char *fs_mark_key(enum fs_mark mark)
{
	static const char *const keys[2][4] = {
		{ "trusted.overlay.opaque", "trusted.overlay.origin", "trusted.overlay.redirect", "trusted.overlay.metacopy" },
		{ "user.overlay.opaque", "user.overlay.origin", "user.overlay.redirect", "user.overlay.metacopy" },
	};

	return keys[fs_marks_are_user()][mark];
}

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

int fs_overlay_mount(const struct fs_overlay *o, unsigned attrs)
{
	int r = overlay_new(o, attrs);

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

/* Links of one byte in dir_fd to all lowers; list: their names, separated by colons. */
static int link_lowers(int dir_fd, const struct fs_overlay *o, char list[256])
{
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
	int r = 0;

	if (o->n_lower > FS_OVERLAY_OLD_MAX)
		return -E2BIG;
	for (size_t i = 0; r >= 0 && i < o->n_lower; i++) {
		size_t n = sizeof letters - 1;
		char name[2] = { i < n ? letters[i] : (char)(0x80 + (i - n)), 0 };

		r = sys_symlink(o->lower[i], dir_fd, name);
		list[2 * i] = name[0];
		list[2 * i + 1] = i + 1 < o->n_lower ? ':' : 0;
	}
	return r;
}

/*
 * All lowers are one option there, of at most 255 bytes: so they are links with names of one byte in a
 * private tmpfs that is the working directory while the mount is made.
 */
int fs_overlay_mount_old(const struct fs_overlay *o, unsigned attrs)
{
	auto_fd int fs = sys_fsopen("overlay"), names = -1, back = -1;
	char list[256] = "";
	int r = fs < 0 ? fs : sys_unshare(CLONE_FS);

	if (r < 0 || (names = empty_tmpfs()) < 0 || (r = link_lowers(names, o, list)) < 0)
		return r < 0 ? r : names;
	if (o->upper &&
	    ((r = sys_symlink(o->upper, names, "up")) < 0 || (r = sys_symlink(o->work, names, "wk")) < 0))
		return r;
	if ((back = sys_open(".", O_PATH | O_DIRECTORY, 0)) < 0)
		return back;
	if ((r = sys_fchdir(names)) < 0)
		return r;
	r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "lowerdir", list);
	if (r >= 0 && o->upper && (r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "upperdir", "up")) >= 0)
		r = sys_fsconfig(fs, FSCONFIG_SET_STRING, "workdir", "wk");
	if (r >= 0)
		r = overlay_finish(fs, o, attrs);
	if (sys_fchdir(back) < 0 && r >= 0) {
		own_close(&r);
		r = -EIO;
	}
	return r;
}
