/*
 * diff.c - an upper directory of overlayfs as a layer tar: names in byte order, a directory before what it
 * holds, whiteouts as .wh.NAME, opaque directories with .wh..wh..opq first. The same tree gives the same
 * bytes.
 *
 * Specification: image-spec layer.md (whiteouts); kernel Documentation/filesystems/overlayfs.rst.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/vec.h"
#include "codec/tar.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/sysmacros.h>

enum { XATTR_NAMES = 65536, XATTR_VALUE = 65536, CHUNK = 1 << 18, DEPTH_MAX = 1024, DEPTH_OPEN = 32 };

struct diff {
	int root_fd;
	struct tar_writer *tar;
	int64_t clamp_ns;
	char *const *skip; /* paths to leave out, with what is below; NULL: none */
	bool is_plain; /* a tree that no overlayfs made: nothing in it stands for something else. It may be in use: what goes
			  meanwhile is passed over */
	struct map links; /* "dev:ino" -> owned path of its first name */
	char *chunk;
	unsigned depth;
};

static int64_t time_of(const struct diff *d, const struct stat *st)
{
	int64_t ns = st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec;

	return d->clamp_ns >= 0 && ns > d->clamp_ns ? d->clamp_ns : ns;
}

static char type_of(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return '0';
	case S_IFLNK:
		return '2';
	case S_IFCHR:
		return '3';
	case S_IFBLK:
		return '4';
	case S_IFDIR:
		return '5';
	case S_IFIFO:
		return '6';
	default:
		return 0; /* a socket: of no use to anyone later */
	}
}

/* ---- attributes ---- */

struct xattrs {
	VEC(struct tar_xattr) v;
	struct arena arena;
};

static void xattrs_fini(struct xattrs *x)
{
	vec_fini(&x->v);
	arena_fini(&x->arena);
}

/* What belongs to the content; what overlayfs, a security module or the host's administration put there does
 * not. */
static bool is_content(const char *name)
{
	return strcmp(name, "security.capability") == 0 || strncmp(name, "system.posix_acl_", 17) == 0 ||
	       (strncmp(name, "user.", 5) == 0 && strncmp(name, "user.overlay.", 13) != 0);
}

static int by_name(const void *a, const void *b)
{
	const struct tar_xattr *x = a, *y = b;

	return strcmp(x->name, y->name);
}

static FALLIBLE read_xattrs(int dir_fd, const char *name, struct xattrs *x)
{
	auto_free char *names = NULL, *value = NULL;
	char small[256];
	ssize_t n = fs_xattr_list(dir_fd, name, small, sizeof small);
	const char *list = small;

	arena_init(&x->arena, XATTR_NAMES + XATTR_VALUE * 16);
	if (n == -ERANGE) {
		list = names = xmalloc(XATTR_NAMES);
		n = fs_xattr_list(dir_fd, name, names, XATTR_NAMES);
	}
	if (n < 0)
		return n == -EOPNOTSUPP ? NULL : FAIL_OS((int)-n, "read attributes of %s", name);
	for (const char *key = list; key < list + n; key += strlen(key) + 1) {
		struct tar_xattr *a;
		ssize_t len;

		/* we mount with both off; from another's hand they would mean content that is not here */
		if (strcmp(key, fs_mark_key(FS_MARK_REDIRECT)) == 0 || strcmp(key, fs_mark_key(FS_MARK_METACOPY)) == 0)
			return FAIL(ERR_UNSUPPORTED, "%s lies in a lower layer only (%s)", name, key);
		if (!is_content(key))
			continue;
		if (!value)
			value = xmalloc(XATTR_VALUE);
		len = fs_xattr_get(dir_fd, name, key, value, XATTR_VALUE);
		if (len == -EOPNOTSUPP) /* EROFS lists ACLs to a kernel that knows none */
			continue;
		if (len < 0)
			return FAIL_OS((int)-len, "read attribute %s of %s", key, name);
		a = vec_push(&x->v);
		a->name = arena_strdup(&x->arena, key);
		a->value = arena_strndup(&x->arena, value, (size_t)len);
		a->n = (size_t)len;
		if (!a->name || !a->value)
			return FAIL(ERR_LIMIT, "%s has too many attributes", name);
	}
	if (x->v.n)
		qsort(x->v.p, x->v.n, sizeof *x->v.p, by_name);
	return NULL;
}

/* ---- entries ---- */

static FALLIBLE content(struct diff *d, int fd, const char *name, uint64_t size)
{
	while (size) {
		ssize_t n = sys_read(fd, d->chunk, size < CHUNK ? (size_t)size : CHUNK);

		if (n <= 0)
			return n < 0 ? FAIL_OS((int)-n, "read %s", name)
				     : FAIL(ERR_CONFLICT, "%s changed while read", name);
		TRY(tar_write(d->tar, d->chunk, (size_t)n));
		size -= (uint64_t)n;
	}
	return NULL;
}

/* Where the first name of a file with several is kept, NULL for others. Later ones become hard links to it. */
static void **first_name(struct diff *d, const struct stat *st)
{
	char key[64];

	if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
		return NULL;
	(void)snprintf(key, sizeof key, "%llu:%llu", (unsigned long long)st->st_dev,
		       (unsigned long long)st->st_ino);
	return map_put(&d->links, key);
}

static FALLIBLE marker(struct diff *d, const char *dir, const char *prefix, const char *name,
		       int64_t mtime_ns)
{
	auto_free char *path = xasprintf("%s%s%s%s", dir, dir[0] ? "/" : "", prefix, name);
	struct tar_entry e = { .name = path, .link = "", .type = '0', .mtime_ns = mtime_ns };

	return tar_add(d->tar, &e);
}

static FALLIBLE is_opaque(int dir_fd, const char *name, bool *out_is)
{
	char v[4];
	ssize_t n = fs_xattr_get(dir_fd, name, fs_mark_key(FS_MARK_OPAQUE), v, sizeof v);

	if (n < 0 && n != -ENODATA && n != -EOPNOTSUPP && n != -ERANGE)
		return FAIL_OS((int)-n, "read attributes of %s", name);
	*out_is = n == 1 && v[0] == 'y';
	return NULL;
}

/* A regular file is held open from here, so that it cannot go before its content was read. */
static FALLIBLE look(int dir_fd, const char *name, const char *path, struct stat *st, int *out_fd)
{
	int r = sys_fstatat(dir_fd, name, st, AT_SYMLINK_NOFOLLOW);

	if (r < 0)
		return FAIL_OS(-r, "look at %s", path);
	if (!S_ISREG(st->st_mode))
		return NULL;
	if ((*out_fd = sys_openat(dir_fd, name, O_RDONLY | O_NONBLOCK, 0)) < 0)
		return FAIL_OS(-*out_fd, "open %s", path);
	if ((r = sys_fstat(*out_fd, st)) < 0)
		return FAIL_OS(-r, "look at %s", path);
	return S_ISREG(st->st_mode) ? NULL : FAIL_OS(ENOENT, "look at %s", path); /* another file by now */
}

/* What is known of an entry before it is written. link: room for where a link leads. */
static FALLIBLE describe(const struct diff *d, int dir_fd, const char *name, const struct stat *st, char link[PATH_MAX],
			 struct xattrs *x, struct tar_entry *e)
{
	int r;

	e->mode = st->st_mode & 07777;
	e->uid = st->st_uid;
	e->gid = st->st_gid;
	e->mtime_ns = time_of(d, st);
	e->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
	if (S_ISLNK(st->st_mode) && (r = (int)sys_readlink(dir_fd, name, link, PATH_MAX)) < 0)
		return FAIL_OS(-r, "read link %s", e->name);
	if (S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) {
		e->dev_major = major(st->st_rdev);
		e->dev_minor = minor(st->st_rdev);
	}
	TRY(read_xattrs(dir_fd, name, x));
	e->xattrs = x->v.p;
	e->n_xattrs = x->v.n;
	return NULL;
}

static FALLIBLE further_name(struct diff *d, const struct stat *st, const char *path, const char *first)
{
	struct tar_entry e = { .name = path, .link = first, .type = '1', .mode = st->st_mode & 07777,
			       .uid = st->st_uid, .gid = st->st_gid, .mtime_ns = time_of(d, st) };

	return tar_add(d->tar, &e);
}

/* Adds one entry, without what is below it; *out_dir: its path if that is to be walked, owned. */
static FALLIBLE one(struct diff *d, int dir_fd, const char *dir, const char *name, char **out_dir)
{
	auto_free char *path = xasprintf("%s%s%s", dir, dir[0] ? "/" : "", name);
	CLEANUP(xattrs_fini) struct xattrs x = { 0 };
	char link[PATH_MAX] = "";
	struct tar_entry e = { .name = path, .link = link };
	auto_fd int fd = -1;
	bool opaque = false;
	struct stat st;
	void **first;

	TRY(look(dir_fd, name, path, &st, &fd));
	if (S_ISCHR(st.st_mode) && st.st_rdev == 0 && !d->is_plain)
		return marker(d, dir, ".wh.", name, time_of(d, &st));
	if (!(e.type = type_of(st.st_mode)))
		return NULL;
	if ((first = first_name(d, &st)) && *first)
		return further_name(d, &st, path, *first);
	TRY(describe(d, dir_fd, name, &st, link, &x, &e));
	if (first)
		*first = xstrdup(path);
	TRY(tar_add(d->tar, &e));
	if (e.type == '0')
		return content(d, fd, path, e.size);
	if (e.type == '5') {
		if (!d->is_plain)
			TRY(is_opaque(dir_fd, name, &opaque));
		if (opaque)
			TRY(marker(d, path, ".wh..wh.", ".opq", e.mtime_ns));
		*out_dir = TAKE(path);
	}
	return NULL;
}

/* Whether err is that something went meanwhile, where that may be; frees it then. */
static bool went(const struct diff *d, struct err *err)
{
	if (!err || !d->is_plain || (err->os != ENOENT && err->os != ENOTDIR && err->os != ELOOP))
		return false;
	err_free(err);
	return true;
}

static bool is_skipped(const struct diff *d, const char *dir, const char *name)
{
	auto_free char *path = d->skip ? xasprintf("%s%s%s", dir, dir[0] ? "/" : "", name) : NULL;

	return path && text_list_has(d->skip, path);
}

static FALLIBLE open_level(const struct diff *d, const char *dir, int *fd, char ***names)
{
	int r;

	if (*fd < 0 && (*fd = sys_open_beneath(d->root_fd, dir[0] ? dir : ".", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(-*fd, "open %s", dir);
	if (!*names && (r = fs_list(*fd, names)) < 0)
		return FAIL_OS(-r, "list %s", dir);
	return NULL;
}

/* Directories far down are closed while what is below them is walked, and opened again. */
static FALLIBLE walk(struct diff *d, const char *dir)
{
	auto_list char **names = NULL;
	auto_fd int fd = -1;

	if (++d->depth > DEPTH_MAX)
		return FAIL(ERR_LIMIT, "%s: more than %d directories deep", dir, DEPTH_MAX);
	for (size_t i = 0; !names || names[i]; i++) {
		auto_free char *below = NULL;
		struct err *err = open_level(d, dir, &fd, &names);

		if (went(d, err))
			break;
		TRY(err);
		if (!names[i])
			break;
		if (is_skipped(d, dir, names[i]))
			continue;
		err = one(d, fd, dir, names[i], &below);
		if (went(d, err))
			continue;
		TRY(err);
		if (below && d->depth > DEPTH_OPEN) {
			own_close(&fd);
			fd = -1;
		}
		if (below)
			TRY(walk(d, below));
	}
	d->depth--;
	return NULL;
}

static void diff_fini(struct diff *d)
{
	for (size_t i = 0; i < d->links.n; i++)
		free(d->links.entries[i].value);
	map_fini(&d->links);
	tar_writer_free(d->tar);
	free(d->chunk);
}

FALLIBLE rootfs_diff(const char *upper, char *const *skip, int64_t clamp_ns, struct zip_sink sink)
{
	CLEANUP(diff_fini) struct diff d = { .clamp_ns = clamp_ns, .skip = skip, .chunk = xmalloc(CHUNK) };
	auto_fd int fd = sys_open_dir(upper);
	bool opaque = false;

	if (fd < 0)
		return FAIL_OS(-fd, "open %s", upper);
	d.root_fd = fd;
	TRY(tar_writer_new(sink, &d.tar));
	TRY(is_opaque(fd, ".", &opaque));
	if (opaque)
		TRY(marker(&d, "", ".wh..wh.", ".opq", clamp_ns >= 0 ? clamp_ns : 0));
	TRY(walk(&d, ""));
	return tar_finish(d.tar);
}

FALLIBLE snapshot_archive(int tree_fd, struct zip_sink sink)
{
	CLEANUP(diff_fini) struct diff d = { .root_fd = tree_fd, .clamp_ns = -1, .is_plain = true, .chunk = xmalloc(CHUNK) };
	auto_free char *top = NULL;

	TRY(tar_writer_new(sink, &d.tar));
	TRY(one(&d, tree_fd, "", ".", &top));
	TRY(walk(&d, ""));
	return tar_finish(d.tar);
}

FALLIBLE snapshot_archive_entry(int dir_fd, const char *name, struct zip_sink sink)
{
	CLEANUP(diff_fini) struct diff d = { .root_fd = dir_fd, .clamp_ns = -1, .is_plain = true, .chunk = xmalloc(CHUNK) };
	auto_free char *below = NULL;

	TRY(tar_writer_new(sink, &d.tar));
	TRY(one(&d, dir_fd, "", name, &below));
	if (below)
		TRY(walk(&d, below));
	return tar_finish(d.tar);
}
