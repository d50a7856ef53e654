/*
 * fs_copy.c - a tree copied by directory fds. Names of the source may be anything; in the target nothing is
 * followed, so a container that already has it mounted cannot lead the copy elsewhere.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { COPY_DEPTH = 256, XATTR_NAMES = 65536, XATTR_VALUE = 65536 };

struct copy {
	int root_fd;         /* of the target */
	bool over;           /* what is there is replaced; directories are merged */
	const struct fs_owner *owner; /* of the copies instead; NULL: as the source */
	struct map links;    /* "dev:ino" of a source with several names -> owned path of its first copy */
	char *names, *value; /* attribute buffers, made when first needed */
};

static void copy_fini(struct copy *c)
{
	for (size_t i = 0; i < c->links.n; i++)
		free(c->links.entries[i].value);
	map_fini(&c->links);
	free(c->names);
	free(c->value);
}

/* What belongs to the host's security modules or to overlayfs stays behind. */
static bool is_portable(const char *key)
{
	return strncmp(key, "trusted.", 8) != 0 && strncmp(key, "user.overlay.", 13) != 0 &&
	       (strncmp(key, "security.", 9) != 0 || strcmp(key, "security.capability") == 0);
}

/* SECURITY: a program of one user does not become one of another's with its rights. */
static void look_up_owner(const struct copy *c, struct stat *st)
{
	if (!c->owner)
		return;
	st->st_uid = c->owner->uid;
	st->st_gid = c->owner->gid;
	if (!S_ISDIR(st->st_mode))
		st->st_mode &= ~(mode_t)(S_ISUID | S_ISGID);
}

static int copy_xattrs(struct copy *c, int from, int to, const char *name)
{
	char few[256];
	const char *list = few;
	ssize_t n = fs_xattr_list(from, name, few, sizeof few);

	if (n == -ERANGE) {
		if (!c->names)
			c->names = xmalloc(XATTR_NAMES);
		list = c->names;
		n = fs_xattr_list(from, name, c->names, XATTR_NAMES);
	}
	if (n < 0)
		return n == -EOPNOTSUPP ? 0 : (int)n;
	for (const char *key = list; key < list + n; key += strlen(key) + 1) {
		ssize_t len;
		int r;

		if (!is_portable(key) || (c->owner && strcmp(key, "security.capability") == 0))
			continue;
		if (!c->value)
			c->value = xmalloc(XATTR_VALUE);
		len = fs_xattr_get(from, name, key, c->value, XATTR_VALUE);
		r = len < 0 ? (int)len : fs_xattr_set(to, name, key, c->value, (size_t)len);
		if (r < 0 && r != -EOPNOTSUPP && r != -ENODATA)
			return r;
	}
	return 0;
}

/* Files of the kernel (/proc) say that they are empty. */
static int copy_unsized(int from, int to)
{
	char few[4096];
	ssize_t n;
	int r = 0;

	while (r >= 0 && (n = sys_read(from, few, sizeof few)) != 0)
		r = n < 0 ? (int)n : sys_write_all(to, few, (size_t)n);
	return r;
}

/* What lies between the holes; the place of a hole stays one. A file system that knows none has one piece of data. */
static int copy_data(int from, int to, off_t size)
{
	off_t data, hole, at;
	ssize_t n = 0;

	if (size == 0)
		return copy_unsized(from, to);
	data = sys_lseek(from, 0, SEEK_DATA);
	if (data == -ENXIO)
		data = size;
	for (; data >= 0 && data < size; data = sys_lseek(from, hole, SEEK_DATA)) {
		if ((hole = sys_lseek(from, data, SEEK_HOLE)) < 0)
			return (int)hole;
		if ((at = sys_lseek(from, data, SEEK_SET)) < 0 || (at = sys_lseek(to, data, SEEK_SET)) < 0)
			return (int)at;
		for (off_t left = hole - data; left > 0 && (n = sys_copy_range(from, to, (size_t)left)) > 0; left -= n)
			;
		if (n < 0)
			return (int)n;
	}
	if (data < 0 && data != -ENXIO)
		return (int)data;
	return sys_ftruncate(to, size);
}

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	auto_fd int from = sys_openat(from_dir, name, O_RDONLY | O_NONBLOCK, 0), to = -1;
	int r;

	if (from < 0 || (to = sys_openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL, 0600)) < 0)
		return from < 0 ? from : to;
	if ((r = copy_data(from, to, st->st_size)) < 0)
		return r;
	r = sys_fchown(to, st->st_uid, st->st_gid);
	return r < 0 ? r : sys_fchmod(to, st->st_mode & 07777);
}

static int copy_link(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	char target[4096];
	int r = (int)sys_readlink(from_dir, name, target, sizeof target);

	if (r < 0 || (r = sys_symlink(target, to_dir, name)) < 0)
		return r;
	return sys_fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW);
}

static int copy_node(int to_dir, const char *name, const struct stat *st)
{
	int r = sys_mknod(to_dir, name, st->st_mode & S_IFMT, st->st_rdev);

	if (r < 0 || (r = sys_fchownat(to_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW)) < 0)
		return r;
	return fs_chmod(to_dir, name, st->st_mode & 07777);
}

/* Whether name was made as a further link to what was copied before; else remembers its path. */
static int again(struct copy *c, int to_dir, const char *name, const char *path, const struct stat *st)
{
	auto_free char *up = NULL;
	auto_fd int dir = -1;
	const char *first, *base;
	char key[64];
	void **slot;
	int r;

	if (st->st_nlink < 2 || S_ISDIR(st->st_mode))
		return 0;
	(void)snprintf(key, sizeof key, "%llx:%llx", (unsigned long long)st->st_dev,
		       (unsigned long long)st->st_ino);
	slot = map_put(&c->links, key);
	if (!*slot) {
		*slot = xstrdup(path);
		return 0;
	}
	first = *slot;
	base = strrchr(first, '/') + 1;
	up = xasprintf(".%.*s", (int)(base - first - 1), first);
	if ((dir = sys_open_beneath(c->root_fd, up, O_PATH | O_DIRECTORY, 0)) < 0)
		return dir;
	r = sys_link(dir, base, to_dir, name);
	return r < 0 ? r : 1;
}

static int copy_dir(struct copy *c, int from, int to, const char *path, int depth);

static int copy_subdir(struct copy *c, int from_dir, int to_dir, const char *name, const char *path,
		       int depth)
{
	auto_fd int from = sys_openat(from_dir, name, O_RDONLY | O_DIRECTORY, 0), to = -1;
	struct stat st;
	int r;

	if (depth >= COPY_DEPTH)
		return -ELOOP;
	if (from < 0 || (r = sys_fstat(from, &st)) < 0)
		return from < 0 ? from : r;
	look_up_owner(c, &st);
	if ((r = sys_mkdir(to_dir, name, 0700)) < 0 && !(r == -EEXIST && c->over))
		return r;
	if ((to = sys_openat(to_dir, name, O_RDONLY | O_DIRECTORY, 0)) < 0)
		return to;
	if ((r = copy_dir(c, from, to, path, depth + 1)) < 0 ||
	    (r = sys_fchown(to, st.st_uid, st.st_gid)) < 0)
		return r;
	return sys_fchmod(to, st.st_mode & 07777);
}

/* What is in the way of an entry goes, but a directory stays for a directory. */
static int make_room(int to_dir, const char *name, const struct stat *st)
{
	struct stat there;

	if (sys_fstatat(to_dir, name, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (S_ISDIR(there.st_mode) && S_ISDIR(st->st_mode)))
		return 0;
	return S_ISDIR(there.st_mode) ? -EISDIR : sys_unlink(to_dir, name);
}

static int copy_one(struct copy *c, int from, int to, const char *name, const char *dir, int depth)
{
	auto_free char *path = xasprintf("%s/%s", dir, name);
	struct timespec times[2];
	struct stat st;
	int r = sys_fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0 || S_ISSOCK(st.st_mode))
		return r < 0 ? r : 0;
	look_up_owner(c, &st);
	if (c->over && (r = make_room(to, name, &st)) < 0)
		return r;
	if ((r = again(c, to, name, path, &st)) != 0)
		return r < 0 ? r : 0;
	if (S_ISREG(st.st_mode))
		r = copy_file(from, to, name, &st);
	else if (S_ISDIR(st.st_mode))
		r = copy_subdir(c, from, to, name, path, depth);
	else if (S_ISLNK(st.st_mode))
		r = copy_link(from, to, name, &st);
	else
		r = copy_node(to, name, &st);
	if (r < 0 || (r = copy_xattrs(c, from, to, name)) < 0)
		return r;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return sys_utimens(to, name, times, AT_SYMLINK_NOFOLLOW);
}

static int copy_dir(struct copy *c, int from, int to, const char *path, int depth)
{
	auto_list char **names = NULL;
	int r = fs_list(from, &names);

	for (size_t i = 0; r >= 0 && names[i]; i++) {
		struct stat st;

		r = copy_one(c, from, to, names[i], path, depth);
		if (r == -ENOENT && sys_fstatat(from, names[i], &st, AT_SYMLINK_NOFOLLOW) == -ENOENT)
			r = 0; /* went meanwhile: the tree is in use */
	}
	return r < 0 ? r : 0;
}

int fs_copy_tree(int from_fd, int to_fd)
{
	CLEANUP(copy_fini) struct copy c = { .root_fd = to_fd };

	return copy_dir(&c, from_fd, to_fd, "", 0);
}

int fs_copy_over(int from_fd, int to_fd, const struct fs_owner *owner)
{
	CLEANUP(copy_fini) struct copy c = { .root_fd = to_fd, .over = true, .owner = owner };

	return copy_dir(&c, from_fd, to_fd, "", 0);
}

int fs_copy_entry(int from_fd, const char *name, int to_fd, const struct fs_owner *owner)
{
	CLEANUP(copy_fini) struct copy c = { .root_fd = to_fd, .owner = owner };

	return copy_one(&c, from_fd, to_fd, name, "", 0);
}

int fs_copy_content(int from_fd, int to_fd)
{
	struct stat st;
	int r = sys_fstat(from_fd, &st);

	if (r < 0 || (r = sys_ftruncate(to_fd, 0)) < 0)
		return r;
	return copy_data(from_fd, to_fd, st.st_size);
}

int fs_copy_attrs(int from_fd, int to_fd)
{
	return fs_copy_attrs_to(from_fd, to_fd, NULL);
}

int fs_copy_attrs_to(int from_fd, int to_fd, const struct fs_owner *owner)
{
	CLEANUP(copy_fini) struct copy c = { .root_fd = to_fd, .owner = owner };
	struct timespec times[2];
	struct stat st;
	int r = sys_fstat(from_fd, &st);

	if (r >= 0)
		look_up_owner(&c, &st);
	if (r < 0 || (r = sys_fchown(to_fd, st.st_uid, st.st_gid)) < 0 ||
	    (r = sys_fchmod(to_fd, st.st_mode & 07777)) < 0 || (r = copy_xattrs(&c, from_fd, to_fd, ".")) < 0)
		return r;
	times[0] = st.st_atim;
	times[1] = st.st_mtim;
	return sys_utimens(to_fd, ".", times, 0);
}

enum { CHOWN_DEPTH = 1024 };

static int chown_in(int dir_fd, uid_t uid, gid_t gid, int depth)
{
	auto_list char **names = NULL;
	int r = depth > CHOWN_DEPTH ? -ELOOP : fs_list(dir_fd, &names);

	for (size_t i = 0; r >= 0 && names[i]; i++) {
		struct stat st;
		auto_fd int fd = -1;

		if ((r = sys_fstatat(dir_fd, names[i], &st, AT_SYMLINK_NOFOLLOW)) == -ENOENT) {
			r = 0;
			continue;
		}
		if (r >= 0 && S_ISDIR(st.st_mode)) {
			fd = sys_openat(dir_fd, names[i], O_RDONLY | O_DIRECTORY, 0);
			r = fd < 0 ? fd : chown_in(fd, uid, gid, depth + 1);
		}
		if (r >= 0 && (st.st_uid != uid || st.st_gid != gid))
			r = sys_fchownat(dir_fd, names[i], uid, gid, AT_SYMLINK_NOFOLLOW);
	}
	return r < 0 ? r : 0;
}

int fs_chown_tree(int fd, uid_t uid, gid_t gid)
{
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r >= 0 && S_ISDIR(st.st_mode))
		r = chown_in(fd, uid, gid, 0);
	if (r >= 0 && (st.st_uid != uid || st.st_gid != gid))
		r = sys_fchown(fd, uid, gid);
	return r < 0 ? r : 0;
}

struct merge {
	bool replace;
	int depth;
};
static int merge_one(struct merge m, int from, int to, const char *name);

static int merge_dir(struct merge m, int from, int to)
{
	auto_list char **names = NULL;
	struct stat st; /* as it was before its entries left */
	int r = m.depth > COPY_DEPTH ? -ELOOP : fs_list(from, &names);

	if (r < 0 || (r = sys_fstat(from, &st)) < 0)
		return r;
	for (size_t i = 0; r >= 0 && names[i]; i++)
		r = merge_one(m, from, to, names[i]);
	if (r < 0 || (m.depth && !m.replace) || (r = fs_copy_attrs(from, to)) < 0)
		return r;
	return sys_utimens(to, ".", (const struct timespec[2]){ st.st_atim, st.st_mtim }, 0);
}

static int merge_one(struct merge m, int from, int to, const char *name)
{
	auto_fd int below = -1, there = -1;
	int r = sys_renameat(from, name, to, name, RENAME_NOREPLACE);

	if (r != -EEXIST)
		return r;
	below = sys_openat(from, name, O_RDONLY | O_DIRECTORY, 0);
	there = sys_openat(to, name, O_RDONLY | O_DIRECTORY, 0);
	m.depth++;
	if (below >= 0 && there >= 0)
		return merge_dir(m, below, there);
	if (!m.replace)
		return 0;
	if (below >= 0 || there >= 0) /* a directory and what is none: the old one goes */
		r = there >= 0 ? fs_remove_tree(to, name) : sys_unlink(to, name);
	return r < 0 && r != -EEXIST ? r : sys_renameat(from, name, to, name, 0);
}

int fs_merge_tree(int from_fd, int to_fd, bool replace)
{
	return merge_dir((struct merge){ .replace = replace }, from_fd, to_fd);
}
