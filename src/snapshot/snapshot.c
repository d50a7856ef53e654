/*
 * snapshot.c - naming of layers: fill ROOT/tmp/layer-<random> (flocked), sync, rename to ROOT/layers/<hex>,
 * sync the directory. So a layer under its name has all its bytes on disk; what a crash left in tmp nobody
 * holds and is swept.
 */
#include "snapshot/snapshot.h"
#include "base/buf.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "snapshot/driver.h"
#include "snapshot/pump.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>

struct snapshotter {
	int layers_fd, tmp_fd;
	char *layers_path;
	const struct layer_driver *driver;
};

static FALLIBLE make_dir(int root_fd, const char *name, int *out_fd)
{
	int r = sys_mkdir(root_fd, name, 0710);

	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "make directory %s", name);
	*out_fd = sys_open_beneath(root_fd, name, O_RDONLY | O_DIRECTORY, 0);
	return *out_fd < 0 ? FAIL_OS(-*out_fd, "open directory %s", name) : NULL;
}

/* Removes what writers that are gone left behind. */
static void sweep(const struct snapshotter *s)
{
	auto_list char **names = NULL;

	if (fs_list(s->tmp_fd, &names) < 0)
		return;
	for (size_t i = 0; names[i]; i++) {
		auto_fd int fd = -1;

		if (strncmp(names[i], "layer-", 6) != 0)
			continue;
		fd = sys_openat(s->tmp_fd, names[i], O_RDONLY | O_DIRECTORY, 0);
		if (fd >= 0 && sys_flock(fd, LOCK_EX | LOCK_NB) == 0)
			(void)fs_remove_tree(s->tmp_fd, names[i]);
	}
}

OWN_DEFINE(struct snapshotter *, snapshotter, snapshotter_close)

FALLIBLE snapshotter_open(int root_fd, struct snapshotter **out_s)
{
	CLEANUP(own_snapshotter) struct snapshotter *s = xnew(struct snapshotter);
	char link[64], path[PATH_MAX];
	int r;

	s->layers_fd = s->tmp_fd = -1;
	TRY(make_dir(root_fd, "layers", &s->layers_fd));
	TRY(make_dir(root_fd, "tmp", &s->tmp_fd));
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", s->layers_fd);
	if ((r = (int)sys_readlink(AT_FDCWD, link, path, sizeof path)) < 0)
		return FAIL_OS(-r, "find the path of the layers directory");
	s->layers_path = xstrdup(path);
	s->driver = &overlay_driver;
	TRY(s->driver->probe(root_fd));
	sweep(s);
	*out_s = TAKE(s);
	return NULL;
}

void snapshotter_close(struct snapshotter *s)
{
	if (!s)
		return;
	own_close(&s->layers_fd);
	own_close(&s->tmp_fd);
	free(s->layers_path);
	free(s);
}

const char *snapshotter_driver(const struct snapshotter *s)
{
	return s->driver->name;
}

bool layer_exists(const struct snapshotter *s, const char *diff_id)
{
	struct stat st;

	return digest_is_valid(sv_of(diff_id)) &&
	       sys_fstatat(s->layers_fd, digest_hex(diff_id), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

uint64_t layer_size(const struct snapshotter *s, const char *diff_id)
{
	char path[96], text[32];
	auto_fd int fd = -1;
	uint64_t size = 0;
	ssize_t n;

	if (!digest_is_valid(sv_of(diff_id)))
		return 0;
	(void)snprintf(path, sizeof path, "%s/size", digest_hex(diff_id));
	fd = sys_open_beneath(s->layers_fd, path, O_RDONLY, 0);
	n = fd < 0 ? -1 : sys_read(fd, text, sizeof text);
	if (n > 0)
		err_free(num_parse(sv_trim(sv_from(text, (size_t)n)), 10, 0, UINT64_MAX, &size));
	return size;
}

/* ---- making ---- */

struct draft { /* a layer that has no name yet */
	struct snapshotter *s;
	char name[48];
	int fd; /* flocked; -1: named or none */
};

static void draft_drop(struct draft *d)
{
	if (d->fd >= 0)
		(void)fs_remove_tree(d->s->tmp_fd, d->name);
	own_close(&d->fd);
	d->fd = -1;
}

static FALLIBLE draft_begin(struct snapshotter *s, struct draft *d)
{
	static atomic_uint serial;
	struct stat st = { 0 };
	int r;

	*d = (struct draft){ .s = s, .fd = -1 };
	do { /* again when a sweeper took it between the two calls */
		own_close(&d->fd);
		(void)snprintf(d->name, sizeof d->name, "layer-%d-%u", (int)getpid(),
			       atomic_fetch_add(&serial, 1));
		r = sys_mkdir(s->tmp_fd, d->name, 0710);
		if (r < 0 && r != -EEXIST)
			return FAIL_OS(-r, "make a temporary layer");
		d->fd = r < 0 ? -1 : sys_openat(s->tmp_fd, d->name, O_RDONLY | O_DIRECTORY, 0);
		if (d->fd >= 0 && ((r = sys_flock(d->fd, LOCK_EX)) < 0 || (r = sys_fstat(d->fd, &st)) < 0))
			return FAIL_OS(-r, "lock a temporary layer");
	} while (d->fd < 0 ? r == -EEXIST || d->fd == -ENOENT : st.st_nlink == 0);
	if (d->fd < 0)
		(void)sys_rmdir(s->tmp_fd, d->name);
	return d->fd < 0 ? FAIL_OS(-d->fd, "open a temporary layer") : NULL;
}

/* Syncs and names. A layer that is there already stays: the draft goes. */
static FALLIBLE draft_name(struct draft *d, const char *diff_id, uint64_t size)
{
	char text[32];
	auto_fd int fd = sys_openat(d->fd, "size", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)size);
	int r = fd < 0 ? fd : sys_write_all(fd, text, (size_t)n);

	if (r >= 0)
		r = sys_syncfs(d->fd);
	if (r < 0)
		return FAIL_OS(-r, "write layer %s", diff_id);
	r = sys_renameat(d->s->tmp_fd, d->name, d->s->layers_fd, digest_hex(diff_id), RENAME_NOREPLACE);
	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "name layer %s", diff_id);
	if (r == 0) {
		own_close(&d->fd);
		d->fd = -1;
	}
	/* also when it was there: another process may have renamed it and not synced the directory yet */
	r = sys_fsync(d->s->layers_fd);
	return r < 0 ? FAIL_OS(-r, "sync layer %s", diff_id) : NULL;
}

struct filling {
	struct draft *draft;
	uint64_t size;
};

static FALLIBLE fill(void *ctx, struct zip_source tar)
{
	struct filling *f = ctx;

	return f->draft->s->driver->fill(f->draft->fd, tar, &f->size);
}

FALLIBLE layer_apply(struct snapshotter *s, struct zip_source source, const char *want_diff_id,
		     char out_diff_id[DIGEST_MAX])
{
	CLEANUP(draft_drop) struct draft d = { .fd = -1 };
	struct filling f = { .draft = &d };
	char got[DIGEST_MAX];

	TRY(draft_begin(s, &d));
	TRY(pump_run(source, fill, &f, got));
	if (want_diff_id && strcmp(got, want_diff_id) != 0)
		return FAIL(ERR_CORRUPT, "layer digest mismatch: wanted %s, got %s", want_diff_id, got);
	TRY(draft_name(&d, got, f.size));
	if (out_diff_id)
		memcpy(out_diff_id, got, DIGEST_MAX);
	return NULL;
}

/* A tree that becomes a layer: bytes of content (a file with several names counts once), and times as its tar has them. */
struct settling {
	struct map seen;
	uint64_t size;
	int64_t clamp_ns;
};

static void settling_fini(struct settling *s)
{
	map_fini(&s->seen);
}

static void settle_size(struct settling *s, const struct stat *st)
{
	char key[32];
	void **slot = NULL;

	(void)snprintf(key, sizeof key, "%llx", (unsigned long long)st->st_ino);
	if (st->st_nlink > 1)
		slot = map_put(&s->seen, key);
	if (!slot || !*slot)
		s->size += (uint64_t)st->st_size;
	if (slot)
		*slot = s;
}

static FALLIBLE settle_time(const struct settling *s, int dir_fd, const char *name, const struct stat *st)
{
	const struct timespec to = { s->clamp_ns / 1000000000, s->clamp_ns % 1000000000 };
	const struct timespec times[2] = { to, to };
	int r;

	if (s->clamp_ns < 0 || st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec <= s->clamp_ns)
		return NULL;
	r = sys_utimens(dir_fd, name, times, AT_SYMLINK_NOFOLLOW);
	return r < 0 ? FAIL_OS(-r, "set the time of %s", name) : NULL;
}

static FALLIBLE settle(struct settling *s, int dir_fd)
{
	auto_list char **names = NULL;
	int r = fs_list(dir_fd, &names);

	if (r < 0)
		return FAIL_OS(-r, "list a directory of the layer");
	for (size_t i = 0; names[i]; i++) {
		struct stat st;

		if ((r = sys_fstatat(dir_fd, names[i], &st, AT_SYMLINK_NOFOLLOW)) < 0)
			return FAIL_OS(-r, "look at %s", names[i]);
		if (S_ISDIR(st.st_mode)) {
			auto_fd int fd = sys_openat(dir_fd, names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

			if (fd < 0)
				return FAIL_OS(-fd, "open %s", names[i]);
			TRY(settle(s, fd));
		} else if (S_ISREG(st.st_mode)) {
			settle_size(s, &st);
		}
		TRY(settle_time(s, dir_fd, names[i], &st));
	}
	return NULL;
}

FALLIBLE layer_adopt(struct snapshotter *s, const char *upper, int64_t clamp_ns, const char *diff_id)
{
	CLEANUP(draft_drop) struct draft d = { .fd = -1 };
	CLEANUP(settling_fini) struct settling settling = { .clamp_ns = clamp_ns };
	auto_fd int tree = -1;
	int r;

	TRY(digest_check(sv_of(diff_id)));
	if ((tree = sys_open(upper, O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(-tree, "adopt %s as a layer", upper);
	TRY(settle(&settling, tree));
	TRY(draft_begin(s, &d));
	if ((r = sys_renameat(AT_FDCWD, upper, d.fd, s->driver->lower, 0)) < 0)
		return FAIL_OS(-r, "adopt %s as a layer", upper);
	return draft_name(&d, diff_id, settling.size);
}

FALLIBLE layer_delete(struct snapshotter *s, const char *diff_id)
{
	CLEANUP(draft_drop) struct draft d = { .fd = -1 };
	int r;

	TRY(digest_check(sv_of(diff_id)));
	if (!layer_exists(s, diff_id))
		return NULL;
	TRY(draft_begin(s, &d));
	r = sys_renameat(s->layers_fd, digest_hex(diff_id), d.fd, "gone", 0);
	return r < 0 && r != -ENOENT ? FAIL_OS(-r, "delete layer %s", diff_id) : NULL;
}

FALLIBLE layer_verify(struct snapshotter *s, const char *diff_id, struct zip_source tar, const struct layer_tell *tell)
{
	CLEANUP(draft_drop) struct draft d = { .fd = -1 };
	auto_fd int fd = -1;
	uint64_t size = 0;

	TRY(digest_check(sv_of(diff_id)));
	fd = sys_openat(s->layers_fd, digest_hex(diff_id), O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT) {
		tell->tell(tell->ctx, "/", "is missing");
		return NULL;
	}
	if (fd < 0)
		return FAIL_OS(-fd, "open layer %s", diff_id);
	TRY(draft_begin(s, &d));
	TRY(s->driver->verify(fd, diff_id, tar, d.fd, tell, &size));
	if (size != layer_size(s, diff_id))
		tell->tell(tell->ctx, "size", "is not the size of the content");
	return NULL;
}

FALLIBLE layer_each(const struct snapshotter *s,
		    struct err *(*each)(void *ctx, const char *diff_id, uint64_t size), void *ctx)
{
	auto_list char **names = NULL;
	int r = fs_list(s->layers_fd, &names);

	if (r < 0)
		return FAIL_OS(-r, "list layers");
	for (size_t i = 0; names[i]; i++) {
		char diff_id[DIGEST_MAX];

		if (snprintf(diff_id, sizeof diff_id, "sha256:%s", names[i]) != DIGEST_TEXT ||
		    !digest_is_valid(sv_of(diff_id)))
			continue;
		TRY(each(ctx, diff_id, layer_size(s, diff_id)));
	}
	return NULL;
}

/* ---- root file systems ---- */

void rootfs_fini(struct rootfs *r)
{
	text_list_free(r->lower);
	free(r->upper);
	free(r->work);
	*r = (struct rootfs){ 0 };
}

/* An image without layers (FROM scratch): overlayfs wants one lower. */
static FALLIBLE rootfs_empty(struct snapshotter *s, struct rootfs *r)
{
	auto_free char *path = xasprintf("%s/empty", s->layers_path);
	int e = sys_mkdir(s->layers_fd, "empty", 0755);

	if (e == 0)
		e = sys_chmodat(s->layers_fd, "empty", 0755); /* whatever the umask */
	if (e < 0 && e != -EEXIST)
		return FAIL_OS(-e, "make %s", path);
	text_list_add(&r->lower, path);
	return NULL;
}

/* The upper directory is the container's root directory: it gets the mode and owner of the image's. */
static FALLIBLE make_upper(const char *dir, const char *lower, struct rootfs *r)
{
	auto_fd int at = sys_open_dir(dir), upper = -1;
	struct stat st;
	int made, e;

	if (at < 0)
		return FAIL_OS(-at, "open %s", dir);
	made = sys_mkdir(at, "upper", 0755);
	e = sys_mkdir(at, "work", 0700);
	if ((made < 0 && made != -EEXIST) || (e < 0 && e != -EEXIST))
		return FAIL_OS(made < 0 && made != -EEXIST ? -made : -e, "make directories in %s", dir);
	r->upper = xasprintf("%s/upper", dir);
	r->work = xasprintf("%s/work", dir);
	if (made == -EEXIST)
		return NULL;
	if ((e = sys_fstatat(AT_FDCWD, lower, &st, 0)) < 0)
		return FAIL_OS(-e, "look at %s", lower);
	if ((upper = sys_openat(at, "upper", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(-upper, "open %s", r->upper);
	if ((e = sys_fchown(upper, st.st_uid, st.st_gid)) < 0 ||
	    (e = sys_fchmod(upper, st.st_mode & 07777)) < 0)
		return FAIL_OS(-e, "prepare %s", r->upper);
	return NULL;
}

/* overlayfs always merges the roots, so a layer whose root is opaque ends the list instead. */
static bool hides_all(const struct snapshotter *s, const char *diff_id)
{
	char name[96], v[4];

	(void)snprintf(name, sizeof name, "%s/%s", digest_hex(diff_id), s->driver->lower);
	return fs_xattr_get(s->layers_fd, name, "trusted.overlay.opaque", v, sizeof v) == 1 && v[0] == 'y';
}

/* A layer that comes again higher up is hidden there entirely by itself, and overlayfs refuses to have it
 * twice. */
static bool comes_again(char *const *diff_ids, size_t i)
{
	for (char *const *above = diff_ids + i + 1; *above; above++)
		if (strcmp(*above, diff_ids[i]) == 0)
			return true;
	return false;
}

FALLIBLE rootfs_prepare(struct snapshotter *s, char *const *diff_ids, const char *dir,
			struct rootfs *out_rootfs)
{
	size_t n = text_list_len(diff_ids);
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };
	bool hidden = false;

	for (size_t i = n; i-- > 0;) {
		auto_free char *path = NULL;

		if (comes_again(diff_ids, i))
			continue;
		if (!layer_exists(s, diff_ids[i]))
			return FAIL(ERR_NOT_FOUND, "layer %s is missing ('hoy verify --repair' mends it)",
				    diff_ids[i]);
		if (hidden)
			continue;
		path = xasprintf("%s/%s/%s", s->layers_path, digest_hex(diff_ids[i]), s->driver->lower);
		text_list_add(&r.lower, path);
		hidden = hides_all(s, diff_ids[i]);
	}
	if (n == 0)
		TRY(rootfs_empty(s, &r));
	if (dir)
		TRY(make_upper(dir, r.lower[0], &r));
	*out_rootfs = r;
	r = (struct rootfs){ 0 };
	return NULL;
}

/*
 * A work directory of our own: overlayfs empties the one it is given, which would be the running container's.
 * It also refuses one that a volatile mount has used.
 */
static FALLIBLE view_work(const struct rootfs *r, char **out_path)
{
	auto_free char *path = xasprintf("%s.view", r->work);
	int e = sys_mkdir(AT_FDCWD, path, 0700);

	if (e < 0 && e != -EEXIST)
		return FAIL_OS(-e, "make %s", path);
	*out_path = TAKE(path);
	return NULL;
}

FALLIBLE rootfs_view(const struct rootfs *r, int *out_root_fd)
{
	/* SECURITY: we only look at files; a device in an image must not open */
	struct mount_attr safe = { .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };
	struct fs_overlay o = { .lower = (const char *const *)r->lower,
				.n_lower = text_list_len(r->lower),
				.upper = r->upper };
	auto_free char *work = NULL;
	auto_fd int fd = -1;
	int e;

	if (!r->upper)
		safe.attr_set |= MOUNT_ATTR_RDONLY;
	if (r->upper)
		TRY(view_work(r, &work));
	o.work = work;
	if (o.n_lower == 1 && !r->upper) {
		fd = sys_open_tree(AT_FDCWD, r->lower[0], OPEN_TREE_CLONE);
		if (fd >= 0 && (e = sys_mount_setattr(fd, "", 0, &safe)) < 0)
			return FAIL_OS(-e, "view %s", r->lower[0]);
	} else {
		fd = fs_overlay_mount(&o, (unsigned)safe.attr_set);
	}
	if (fd == -E2BIG)
		return FAIL(ERR_UNSUPPORTED, "this kernel stacks %d layers at most (6.7 more)",
			    FS_OVERLAY_OLD_MAX);
	if (fd < 0)
		return FAIL_OS(-fd, "mount the layers");
	*out_root_fd = TAKE_FD(fd);
	return NULL;
}

FALLIBLE rootfs_view_read(const struct rootfs *r, int *out_root_fd)
{
	CLEANUP(rootfs_fini) struct rootfs below = { 0 };

	if (!r->upper)
		return rootfs_view(r, out_root_fd);
	text_list_add(&below.lower, r->upper);
	for (size_t i = 0; r->lower[i]; i++)
		text_list_add(&below.lower, r->lower[i]);
	return rootfs_view(&below, out_root_fd);
}
