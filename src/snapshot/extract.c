/*
 * extract.c - tar entries become files. The parent directory of the last entry is kept open, because entries of one
 * directory follow each other; owners, modes and times are set by name in it, those of directories at the end.
 */
#include "base/buf.h"
#include "base/own.h"
#include "base/vec.h"
#include "codec/tar.h"
#include "snapshot/driver.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/sysmacros.h>

enum { CHUNK = 1 << 18 };

struct late {
	char *path;
	int64_t mtime_ns;
};
struct extract {
	int root_fd;
	struct tar_reader *tar;
	int dir_fd; /* of `dir`, O_PATH */
	char *dir;
	VEC(struct late) dirs; /* mtimes to be set when nothing is written any more */
	char *chunk;
	uint64_t size;
};

static struct err *escapes(const char *name)
{
	return FAIL(ERR_INVALID, "%s escapes the layer", name);
}

static bool has_dotdot(const char *path)
{
	struct sv rest = sv_of(path);

	while (rest.n)
		if (sv_is(sv_cut(&rest, '/'), ".."))
			return true;
	return false;
}

static struct err *wrong(int r, const char *what, const char *name)
{
	return r == -EXDEV || r == -ELOOP ? escapes(name) : FAIL_OS(-r, "%s %s", what, name);
}

/* Opens directory path, making what is missing (with the time of the entry that wants it). Owned fd. */
static struct err *open_dir(struct extract *x, const char *path, int64_t mtime_ns, int *out_fd)
{
	int fd = sys_open_in_root(x->root_fd, path[0] ? path : ".", O_PATH | O_DIRECTORY, 0);

	if (fd == -ENOENT && path[0]) {
		const char *slash = strrchr(path, '/');
		auto_free char *up = xstrndup(path, slash ? (size_t)(slash - path) : 0);
		auto_fd int parent = -1;
		int r;

		TRY(open_dir(x, up, mtime_ns, &parent));
		r = sys_mkdir(parent, slash ? slash + 1 : path, 0755);
		if (r < 0 && r != -EEXIST)
			return wrong(r, "make directory", path);
		*vec_push(&x->dirs) = (struct late){ xstrdup(path), mtime_ns };
		fd = sys_open_in_root(x->root_fd, path, O_PATH | O_DIRECTORY, 0);
	}
	if (fd < 0)
		return wrong(fd, "open directory", path);
	*out_fd = fd;
	return NULL;
}

/* Makes dir_fd the parent of path; *out_base points into path. */
static struct err *enter_parent(struct extract *x, const char *path, int64_t mtime_ns, const char **out_base)
{
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	auto_free char *dir = NULL;

	*out_base = slash ? slash + 1 : path;
	if (x->dir && strlen(x->dir) == n && memcmp(x->dir, path, n) == 0)
		return NULL;
	dir = xstrndup(path, n);
	own_close(&x->dir_fd);
	free(TAKE(x->dir));
	x->dir_fd = -1;
	TRY(open_dir(x, dir, mtime_ns, &x->dir_fd));
	x->dir = TAKE(dir);
	return NULL;
}

/* What stood under the name goes, unless it is a directory and shall stay one. */
static int make_room(struct extract *x, const char *base)
{
	return fs_remove_tree(x->dir_fd, base);
}

static struct err *copy_content(struct extract *x, int fd, const char *name)
{
	for (;;) {
		size_t n = 0;
		int r;

		TRY(tar_read(x->tar, x->chunk, CHUNK, &n));
		if (n == 0)
			return NULL;
		if ((r = sys_write_all(fd, x->chunk, n)) < 0)
			return FAIL_OS(-r, "write %s", name);
		x->size += n;
	}
}

static struct err *make_file(struct extract *x, const struct tar_entry *e, const char *base)
{
	auto_fd int fd = sys_openat(x->dir_fd, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	int r = 0;

	if (fd == -EEXIST && (r = make_room(x, base)) == 0)
		fd = sys_openat(x->dir_fd, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (r < 0 || fd < 0)
		return wrong(r < 0 ? r : fd, "create", e->name);
	TRY(copy_content(x, fd, e->name));
	if ((e->uid || e->gid) && (r = sys_fchown(fd, e->uid, e->gid)) < 0)
		return FAIL_OS(-r, "change the owner of %s", e->name);
	r = sys_fchmod(fd, e->mode);
	return r < 0 ? FAIL_OS(-r, "change the mode of %s", e->name) : NULL;
}

static struct err *make_link(struct extract *x, const struct tar_entry *e, const char *base)
{
	const char *target = e->link + strspn(e->link, "/");
	const char *slash;
	auto_free char *dir = NULL;
	auto_fd int from = -1;
	int r;

	while (target[0] == '.' && target[1] == '/')
		target += 2 + strspn(target + 2, "/");
	if (has_dotdot(target))
		return escapes(e->name);
	slash = strrchr(target, '/');
	dir = xstrndup(target, slash ? (size_t)(slash - target) : 0);
	from = sys_open_in_root(x->root_fd, dir[0] ? dir : ".", O_PATH | O_DIRECTORY, 0);
	if (from < 0)
		return wrong(from, "hard link target of", e->name);
	slash = slash ? slash + 1 : target;
	r = sys_link(from, slash, x->dir_fd, base);
	if (r == -EEXIST && (r = make_room(x, base)) == 0)
		r = sys_link(from, slash, x->dir_fd, base);
	return r < 0 ? wrong(r, "hard link", e->name) : NULL;
}

static int make_node(struct extract *x, const struct tar_entry *e, const char *base)
{
	switch (e->type) {
	case '2':
		return sys_symlink(e->link, x->dir_fd, base);
	case '3':
		return sys_mknod(x->dir_fd, base, S_IFCHR | e->mode, makedev(e->dev_major, e->dev_minor));
	case '4':
		return sys_mknod(x->dir_fd, base, S_IFBLK | e->mode, makedev(e->dev_major, e->dev_minor));
	case '6':
		return sys_mknod(x->dir_fd, base, S_IFIFO | e->mode, 0);
	default:
		return -EINVAL;
	}
}

static int make_directory(struct extract *x, const char *base)
{
	struct stat st;
	int r = sys_mkdir(x->dir_fd, base, 0755);

	if (r == -EEXIST && sys_fstatat(x->dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return r;
}

static struct err *set_xattrs(struct extract *x, const struct tar_entry *e, const char *base)
{
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct tar_xattr *a = &e->xattrs[i];
		int r;

		/* SECURITY: what steers overlayfs is ours alone */
		if (strncmp(a->name, "trusted.", 8) == 0 || strncmp(a->name, "user.overlay.", 13) == 0 ||
		    strncmp(a->name, "security.selinux", 16) == 0)
			continue;
		r = fs_xattr_set(x->dir_fd, base, a->name, a->value, a->n);
		if (r < 0 && r != -EOPNOTSUPP && !(r == -EPERM && strncmp(a->name, "user.", 5) == 0))
			return FAIL_OS(-r, "set attribute %s of %s", a->name, e->name);
	}
	return NULL;
}

static struct timespec timespec_of(int64_t ns)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;

	return rest < 0 ? (struct timespec){ s - 1, rest + 1000000000 } : (struct timespec){ s, rest };
}

static struct err *set_time(int dir_fd, const char *base, int64_t ns, const char *name)
{
	struct timespec t[2] = { timespec_of(ns), timespec_of(ns) };
	int r = sys_utimens(dir_fd, base, t, AT_SYMLINK_NOFOLLOW);

	return r < 0 ? FAIL_OS(-r, "set the time of %s", name) : NULL;
}

/* Everything but files and hard links: by name. */
static struct err *make_other(struct extract *x, const struct tar_entry *e, const char *base)
{
	bool is_dir = e->type == '5';
	int r = is_dir ? make_directory(x, base) : make_node(x, e, base);

	if (r == -EEXIST && (r = make_room(x, base)) == 0)
		r = is_dir ? make_directory(x, base) : make_node(x, e, base);
	if (r == 0 && (e->uid || e->gid || is_dir))
		r = sys_fchownat(x->dir_fd, base, e->uid, e->gid, AT_SYMLINK_NOFOLLOW);
	if (r == 0 && e->type != '2')
		r = sys_chmodat(x->dir_fd, base, e->mode);
	return r < 0 ? wrong(r, "create", e->name) : NULL;
}

static struct err *whiteout(struct extract *x, const struct tar_entry *e, const char *base)
{
	int r;

	if (strcmp(base, ".wh..wh..opq") == 0) {
		r = fs_xattr_set(x->dir_fd, ".", "trusted.overlay.opaque", "y", 1);
		return r < 0 ? FAIL_OS(-r, "mark %s as opaque", x->dir) : NULL;
	}
	if (strncmp(base, ".wh..wh.", 8) == 0)
		return NULL; /* aufs's own bookkeeping */
	base += 4;
	if (!base[0] || !strcmp(base, ".") || !strcmp(base, ".."))
		return escapes(e->name);
	r = sys_mknod(x->dir_fd, base, S_IFCHR, 0);
	if (r == -EEXIST)
		return NULL; /* the layer itself has it */
	if (r < 0)
		return wrong(r, "create whiteout", e->name);
	/* so that overlayfs hides it also where no other layer has this directory */
	r = fs_xattr_set(x->dir_fd, ".", "trusted.overlay.origin", "", 0);
	return r < 0 ? FAIL_OS(-r, "mark the parent of %s", e->name) : NULL;
}

static struct err *root_entry(struct extract *x, const struct tar_entry *e)
{
	int r;

	if (e->type != '5')
		return FAIL(ERR_INVALID, "the root of the layer is not a directory");
	if ((r = sys_fchown(x->root_fd, e->uid, e->gid)) < 0 || (r = sys_fchmod(x->root_fd, e->mode)) < 0)
		return FAIL_OS(-r, "change the root of the layer");
	*vec_push(&x->dirs) = (struct late){ xstrdup("."), e->mtime_ns };
	return NULL;
}

static struct err *one_entry(struct extract *x, const struct tar_entry *e)
{
	const char *base;

	if (!e->name[0] || !strcmp(e->name, "."))
		return root_entry(x, e);
	if (has_dotdot(e->name))
		return escapes(e->name);
	TRY(enter_parent(x, e->name, e->mtime_ns, &base));
	if (!base[0] || !strcmp(base, "."))
		return escapes(e->name);
	if (strncmp(base, ".wh.", 4) == 0)
		return whiteout(x, e, base);
	if (e->type == '1')
		return make_link(x, e, base);
	if (e->type == '0')
		TRY(make_file(x, e, base));
	else
		TRY(make_other(x, e, base));
	if (e->n_xattrs)
		TRY(set_xattrs(x, e, base));
	if (e->type != '5')
		return set_time(x->dir_fd, base, e->mtime_ns, e->name);
	*vec_push(&x->dirs) = (struct late){ xstrdup(e->name), e->mtime_ns };
	return NULL;
}

/* In order, so that of two times for one directory the later entry's stands. */
static struct err *late_times(struct extract *x)
{
	for (size_t i = 0; i < x->dirs.n; i++) {
		const char *path = x->dirs.p[i].path;
		auto_fd int fd = sys_open_in_root(x->root_fd, path, O_RDONLY | O_DIRECTORY, 0);

		if (fd == -ENOENT || fd == -ENOTDIR)
			continue; /* replaced by a later entry */
		if (fd < 0)
			return wrong(fd, "open", path);
		TRY(set_time(fd, ".", x->dirs.p[i].mtime_ns, path));
	}
	return NULL;
}

static void extract_fini(struct extract *x)
{
	for (size_t i = 0; i < x->dirs.n; i++)
		free(x->dirs.p[i].path);
	vec_fini(&x->dirs);
	own_close(&x->dir_fd);
	free(x->dir);
	free(x->chunk);
	tar_reader_free(x->tar);
}

struct err *extract_tar(int tree_fd, struct zip_source tar, uint64_t *out_size)
{
	CLEANUP(extract_fini) struct extract x = { .root_fd = tree_fd, .dir_fd = -1, .chunk = xmalloc(CHUNK) };
	const struct tar_entry *e;

	TRY(tar_reader_new(tar, &x.tar));
	for (;;) {
		TRY(tar_next(x.tar, &e));
		if (!e)
			break;
		TRY(one_entry(&x, e));
	}
	TRY(late_times(&x));
	*out_size = x.size;
	return NULL;
}

static struct err *from_unzip(void *ctx, void *p, size_t n, size_t *out_n)
{
	return unzip_read(ctx, p, n, out_n);
}

struct err *snapshot_extract(int tree_fd, struct zip_source source)
{
	auto_unzip struct unzip *u = NULL;
	uint64_t size;

	TRY(unzip_open(source, &u));
	return extract_tar(tree_fd, (struct zip_source){ from_unzip, u }, &size);
}

static struct err *overlay_probe(int root_fd)
{
	(void)root_fd;
	return NULL;
}

static struct err *overlay_fill(int dir_fd, struct zip_source tar, uint64_t *out_size)
{
	auto_fd int tree = -1;
	int r = sys_mkdir(dir_fd, "tree", 0755);

	if (r < 0 || (tree = sys_openat(dir_fd, "tree", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(r < 0 ? -r : -tree, "make the layer's tree");
	if ((r = sys_fchmod(tree, 0755)) < 0)
		return FAIL_OS(-r, "make the layer's tree");
	return extract_tar(tree, tar, out_size);
}

const struct layer_driver overlay_driver = { "overlay", overlay_probe, overlay_fill, "tree" };
