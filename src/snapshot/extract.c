/*
 * extract.c - tar entries become files, with as few system calls as a file needs: create with its final mode
 * (umask 0), write, owner only where it differs, time. A layer's tree is private; a container may live in one
 * that a tar is copied to. Directories get their times, setgid bits and default ACLs last, because what is
 * made in them would change or inherit these.
 *
 * Whiteouts become those of overlayfs. They speak of lower layers only (image-spec layer.md), so a directory
 * that the same layer makes under a whiteout's name is opaque, whichever of the two comes first, with an entry of its own or because
 * one is below it. A whiteout below a whiteout hides nothing more.
 */
#include "base/own.h"
#include "base/vec.h"
#include "codec/tar.h"
#include "snapshot/driver.h"
#include "snapshot/place.h"
#include "snapshot/pump.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

enum { CHUNK = 1 << 18, HOLE_MIN = 1 << 16 };

struct late { /* a directory entry's attributes that wait */
	char *path;
	int64_t mtime_ns;
	mode_t mode;
	bool has_mode; /* it is with setgid, or may come over that of an earlier entry that was */
	char *acl;     /* system.posix_acl_default */
	size_t n_acl;
};
struct extract {
	struct tar_reader *tar;
	struct place place;
	VEC(struct late) late;
	char *chunk;
	uint64_t size;
	bool is_layer;   /* whiteouts mean something */
	bool has_setgid; /* a directory was */
	int umask;       /* to be set again at the end */
};

static struct err *failed(int r, const char *what, const char *name)
{
	if (r == -EINVAL && fs_marks_are_user())
		return FAIL(ERR_INVALID, "%s %s: its owner has no number in this user namespace (/etc/subuid and /etc/subgid give more)",
			    what, name);
	return FAIL_OS(-r, "%s %s", what, name);
}

static struct timespec timespec_of(int64_t ns)
{
	int64_t s = ns / 1000000000, rest = ns % 1000000000;

	return rest < 0 ? (struct timespec){ s - 1, rest + 1000000000 } : (struct timespec){ s, rest };
}

static int set_time(int dir_fd, const char *base, int64_t ns, int flags)
{
	struct timespec t[2] = { timespec_of(ns), timespec_of(ns) };

	return sys_utimens(dir_fd, base, t, flags);
}

/* Whether a new file's owner is not what the entry wants. */
static bool wants_chown(struct extract *x, const struct tar_entry *e)
{
	return e->uid || e->gid || place_at(&x->place)->gid;
}

/* Removes what stands under the name of a new entry. */
static int make_room(struct extract *x, const char *base)
{
	int r = fs_remove_tree(place_at(&x->place)->fd, base);

	place_forget(&x->place);
	return r;
}

/* ---- files ---- */

static bool is_zero(const char *p, size_t n)
{
	return p[0] == 0 && memcmp(p, p + 1, n - 1) == 0;
}

/* A hole of a sparse entry, of which no byte is looked at. */
static struct err *pass_hole(struct extract *x, int fd, const char *name, uint64_t *size, bool *in_hole)
{
	uint64_t hole = tar_pass_hole(x->tar);
	off_t r = hole > INT64_MAX - *size ? -EFBIG : hole ? sys_lseek(fd, (off_t)hole, SEEK_CUR) : 0;

	*size += hole;
	*in_hole |= hole > 0;
	return r < 0 ? failed(r == -EINVAL ? -EFBIG : (int)r, "write", name) : NULL;
}

/* Long runs of zeros stay holes: images do hold database and log files of gigabytes that were sparse once. */
static struct err *copy_content(struct extract *x, int fd, const char *name)
{
	bool in_hole = false;
	uint64_t size = 0;

	for (;;) {
		size_t n = 0;
		off_t r;

		TRY(pass_hole(x, fd, name, &size, &in_hole));
		TRY(tar_read(x->tar, x->chunk, CHUNK, &n));
		if (n == 0)
			break;
		in_hole = n >= HOLE_MIN && is_zero(x->chunk, n);
		size += n;
		r = in_hole ? sys_lseek(fd, (off_t)n, SEEK_CUR) : sys_write_all(fd, x->chunk, n);
		if (r < 0)
			return failed((int)r, "write", name);
	}
	x->size += size;
	if (in_hole) {
		int r = sys_ftruncate(fd, (off_t)size);

		if (r < 0)
			return failed(r, "write", name);
	}
	return NULL;
}

static struct err *make_file(struct extract *x, const struct tar_entry *e, const char *base)
{
	enum { HOW = O_WRONLY | O_CREAT | O_EXCL };
	auto_fd int fd = sys_openat(place_at(&x->place)->fd, base, HOW, e->mode & 0777);
	int r = 0;

	if (fd == -EEXIST && (r = make_room(x, base)) == 0)
		fd = sys_openat(place_at(&x->place)->fd, base, HOW, e->mode & 0777);
	if (r < 0 || fd < 0)
		return failed(r < 0 ? r : fd, "create", e->name);
	TRY(copy_content(x, fd, e->name));
	if (wants_chown(x, e) && (r = sys_fchown(fd, e->uid, e->gid)) < 0)
		return failed(r, "change the owner of", e->name);
	if ((e->mode & 07000) && (r = sys_fchmod(fd, e->mode)) < 0) /* after chown, which drops setuid */
		return failed(r, "change the mode of", e->name);
	r = set_time(fd, "", e->mtime_ns, AT_EMPTY_PATH);
	return r < 0 ? failed(r, "set the time of", e->name) : NULL;
}

/* Whether both names are of one file: tar writes a link to itself where it is given a file with several names twice. */
static bool is_same(int dir_fd, const char *base, int other_fd, const char *other)
{
	struct stat a, b;

	return sys_fstatat(dir_fd, base, &a, AT_SYMLINK_NOFOLLOW) == 0 && sys_fstatat(other_fd, other, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	       a.st_dev == b.st_dev && a.st_ino == b.st_ino && !S_ISDIR(a.st_mode);
}

/* A further name of what this layer made before. */
static struct err *make_link(struct extract *x, const struct tar_entry *e, const char *base)
{
	char target[PLACE_NAME_MAX], *slash;
	auto_fd int from = -1;
	int r;

	/* SECURITY: a target above the root is refused, not clamped: nobody writes one in good faith */
	if (!place_clean(e->link, target) || !target[0])
		return place_escapes(e->name);
	slash = strrchr(target, '/');
	if (slash)
		*slash = '\0';
	from = sys_open_in_root(x->place.root_fd, slash ? target : ".", O_PATH | O_DIRECTORY, 0);
	if (from < 0)
		return failed(from, "find the directory of the hard link target of", e->name);
	slash = slash ? slash + 1 : target;
	r = sys_link(from, slash, place_at(&x->place)->fd, base);
	if (r == -EEXIST && is_same(place_at(&x->place)->fd, base, from, slash))
		return NULL;
	if (r == -EEXIST && (r = make_room(x, base)) == 0)
		r = sys_link(from, slash, place_at(&x->place)->fd, base);
	return r < 0 ? FAIL_OS(-r, "hard link %s to %s", e->name, e->link) : NULL;
}

/* ---- the rest, by name ---- */

static int make_node(int dir_fd, const struct tar_entry *e, const char *base)
{
	switch (e->type) {
	case '2':
		return sys_symlink(e->link, dir_fd, base);
	case '3':
		return sys_mknod(dir_fd, base, S_IFCHR | (e->mode & 0777),
				 makedev(e->dev_major, e->dev_minor));
	case '4':
		return sys_mknod(dir_fd, base, S_IFBLK | (e->mode & 0777),
				 makedev(e->dev_major, e->dev_minor));
	case '6':
		return sys_mknod(dir_fd, base, S_IFIFO | (e->mode & 0777), 0);
	default:
		return -EINVAL;
	}
}

static struct err *make_other(struct extract *x, const struct tar_entry *e, const char *base)
{
	int dir = place_at(&x->place)->fd, r = make_node(dir, e, base);

	if (r == -EEXIST && (r = make_room(x, base)) == 0)
		r = make_node(dir, e, base);
	/* a user namespace makes no devices, and its mounts open none: nobody could use it there anyway */
	if (r == -EPERM && (e->type == '3' || e->type == '4') && fs_marks_are_user())
		return NULL;
	if (r < 0)
		return failed(r, "create", e->name);
	if (wants_chown(x, e) && (r = sys_fchownat(dir, base, e->uid, e->gid, AT_SYMLINK_NOFOLLOW)) < 0)
		return failed(r, "change the owner of", e->name);
	if (e->type != '2' && (e->mode & 07000) && (r = fs_chmod(dir, base, e->mode)) < 0)
		return failed(r, "change the mode of", e->name);
	r = set_time(dir, base, e->mtime_ns, AT_SYMLINK_NOFOLLOW);
	return r < 0 ? failed(r, "set the time of", e->name) : NULL;
}

static bool is_whiteout(const struct stat *st)
{
	return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

static int set_opaque(int dir_fd, const char *base)
{
	return fs_xattr_set(dir_fd, base, fs_mark_key(FS_MARK_OPAQUE), "y", 1);
}

/* The way to an entry leads through a whiteout: it is a new directory, and the lower one's content stays hidden. */
static int open_whiteout(int dir_fd, const char *name)
{
	struct stat st;
	int r = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0 || !is_whiteout(&st))
		return r < 0 ? r : 0;
	if ((r = sys_unlink(dir_fd, name)) == 0 && (r = sys_mkdir(dir_fd, name, 0755)) == 0)
		r = set_opaque(dir_fd, name);
	return r < 0 ? r : 1;
}

/* The way to a whiteout does: there is nothing left to hide. */
static int stop_at_whiteout(int dir_fd, const char *name)
{
	struct stat st;
	int r = sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW);

	return r < 0 ? r : is_whiteout(&st) ? -ECANCELED : 0;
}

/* A directory that is there stays and takes the entry's attributes; anything else goes. */
static int make_directory(struct extract *x, const struct tar_entry *e, const char *base)
{
	int dir = place_at(&x->place)->fd, r = sys_mkdir(dir, base, e->mode & 0777);
	bool was_there = r == -EEXIST, was_whiteout = false;
	struct stat st;

	if (was_there && (r = sys_fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW)) == 0 &&
	    !S_ISDIR(st.st_mode)) {
		was_there = false;
		was_whiteout = is_whiteout(&st);
		if ((r = make_room(x, base)) == 0)
			r = sys_mkdir(dir, base, e->mode & 0777);
	}
	if (r == 0 && (was_there || wants_chown(x, e)))
		r = sys_fchownat(dir, base, e->uid, e->gid, AT_SYMLINK_NOFOLLOW);
	if (r == 0 && (was_there || (e->mode & 05000)))
		r = fs_chmod(dir, base, e->mode & ~(mode_t)S_ISGID);
	if (r == 0 && was_whiteout)
		r = set_opaque(dir, base);
	return r;
}

/* ---- attributes ---- */

bool extract_wants_xattr(const char *key)
{
	static const char *const ours[] = { "trusted.overlay.", "user.overlay.", "security.selinux",
					    "security.ima",     "security.evm",  "security.SMACK",
					    "security.apparmor" };

	for (size_t i = 0; i < LEN(ours); i++)
		if (strncmp(key, ours[i], strlen(ours[i])) == 0)
			return false;
	return true;
}

static bool is_default_acl(const struct tar_xattr *a)
{
	return strcmp(a->name, "system.posix_acl_default") == 0;
}

static struct err *set_xattrs(int dir_fd, const struct tar_entry *e, const char *base)
{
	for (size_t i = 0; i < e->n_xattrs; i++) {
		const struct tar_xattr *a = &e->xattrs[i];
		int r;

		if (!extract_wants_xattr(a->name) || is_default_acl(a))
			continue;
		r = fs_xattr_set(dir_fd, base, a->name, a->value, a->n);
		/* a file system without them; user.* on what is no file or directory */
		if (r < 0 && r != -EOPNOTSUPP && !(r == -EPERM && strncmp(a->name, "user.", 5) == 0))
			return FAIL_OS(-r, "set attribute %s of %s", a->name, e->name);
	}
	return NULL;
}

static void add_late(struct extract *x, const struct tar_entry *e, const char *path)
{
	struct late *l = vec_push(&x->late);

	l->path = xstrdup(path);
	l->mtime_ns = e->mtime_ns;
	l->mode = e->mode;
	l->has_mode = x->has_setgid |= (e->mode & S_ISGID) != 0;
	for (size_t i = 0; i < e->n_xattrs; i++)
		if (is_default_acl(&e->xattrs[i]) && !l->acl) {
			l->n_acl = e->xattrs[i].n;
			l->acl = xmalloc(l->n_acl + 1);
			memcpy(l->acl, e->xattrs[i].value, l->n_acl);
		}
}

static struct err *set_late(struct extract *x, const struct late *l)
{
	const char *base = ".";
	struct stat st;
	int dir, r = 0;

	if (l->path[0]) {
		struct err *e = place_enter(&x->place, l->path, PLACE_FIND, &base);

		if (e &&
		    (e->kind == ERR_NOT_FOUND || e->kind == ERR_INVALID)) { /* replaced by a later entry */
			err_free(e);
			return NULL;
		}
		TRY(e);
	} else {
		const char *any;

		TRY(place_enter(&x->place, "", PLACE_FIND, &any));
	}
	dir = place_at(&x->place)->fd;
	r = sys_fstatat(dir, base, &st, AT_SYMLINK_NOFOLLOW);
	if (r == -ENOENT || (r == 0 && !S_ISDIR(st.st_mode)))
		return NULL;
	if (r == 0 && l->acl)
		r = fs_xattr_set(dir, base, "system.posix_acl_default", l->acl, l->n_acl);
	if (r == 0 && l->has_mode)
		r = fs_chmod(dir, base, l->mode);
	if (r == 0)
		r = set_time(dir, base, l->mtime_ns, AT_SYMLINK_NOFOLLOW);
	return r < 0 && r != -EOPNOTSUPP ? failed(r, "set the time of", l->path) : NULL;
}

/* In order, so that of two entries for one directory the later one's attributes stand. */
static struct err *set_all_late(struct extract *x)
{
	for (size_t i = 0; i < x->place.made.n; i++)
		TRY(set_late(x, &(struct late){ .path = x->place.made.p[i].path,
						.mtime_ns = x->place.made.p[i].mtime_ns }));
	for (size_t i = 0; i < x->late.n; i++)
		TRY(set_late(x, &x->late.p[i]));
	return NULL;
}

/* ---- entries ---- */

static struct err *whiteout(struct extract *x, const struct tar_entry *e, const char *base)
{
	struct place_dir *at = place_at(&x->place);
	struct stat st;
	int r;

	if (strcmp(base, ".wh..wh..opq") == 0) {
		r = set_opaque(at->fd, ".");
		return r < 0 ? failed(r, "make opaque the directory of", e->name) : NULL;
	}
	if (strncmp(base, ".wh..wh.", 8) == 0)
		return NULL; /* aufs's own bookkeeping */
	base += 4;
	if (!base[0] || !strcmp(base, ".") || !strcmp(base, ".."))
		return place_escapes(e->name);
	r = sys_mknod(at->fd, base, S_IFCHR, 0);
	if (r == -EEXIST && (r = sys_fstatat(at->fd, base, &st, AT_SYMLINK_NOFOLLOW)) == 0) {
		if (S_ISDIR(st.st_mode) && (r = set_opaque(at->fd, base)) < 0)
			return failed(r, "make opaque", e->name);
		return NULL; /* this layer has the name itself, which hides that of the lower ones */
	}
	if (r == 0) /* so that the same tar can be made of the tree again */
		r = set_time(at->fd, base, e->mtime_ns, AT_SYMLINK_NOFOLLOW);
	/* overlayfs shows a whiteout as a broken device where no other layer has its directory, unless that
	 * has an origin */
	if (r == 0 && !at->is_noted && (r = fs_xattr_set(at->fd, ".", fs_mark_key(FS_MARK_ORIGIN), "", 0)) == 0)
		at->is_noted = true;
	return r < 0 ? failed(r, "create whiteout", e->name) : NULL;
}

static struct err *root_entry(struct extract *x, const struct tar_entry *e)
{
	const char *base;
	int r;

	if (e->type != '5')
		return FAIL(ERR_INVALID, "the root of the layer is not a directory");
	TRY(place_enter(&x->place, "", PLACE_FIND, &base));
	r = sys_fchown(x->place.root_fd, e->uid, e->gid);
	if (r < 0 || (r = sys_fchmod(x->place.root_fd, e->mode & ~(mode_t)S_ISGID)) < 0)
		return FAIL_OS(-r, "change the root of the layer");
	place_at(&x->place)->gid = e->gid;
	add_late(x, e, "");
	return set_xattrs(x->place.root_fd, e, ".");
}

static struct err *add_entry(struct extract *x, const struct tar_entry *e)
{
	char name[PLACE_NAME_MAX];
	bool hides;
	const char *base;
	int r;

	if (!place_clean(e->name, name))
		return place_escapes(e->name);
	if (!name[0])
		return root_entry(x, e);
	base = strrchr(name, '/');
	hides = x->is_layer && strncmp(base ? base + 1 : name, ".wh.", 4) == 0;
	x->place.give_way = hides ? stop_at_whiteout : x->is_layer ? open_whiteout : NULL;
	TRY(place_enter(&x->place, name, e->mtime_ns, &base));
	if (hides)
		return whiteout(x, e, base);
	if (e->type == '1')
		return make_link(x, e, base);
	if (e->type == '0') {
		TRY(make_file(x, e, base));
	} else if (e->type == '5') {
		if ((r = make_directory(x, e, base)) < 0)
			return failed(r, "create directory", e->name);
		add_late(x, e, name);
	} else {
		TRY(make_other(x, e, base));
	}
	return e->n_xattrs ? set_xattrs(place_at(&x->place)->fd, e, base) : NULL;
}

static struct err *one_entry(struct extract *x, const struct tar_entry *e)
{
	struct err *err = add_entry(x, e);

	if (!err || err->kind != ERR_CANCELLED || err->os)
		return err;
	err_free(err); /* a whiteout below a whiteout */
	return NULL;
}

static void extract_fini(struct extract *x)
{
	if (x->umask >= 0)
		(void)umask((mode_t)x->umask);
	for (size_t i = 0; i < x->late.n; i++) {
		free(x->late.p[i].path);
		free(x->late.p[i].acl);
	}
	vec_fini(&x->late);
	place_fini(&x->place);
	free(x->chunk);
	tar_reader_free(x->tar);
}

struct err *extract_tar(int tree_fd, struct zip_source tar, bool is_layer, uint64_t *out_size)
{
	CLEANUP(extract_fini) struct extract x = { .chunk = xmalloc(CHUNK), .is_layer = is_layer };
	const struct tar_entry *e;

	if ((x.umask = fs_own_umask(0)) < 0)
		return FAIL_OS(-x.umask, "get a umask of our own");
	TRY(tar_reader_new(tar, &x.tar));
	if (is_layer)
		tar_may_be_empty(x.tar);
	TRY(place_init(&x.place, tree_fd));
	for (;;) {
		TRY(tar_next(x.tar, &e));
		if (!e)
			break;
		TRY(one_entry(&x, e));
	}
	TRY(set_all_late(&x));
	*out_size = x.size;
	return NULL;
}

static struct err *from_unzip(void *ctx, void *p, size_t n, size_t *out_n)
{
	return unzip_read(ctx, p, n, out_n);
}

static struct err *into_tree(void *ctx, struct zip_source tar)
{
	const int *tree_fd = ctx;
	uint64_t size;

	return extract_tar(*tree_fd, tar, false, &size);
}

struct err *snapshot_extract(int tree_fd, struct zip_source source)
{
	auto_unzip struct unzip *u = NULL;
	char digest[DIGEST_MAX];

	TRY(unzip_open_any(source, &u));
	return pump_run((struct zip_source){ from_unzip, u }, &(struct pump_job){ into_tree, &tree_fd },
			digest);
}
