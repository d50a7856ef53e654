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
	/* name itself may be a mount point: of a root that is a disk of its own */
	fd = x->top_fd < 0 ? sys_openat(x->fd, name, O_RDONLY | O_DIRECTORY, 0)
			   : sys_open_same_mount(x->fd, name, O_RDONLY | O_DIRECTORY);
	if (fd == -EXDEV)
		return -EBUSY;
	if (fd < 0) /* gone meanwhile: somebody else removes the same */
		return fd == -ENOENT ? 0 : fd == -ENOTDIR || fd == -ELOOP ? r : fd;
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

int fs_remove_content(int dir_fd)
{
	unsigned moved = 0, before;
	struct removal x = { .top_fd = dir_fd, .fd = dir_fd, .moved = &moved };
	int r;

	do {
		before = moved;
		r = remove_content(&x);
	} while (r >= 0 && moved != before);
	return r;
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
