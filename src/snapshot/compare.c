/*
 * compare.c - two trees entry by entry: what a layer is on disk against what its archive makes of it.
 *
 * Every directory is opened by its path below the root and closed before those in it are entered, so the
 * depth costs no file descriptors. Not compared: sockets and what overlayfs notes for itself, which no
 * archive has.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "snapshot/driver.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>

enum { XATTR_NAMES = 65536, XATTR_VALUE = 65536, CHUNK = 1 << 18, DEPTH_MAX = 4096 };

struct side {
	int root_fd; /* borrowed */
	int dir_fd;  /* of the directory at hand; -1: none */
	char *chunk;
};
struct compare {
	struct side have, want;
	const struct layer_tell *tell;
	struct map links; /* inode of want -> owned text: inode of have, first name */
	unsigned depth;
};

static void tell(const struct compare *c, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void tell(const struct compare *c, const char *path, const char *fmt, ...)
{
	char what[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	c->tell->tell(c->tell->ctx, *path ? path : "/", what);
}

/* ---- attributes ---- */

/* What an archive can say and what whiteouts need; the rest is overlayfs's own or the host's. */
static bool is_compared(const char *key)
{
	if (strcmp(key, fs_mark_key(FS_MARK_OPAQUE)) == 0)
		return true;
	if (strncmp(key, "security.", 9) == 0)
		return strcmp(key + 9, "capability") == 0;
	return strncmp(key, "trusted.overlay.", 16) != 0 && strncmp(key, "user.overlay.", 13) != 0;
}

static FALLIBLE xattr_names(int dir_fd, const char *name, const char *path, char *out, size_t *out_n)
{
	ssize_t n = fs_xattr_list(dir_fd, name, out, XATTR_NAMES);

	*out_n = n > 0 ? (size_t)n : 0;
	return n < 0 && n != -EOPNOTSUPP ? FAIL_OS((int)-n, "read attributes of %s", path) : NULL;
}

/* Every attribute of one side is on the other with the same value. both: its value was compared before. */
static FALLIBLE xattrs_in(const struct compare *c, const struct side *of, const struct side *in,
			  const char *name, const char *path, bool both)
{
	auto_free char *names = xmalloc(XATTR_NAMES);
	size_t n;

	TRY(xattr_names(of->dir_fd, name, path, names, &n));
	for (const char *key = names; key < names + n; key += strlen(key) + 1) {
		ssize_t a, b;

		if (!is_compared(key))
			continue;
		a = fs_xattr_get(of->dir_fd, name, key, of->chunk, XATTR_VALUE);
		b = fs_xattr_get(in->dir_fd, name, key, in->chunk, XATTR_VALUE);
		if (a < 0 || (b < 0 && b != -ENODATA))
			return FAIL_OS((int)-(a < 0 ? a : b), "read attribute %s of %s", key, path);
		if (b == -ENODATA)
			tell(c, path, both ? "attribute %s is not of the layer" : "attribute %s is missing",
			     key);
		else if (!both && (a != b || memcmp(of->chunk, in->chunk, (size_t)a) != 0))
			tell(c, path, "attribute %s differs", key);
	}
	return NULL;
}

static FALLIBLE compare_xattrs(const struct compare *c, const char *name, const char *path)
{
	TRY(xattrs_in(c, &c->want, &c->have, name, path, false));
	return xattrs_in(c, &c->have, &c->want, name, path, true);
}

static void compare_stat(const struct compare *c, const char *path, const struct stat *have,
			 const struct stat *want)
{
	if ((have->st_mode & 07777) != (want->st_mode & 07777))
		tell(c, path, "mode is %04o, not %04o", have->st_mode & 07777, want->st_mode & 07777);
	if (have->st_uid != want->st_uid || have->st_gid != want->st_gid)
		tell(c, path, "owner is %u:%u, not %u:%u", have->st_uid, have->st_gid, want->st_uid,
		     want->st_gid);
	if (have->st_mtim.tv_sec != want->st_mtim.tv_sec || have->st_mtim.tv_nsec != want->st_mtim.tv_nsec)
		tell(c, path, "time is %lld.%09ld, not %lld.%09ld", (long long)have->st_mtim.tv_sec,
		     have->st_mtim.tv_nsec, (long long)want->st_mtim.tv_sec, want->st_mtim.tv_nsec);
}

/* ---- content ---- */

static FALLIBLE compare_content(const struct compare *c, const char *name, const char *path,
				const struct stat *have, const struct stat *want)
{
	auto_fd int a = sys_openat(c->have.dir_fd, name, O_RDONLY | O_NOFOLLOW, 0);
	auto_fd int b = sys_openat(c->want.dir_fd, name, O_RDONLY | O_NOFOLLOW, 0);
	uint64_t at = 0;
	ssize_t n, m;

	if (a < 0 || b < 0)
		return FAIL_OS(a < 0 ? -a : -b, "open %s", path);
	if (have->st_size != want->st_size) {
		tell(c, path, "is %lld bytes long, not %lld", (long long)have->st_size,
		     (long long)want->st_size);
		return NULL;
	}
	do {
		n = sys_read_full(a, c->have.chunk, CHUNK);
		m = sys_read_full(b, c->want.chunk, CHUNK);
		if (n == -EIO) { /* the disk itself cannot give it */
			tell(c, path, "cannot be read from byte %llu on", (unsigned long long)at);
			return NULL;
		}
		if (n < 0 || m < 0)
			return FAIL_OS((int)-(n < 0 ? n : m), "read %s", path);
		if (n != m || memcmp(c->have.chunk, c->want.chunk, (size_t)n) != 0) {
			for (size_t i = 0; n == m && c->have.chunk[i] == c->want.chunk[i]; i++)
				at++;
			tell(c, path, "content differs from byte %llu on", (unsigned long long)at);
			return NULL;
		}
		at += (uint64_t)n;
	} while (n > 0);
	return NULL;
}

static FALLIBLE compare_link(const struct compare *c, const char *name, const char *path)
{
	char a[PATH_MAX], b[PATH_MAX];
	ssize_t n = sys_readlink(c->have.dir_fd, name, a, sizeof a),
		m = sys_readlink(c->want.dir_fd, name, b, sizeof b);

	if (n < 0 || m < 0)
		return FAIL_OS((int)-(n < 0 ? n : m), "read link %s", path);
	if (strcmp(a, b) != 0)
		tell(c, path, "leads to %.200s, not to %.200s", a, b);
	return NULL;
}

/* Names of one file in the archive are names of one file on disk. true: its content was compared under
 * another name. */
static bool compare_names(struct compare *c, const char *path, const struct stat *have,
			  const struct stat *want)
{
	char key[32], own[32];
	const char *first;
	void **slot;

	if (want->st_nlink < 2)
		return false;
	(void)snprintf(key, sizeof key, "%llu", (unsigned long long)want->st_ino);
	(void)snprintf(own, sizeof own, "%llu ", (unsigned long long)have->st_ino);
	slot = map_put(&c->links, key);
	if (!*slot) {
		*slot = xasprintf("%s%s", own, path);
		return false;
	}
	first = *slot;
	if (strncmp(first, own, strlen(own)) == 0)
		return true;
	tell(c, path, "is not the same file as %s", strchr(first, ' ') + 1);
	return false;
}

static const char *kind_of(const struct stat *st)
{
	switch (st->st_mode & S_IFMT) {
	case S_IFREG:
		return "a file";
	case S_IFDIR:
		return "a directory";
	case S_IFLNK:
		return "a link";
	case S_IFIFO:
		return "a pipe";
	case S_IFSOCK:
		return "a socket";
	default:
		return st->st_rdev ? "a device" : "a whiteout";
	}
}

static FALLIBLE compare_entry(struct compare *c, const char *name, const char *path, bool *out_is_dir)
{
	struct stat have, want;
	int r = sys_fstatat(c->want.dir_fd, name, &want, AT_SYMLINK_NOFOLLOW);

	*out_is_dir = false;
	if (r < 0)
		return FAIL_OS(-r, "look at %s", path);
	r = sys_fstatat(c->have.dir_fd, name, &have, AT_SYMLINK_NOFOLLOW);
	if (r == -ENOENT) {
		tell(c, path, "is missing");
		return NULL;
	}
	if (r < 0)
		return FAIL_OS(-r, "look at %s", path);
	if ((have.st_mode & S_IFMT) != (want.st_mode & S_IFMT) ||
	    ((S_ISCHR(want.st_mode) || S_ISBLK(want.st_mode)) && have.st_rdev != want.st_rdev)) {
		tell(c, path, "is %s, not %s", kind_of(&have), kind_of(&want));
		return NULL;
	}
	if (S_ISCHR(want.st_mode) && want.st_rdev == 0)
		return NULL; /* a whiteout has no attributes */
	*out_is_dir = S_ISDIR(want.st_mode);
	if (!S_ISREG(want.st_mode) || !compare_names(c, path, &have, &want)) {
		compare_stat(c, path, &have, &want);
		TRY(compare_xattrs(c, name, path));
		if (S_ISREG(want.st_mode))
			TRY(compare_content(c, name, path, &have, &want));
		if (S_ISLNK(want.st_mode))
			TRY(compare_link(c, name, path));
	}
	return NULL;
}

/* ---- directories ---- */

static FALLIBLE side_enter(struct side *s, const char *path, char ***out_names)
{
	int r;

	s->dir_fd = sys_open_beneath(s->root_fd, *path ? path : ".", O_RDONLY | O_DIRECTORY, 0);
	if (s->dir_fd < 0)
		return FAIL_OS(-s->dir_fd, "open %s", path);
	r = fs_list(s->dir_fd, out_names);
	return r < 0 ? FAIL_OS(-r, "list %s", path) : NULL;
}

static void side_leave(struct side *s)
{
	own_close(&s->dir_fd);
	s->dir_fd = -1;
}

/* Names that only the disk has; both lists are sorted. */
static void tell_extra(const struct compare *c, const char *dir, char *const *have, char *const *want)
{
	for (; *have; have++) {
		auto_free char *path = NULL;
		struct stat st;
		int order = -1;

		while (*want && (order = strcmp(*want, *have)) < 0)
			want++;
		if (*want && order == 0)
			continue;
		if (sys_fstatat(c->have.dir_fd, *have, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(st.st_mode))
			continue;
		path = xasprintf("%s%s%s", dir, *dir ? "/" : "", *have);
		tell(c, path, "is not of the layer");
	}
}

static FALLIBLE compare_names_of(struct compare *c, const char *dir, char ***out_below)
{
	auto_list char **have = NULL, **want = NULL;

	TRY(side_enter(&c->have, dir, &have));
	TRY(side_enter(&c->want, dir, &want));
	for (size_t i = 0; want[i]; i++) {
		auto_free char *path = xasprintf("%s%s%s", dir, *dir ? "/" : "", want[i]);
		bool is_dir;

		TRY(compare_entry(c, want[i], path, &is_dir));
		if (is_dir)
			text_list_add(out_below, path);
	}
	tell_extra(c, dir, have, want);
	return NULL;
}

static FALLIBLE compare_dir(struct compare *c, const char *dir)
{
	auto_list char **below = NULL;
	struct err *err = compare_names_of(c, dir, &below);

	side_leave(&c->have);
	side_leave(&c->want);
	TRY(err);
	if (++c->depth > DEPTH_MAX)
		return FAIL(ERR_LIMIT, "%s: more than %d directories deep", dir, DEPTH_MAX);
	for (size_t i = 0; below && below[i]; i++)
		TRY(compare_dir(c, below[i]));
	c->depth--;
	return NULL;
}

static void compare_fini(struct compare *c)
{
	for (size_t i = 0; i < c->links.n; i++)
		free(c->links.entries[i].value);
	map_fini(&c->links);
	free(c->have.chunk);
	free(c->want.chunk);
}

FALLIBLE compare_trees(int have_fd, int want_fd, const struct layer_tell *tell_them)
{
	CLEANUP(compare_fini)
	struct compare c = { .have = { have_fd, have_fd, xmalloc(CHUNK) },
			     .want = { want_fd, want_fd, xmalloc(CHUNK) },
			     .tell = tell_them };
	struct stat have, want;
	int r;

	if ((r = sys_fstat(have_fd, &have)) < 0 || (r = sys_fstat(want_fd, &want)) < 0)
		return FAIL_OS(-r, "look at the layer's root");
	if (have.st_mode != want.st_mode || have.st_uid != want.st_uid || have.st_gid != want.st_gid)
		tell(&c, "", "the root's mode or owner is not the layer's");
	TRY(xattrs_in(&c, &c.want, &c.have, ".", "/", false));
	TRY(xattrs_in(&c, &c.have, &c.want, ".", "/", true));
	return compare_dir(&c, "");
}
