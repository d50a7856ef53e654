/*
 * changes.c - what an upper directory of overlayfs changed, for people: the upper and the layers below are walked side by side.
 *
 * Specification: kernel Documentation/filesystems/overlayfs.rst (whiteouts, opaque directories).
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/vec.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/stat.h>

enum { DEPTH_MAX = 250 }; /* two fds each */

struct change {
	char kind, *path;
};
struct changes {
	VEC(struct change) v;
	char *const *skip;
	int depth;
};

static void changes_fini(struct changes *c)
{
	for (size_t i = 0; i < c->v.n; i++)
		free(c->v.p[i].path);
	vec_fini(&c->v);
}

static void note(struct changes *c, char kind, const char *path)
{
	*vec_push(&c->v) = (struct change){ kind, xstrdup(path) };
}

static int by_path(const void *a, const void *b)
{
	const struct change *x = a, *y = b;

	return strcmp(x->path, y->path);
}

/* Names below that an opaque directory hides and has not itself. */
static FALLIBLE hidden(struct changes *c, int upper_fd, int below_fd, const char *dir)
{
	auto_list char **names = NULL;
	struct stat st;
	int r = below_fd < 0 ? 0 : fs_list(below_fd, &names);

	if (r < 0)
		return FAIL_OS(-r, "list %s in the layers below", dir);
	for (size_t i = 0; names && names[i]; i++) {
		auto_free char *path = xasprintf("%s/%s", dir, names[i]);

		if (sys_fstatat(upper_fd, names[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			note(c, 'D', path);
	}
	return NULL;
}

static FALLIBLE walk(struct changes *c, int upper_fd, int below_fd, const char *dir);

/* A directory that both have counts when it is another itself, or something in it counts. */
static FALLIBLE directory(struct changes *c, int upper_fd, int below_fd, const char *name, const char *path, const struct stat *st,
			  const struct stat *old)
{
	auto_fd int up = sys_openat(upper_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0), below = -1;
	size_t before = c->v.n;
	ssize_t n;
	char v[4];

	if (up < 0)
		return FAIL_OS(-up, "open %s", path);
	if (old && S_ISDIR(old->st_mode) && (below = sys_openat(below_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
		return FAIL_OS(-below, "open %s in the layers below", path);
	n = fs_xattr_get_fd(up, fs_mark_key(FS_MARK_OPAQUE), v, sizeof v);
	if (n == 1 && v[0] == 'y') {
		TRY(hidden(c, up, below, path));
		own_close(&below);
		below = -1;
	}
	TRY(walk(c, up, below, path));
	if (!old)
		note(c, 'A', path);
	else if (c->v.n > before || !S_ISDIR(old->st_mode) || old->st_mode != st->st_mode || old->st_uid != st->st_uid ||
		 old->st_gid != st->st_gid || old->st_mtim.tv_sec != st->st_mtim.tv_sec || old->st_mtim.tv_nsec != st->st_mtim.tv_nsec)
		note(c, 'C', path);
	return NULL;
}

static FALLIBLE one(struct changes *c, int upper_fd, int below_fd, const char *name, const char *path)
{
	struct stat st, old;
	int r = sys_fstatat(upper_fd, name, &st, AT_SYMLINK_NOFOLLOW);
	bool has_old = below_fd >= 0 && sys_fstatat(below_fd, name, &old, AT_SYMLINK_NOFOLLOW) == 0;

	if (r < 0) /* a running container may remove it meanwhile */
		return r == -ENOENT ? NULL : FAIL_OS(-r, "look at %s", path);
	if (S_ISDIR(st.st_mode))
		return directory(c, upper_fd, below_fd, name, path, &st, has_old ? &old : NULL);
	if (!S_ISCHR(st.st_mode) || st.st_rdev != 0)
		note(c, has_old ? 'C' : 'A', path);
	else if (has_old)
		note(c, 'D', path);
	return NULL;
}

/* below_fd: the same directory in the layers below, or -1. */
static FALLIBLE walk(struct changes *c, int upper_fd, int below_fd, const char *dir)
{
	auto_list char **names = NULL;
	int r = fs_list(upper_fd, &names);

	if (r < 0)
		return FAIL_OS(-r, "list %s", *dir ? dir : "/");
	if (++c->depth > DEPTH_MAX)
		return FAIL(ERR_LIMIT, "%s: more than %d directories deep", dir, DEPTH_MAX);
	for (size_t i = 0; names[i]; i++) {
		auto_free char *path = xasprintf("%s/%s", dir, names[i]);

		if (!text_list_has(c->skip, path + 1))
			TRY(one(c, upper_fd, below_fd, names[i], path));
	}
	c->depth--;
	return NULL;
}

FALLIBLE rootfs_changes(const char *upper, int below_fd, char *const *skip, struct err *(*each)(void *ctx, char kind, const char *path),
			void *ctx)
{
	CLEANUP(changes_fini) struct changes c = { .skip = skip };
	auto_fd int fd = sys_open_dir(upper);

	if (fd < 0)
		return FAIL_OS(-fd, "open %s", upper);
	TRY(walk(&c, fd, below_fd, ""));
	if (c.v.n)
		qsort(c.v.p, c.v.n, sizeof *c.v.p, by_path);
	for (size_t i = 0; i < c.v.n; i++)
		TRY(each(ctx, c.v.p[i].kind, c.v.p[i].path));
	return NULL;
}
