/*
 * snapshot.c - naming of layers: the driver fills a directory ROOT/tmp/layer-… (flocked) and syncs it; rename to
 * ROOT/layers/<hex>, sync the directory. So a layer under its name has all its bytes on disk; what a crash
 * left in tmp nobody holds and is swept. A draft whose layer is known is named by it, layer-<hex>: who wants the
 * same one finds it held, and waits. Nobody holds one draft and waits for another, so nobody waits in a circle.
 */
#include "snapshot/snapshot.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "snapshot/driver.h"
#include "snapshot/pump.h"
#include "sys/cgroup.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <time.h>

#define WAIT_NS	    INT64_C(20000000) /* so often a draft that somebody else fills is looked at … */
#define STALLED_MAX 500u	      /* … and so many times though it does not grow */

enum { DRAFT_NAME = 80, DELETED_MAX = 256 };
struct draft { /* a layer that has no name yet */
	struct snapshotter *s;
	const struct layer_driver *driver;
	char name[DRAFT_NAME];
	int fd; /* flocked; -1: named or none */
	struct layer_draft layer;
};
#define DRAFT_NONE                                                                                           \
	{                                                                                                    \
		.fd = -1, .layer = { .dir_fd = -1, .tar_fd = -1, .image_fd = -1 }                                                         \
	}

struct snapshotter {
	int root_fd; /* borrowed */
	int layers_fd, tmp_fd, shared_fd;
	char *layers_path;
	char wanted[16];      /* "": whichever works */
	pthread_mutex_t lock; /* guards the two below until driver is set */
	const struct layer_driver *driver;
	char *why_not;
	struct kept kept;
	struct lease *lease;	    /* borrowed; NULL: none */
	VEC(struct draft) deleted; /* layers without a name, whose room we still keep */
};

static FALLIBLE make_dir(int root_fd, const char *name, int *out_fd)
{
	int r = sys_mkdir(root_fd, name, 0710);

	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "make directory %s", name);
	*out_fd = sys_open_beneath(root_fd, name, O_RDONLY | O_DIRECTORY, 0);
	return *out_fd < 0 ? FAIL_OS(-*out_fd, "open directory %s", name) : NULL;
}

/* Removes a draft whose maker is gone. False: it is held, or is no more. */
static bool sweep_one(const struct snapshotter *s, const char *name)
{
	auto_fd int fd = sys_openat(s->tmp_fd, name, O_RDONLY | O_DIRECTORY, 0);
	struct stat held, named;

	return fd >= 0 && sys_flock(fd, LOCK_EX | LOCK_NB) == 0 && sys_fstat(fd, &held) == 0 &&
	       sys_fstatat(s->tmp_fd, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       named.st_ino == held.st_ino && /* else it became a layer, and the name is another's */
	       fs_remove_tree(s->tmp_fd, name) == 0;
}

/* Removes what writers that are gone left behind. */
static void sweep(const struct snapshotter *s)
{
	auto_list char **names = NULL;

	if (fs_list(s->tmp_fd, &names) < 0)
		return;
	for (size_t i = 0; names[i]; i++)
		if (strncmp(names[i], "layer-", 6) == 0)
			(void)sweep_one(s, names[i]);
}

OWN_DEFINE(struct snapshotter *, snapshotter, snapshotter_close)

static FALLIBLE need_driver(struct snapshotter *s);

/* A sample could not be written: that says nothing about a driver. */
static bool is_no_room(const struct err *e)
{
	return e && (e->os == ENOSPC || e->os == EDQUOT || e->os == EROFS);
}

/* What was asked for works, or is an error at once; but a full disk must not keep anybody from removing things: it is asked again
 * when a layer is made. */
static FALLIBLE ask_at_once(struct snapshotter *s)
{
	struct err *e = need_driver(s);

	if (!is_no_room(e))
		return e;
	err_free(e);
	return NULL;
}

FALLIBLE snapshotter_open(int root_fd, const struct snapshotter_opts *o, struct snapshotter **out_s)
{
	CLEANUP(own_snapshotter) struct snapshotter *s = xnew(struct snapshotter);
	char link[64], path[PATH_MAX];
	int r;

	s->root_fd = root_fd;
	s->layers_fd = s->tmp_fd = s->shared_fd = -1;
	(void)pthread_mutex_init(&s->lock, NULL);
	(void)pthread_mutex_init(&s->kept.lock, NULL);
	TRY(make_dir(root_fd, "layers", &s->layers_fd));
	TRY(make_dir(root_fd, "tmp", &s->tmp_fd));
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", s->layers_fd);
	if ((r = (int)sys_readlink(AT_FDCWD, link, path, sizeof path)) < 0)
		return FAIL_OS(-r, "find the path of the layers directory");
	s->layers_path = xstrdup(path);
	if ((r = fs_marks_ask()) < 0)
		return FAIL_OS(-r, "find out the user namespace");
	if (o && o->has_run)
		TRY(make_dir(o->run_fd, "shared", &s->shared_fd));
	sweep(s);
	if (o && o->driver && *o->driver) {
		(void)snprintf(s->wanted, sizeof s->wanted, "%s", o->driver);
		TRY(ask_at_once(s));
	}
	*out_s = TAKE(s);
	return NULL;
}

void snapshotter_close(struct snapshotter *s)
{
	if (!s)
		return;
	layers_deleted_free(s);
	vec_fini(&s->deleted);
	own_close(&s->layers_fd);
	own_close(&s->tmp_fd);
	own_close(&s->shared_fd);
	(void)pthread_mutex_destroy(&s->lock);
	kept_fini(&s->kept);
	(void)pthread_mutex_destroy(&s->kept.lock);
	free(s->layers_path);
	free(s->why_not);
	free(s);
}

FALLIBLE snapshotter_driver(struct snapshotter *s, const char **out_name, const char **out_why_not)
{
	struct err *e = need_driver(s);

	if (e && !is_no_room(e))
		return e;
	if (e) {
		free(s->why_not);
		s->why_not = xasprintf("no layer can be made: %s", e->msg);
		err_free(e);
	}
	*out_name = s->driver ? s->driver->name : *s->wanted ? s->wanted : "unknown";
	*out_why_not = s->why_not;
	return NULL;
}

bool snapshotter_keeps_tars(struct snapshotter *s)
{
	struct err *e = need_driver(s);
	bool known = !e;

	err_free(e); /* who makes a layer is told */
	return known && s->driver->keeps_tars;
}

struct rootfs_store snapshotter_store(struct snapshotter *s)
{
	return (struct rootfs_store){ s->layers_fd, s->shared_fd, &s->kept, s->layers_path, strcmp(s->wanted, erofs_loop_driver.name) == 0 };
}

void snapshotter_keep_mounts(struct snapshotter *s)
{
	(void)pthread_mutex_lock(&s->kept.lock);
	s->kept.is_on = true;
	(void)pthread_mutex_unlock(&s->kept.lock);
}

void snapshotter_lease(struct snapshotter *s, struct lease *l)
{
	s->lease = l;
}

bool layer_exists(const struct snapshotter *s, const char *diff_id)
{
	struct stat st;

	lease_hold(s->lease, diff_id);
	return digest_is_valid(sv_of(diff_id)) &&
	       sys_fstatat(s->layers_fd, digest_hex(diff_id), &st, AT_SYMLINK_NOFOLLOW) == 0;
}

const struct layer_driver *layer_driver_of(int layer_fd)
{
	static const struct layer_driver *const known[] = { &erofs_driver, &overlay_driver };
	struct stat st;

	for (size_t i = 0; i < LEN(known); i++) {
		int r = sys_fstatat(layer_fd, known[i]->mark, &st, AT_SYMLINK_NOFOLLOW);

		if (r != -ENOENT)
			return r == 0 ? known[i] : NULL;
	}
	return NULL;
}

/* -1: not there. */
static int layer_open(const struct snapshotter *s, const char *diff_id)
{
	return digest_is_valid(sv_of(diff_id))
		   ? sys_openat(s->layers_fd, digest_hex(diff_id), O_RDONLY | O_DIRECTORY, 0)
		   : -1;
}

const char *layer_driver_name(const struct snapshotter *s, const char *diff_id)
{
	auto_fd int fd = layer_open(s, diff_id);
	const struct layer_driver *driver = fd < 0 ? NULL : layer_driver_of(fd);

	return driver ? driver->name : "";
}

uint64_t layer_size(const struct snapshotter *s, const char *diff_id)
{
	auto_fd int fd = layer_open(s, diff_id);
	const struct layer_driver *driver = fd < 0 ? NULL : layer_driver_of(fd);

	return driver ? driver->size(fd) : 0;
}

/* ---- making ---- */

static void draft_drop(struct draft *d)
{
	own_close(&d->layer.tar_fd);
	own_close(&d->layer.image_fd);
	if (d->fd >= 0)
		(void)fs_remove_tree(d->s->tmp_fd, d->name);
	own_close(&d->fd);
	d->fd = -1;
}

static void draft_number(char out[DRAFT_NAME])
{
	static atomic_uint serial;

	(void)snprintf(out, DRAFT_NAME, "layer-%d-%u", (int)getpid(), atomic_fetch_add(&serial, 1));
}

/* An empty directory d->name that goes with whoever made it. d->fd -1: somebody else has that name, or a sweeper took it. */
static FALLIBLE draft_make(struct draft *d)
{
	int tmp_fd = d->s->tmp_fd, r = sys_mkdir(tmp_fd, d->name, 0710);
	struct stat st = { 0 };

	if (r == -EEXIST)
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "make a temporary layer");
	d->fd = sys_openat(tmp_fd, d->name, O_RDONLY | O_DIRECTORY, 0);
	if (d->fd < 0 && d->fd != -ENOENT) {
		(void)sys_rmdir(tmp_fd, d->name);
		return FAIL_OS(-d->fd, "open a temporary layer");
	}
	if (d->fd >= 0 && ((r = sys_flock(d->fd, LOCK_EX)) < 0 || (r = sys_fstat(d->fd, &st)) < 0))
		return FAIL_OS(-r, "lock a temporary layer");
	if (st.st_nlink)
		return NULL;
	own_close(&d->fd);
	d->fd = -1;
	return NULL;
}

static FALLIBLE draft_open(struct snapshotter *s, struct draft *d)
{
	*d = (struct draft)DRAFT_NONE;
	d->s = s;
	while (d->fd < 0) {
		draft_number(d->name);
		TRY(draft_make(d));
	}
	return NULL;
}

/* Whether a draft got on since the last look. */
static bool has_grown(const struct snapshotter *s, const char *name, struct timespec *last)
{
	struct stat st = { 0 };
	bool has;

	(void)sys_fstatat(s->tmp_fd, name, &st, AT_SYMLINK_NOFOLLOW);
	has = st.st_mtim.tv_sec != last->tv_sec || st.st_mtim.tv_nsec != last->tv_nsec;
	*last = st.st_mtim;
	return has;
}

/* The draft of a layer that is known. *out_exists: there is the layer, perhaps because somebody else was making it. */
static FALLIBLE draft_claim(struct snapshotter *s, const struct layer_want *want, struct draft *d, bool *out_exists)
{
	struct timespec last = { 0 };

	TRY(digest_check(sv_of(want->diff_id)));
	*d = (struct draft)DRAFT_NONE;
	d->s = s;
	(void)snprintf(d->name, sizeof d->name, "layer-%.64s", digest_hex(want->diff_id));
	for (unsigned stalled = 0; stalled < STALLED_MAX; stalled++) {
		*out_exists = layer_exists(s, want->diff_id);
		if (*out_exists)
			return NULL;
		TRY(draft_make(d));
		if (d->fd >= 0) {
			*out_exists = layer_exists(s, want->diff_id); /* it came just before we began */
			return NULL;
		}
		if (sweep_one(s, d->name))
			continue;
		if (want->is_ahead)
			return FAIL(ERR_CONFLICT, "somebody else is making layer %s", want->diff_id);
		if (has_grown(s, d->name, &last))
			stalled = 0;
		(void)nanosleep(&(struct timespec){ .tv_nsec = WAIT_NS }, NULL);
	}
	return draft_open(s, d); /* beside them: the first that is ready names it */
}

static void add_reason(char **list, const char *name, const char *why)
{
	char *longer = xasprintf("%s%s%s: %s", *list ? *list : "", *list ? "; " : "", name, why);

	free(*list);
	*list = longer;
}

/* What containers write comes into directories of the root, whatever the driver. Without attributes overlayfs takes them, and then
 * fails at what is removed and made again. */
static FALLIBLE check_place(const struct snapshotter *s, int scratch_fd)
{
	char root[40];
	int r;

	(void)snprintf(root, sizeof root, "/proc/self/fd/%d", s->root_fd);
	if (sys_fs_magic(root) == OVERLAYFS_SUPER_MAGIC)
		return FAIL(ERR_UNSUPPORTED, "the root directory lies on an overlay itself, which can't hold another's upper layer "
					     "(put it on a volume: --root)");
	r = fs_xattr_set(scratch_fd, ".", fs_mark_key(FS_MARK_OPAQUE), "y", 1);
	if (r == -EOPNOTSUPP)
		return FAIL(ERR_UNSUPPORTED, "the file system of the root directory has no extended attributes, without which no overlay "
					     "can be written to (put it on another: --root)");
	return r < 0 ? FAIL_OS(-r, "set an attribute in the root directory") : NULL;
}

/* Which driver makes new layers: the one asked for, else the first that can work here. Found out once, when
 * it is needed. */
static FALLIBLE choose(struct snapshotter *s)
{
	static const struct layer_driver *const known[] = { &erofs_driver, &erofs_loop_driver, &overlay_driver };
	struct err *e = NULL;

	for (size_t i = 0; i < LEN(known) && !s->driver; i++) {
		CLEANUP(draft_drop) struct draft d = DRAFT_NONE;

		if (*s->wanted ? strcmp(s->wanted, known[i]->name) != 0 : known[i]->is_for_here && !known[i]->is_for_here())
			continue;
		TRY(draft_open(s, &d));
		e = check_place(s, d.fd);
		if (!e)
			e = known[i]->probe(s->root_fd, d.fd);
		if (!e)
			s->driver = known[i];
		else if (*s->wanted || i + 1 == LEN(known) || is_no_room(e))
			return err_ctx(e, "storage driver %s", known[i]->name);
		else
			add_reason(&s->why_not, known[i]->name, e->msg);
		err_free(e);
	}
	return s->driver ? NULL
			 : FAIL(ERR_INVALID, "unknown storage driver \"%s\": erofs, erofs-loop or overlay", s->wanted);
}

static FALLIBLE need_driver(struct snapshotter *s)
{
	struct err *e;

	(void)pthread_mutex_lock(&s->lock);
	e = s->driver ? NULL : choose(s);
	(void)pthread_mutex_unlock(&s->lock);
	return e;
}

/* want NULL: what layer it will be is not known. */
static FALLIBLE draft_begin(struct snapshotter *s, const struct layer_want *want, struct draft *d, bool *out_exists)
{
	*out_exists = false;
	TRY(need_driver(s));
	TRY(want ? draft_claim(s, want, d, out_exists) : draft_open(s, d));
	d->driver = s->driver;
	d->layer.dir_fd = d->fd;
	return NULL;
}

/* Also of a layer that was there: another process may have renamed it and not synced the directory yet. */
static FALLIBLE sync_name(const struct snapshotter *s, const char *diff_id)
{
	int r = sys_fsync(s->layers_fd);

	return r < 0 ? FAIL_OS(-r, "sync layer %s", diff_id) : NULL;
}

/* Syncs and names. A layer that is there already stays: the draft goes. */
static FALLIBLE draft_name(struct draft *d, const struct layer_want *want, const char *diff_id)
{
	struct err *e = d->driver->seal(&d->layer, diff_id);
	int r;

	if (e)
		return err_ctx(e, "write layer %s", diff_id);
	if (want && want->proven)
		TRY(want->proven(want->ctx));
	lease_hold(d->s->lease, diff_id);
	r = sys_renameat(d->s->tmp_fd, d->name, d->s->layers_fd, digest_hex(diff_id), RENAME_NOREPLACE);
	if (r < 0 && r != -EEXIST)
		return FAIL_OS(-r, "name layer %s", diff_id);
	if (r == 0) {
		own_close(&d->fd);
		d->fd = -1;
	}
	return sync_name(d->s, diff_id);
}

static FALLIBLE fill(void *ctx, struct zip_source tar)
{
	struct draft *d = ctx;

	return d->driver->fill(&d->layer, tar);
}

/* What a small blob unpacks to without end must not take the last room from everybody else on the disk. */
enum { LOOK_BYTES = 64 << 20, SHARE_KEPT = 20 };
struct watched {
	struct zip_source source;
	const struct draft *draft;
	uint64_t bytes, looked_at;
};

static struct err *watched_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct watched *w = ctx;
	uint64_t room, size;

	TRY(w->source.read(w->source.ctx, p, n, out_n));
	w->bytes += *out_n;
	if (w->bytes - w->looked_at < LOOK_BYTES)
		return NULL;
	w->looked_at = w->bytes;
	/* who waits for it sees that it gets on: not what trickles in, for they have the whole blob */
	(void)sys_utimens(w->draft->s->tmp_fd, w->draft->name, NULL, 0);
	if (sys_room(w->draft->s->tmp_fd, &room, &size) == 0 && room < size / SHARE_KEPT)
		return FAIL_OS(ENOSPC, "the layer unpacks to more than %llu MiB, and less than a twentieth of the disk is free",
			       (unsigned long long)(w->bytes >> 20));
	return NULL;
}

FALLIBLE layer_apply(struct snapshotter *s, struct zip_source source, const struct layer_want *want,
		     char out_diff_id[DIGEST_MAX])
{
	CLEANUP(draft_drop) struct draft d = DRAFT_NONE;
	struct watched watched = { .source = source, .draft = &d };
	struct pump_job job = { fill, &d };
	char got[DIGEST_MAX];
	bool exists;

	TRY(draft_begin(s, want, &d, &exists));
	if (exists)
		return sync_name(s, want->diff_id);
	TRY(d.driver->begin(&d.layer, &job.copy));
	TRY(pump_run((struct zip_source){ watched_read, &watched }, &job, got));
	if (want && strcmp(got, want->diff_id) != 0)
		return FAIL(ERR_CORRUPT, "layer digest mismatch: wanted %s, got %s", want->diff_id, got);
	TRY(draft_name(&d, want, got));
	if (out_diff_id)
		memcpy(out_diff_id, got, DIGEST_MAX);
	return NULL;
}

FALLIBLE layer_adopt(struct snapshotter *s, int tar_fd, const char *upper, int64_t clamp_ns,
		     const char *diff_id)
{
	CLEANUP(draft_drop) struct draft d = DRAFT_NONE;
	const struct layer_want want = { .diff_id = diff_id };
	bool exists;

	TRY(need_driver(s));
	if (!upper && !s->driver->keeps_tars)
		return layer_apply(s, zip_source_fd(&tar_fd), &want, NULL);
	TRY(draft_begin(s, &want, &d, &exists));
	if (exists)
		return sync_name(s, diff_id);
	TRY(d.driver->adopt(&d.layer, tar_fd, upper, clamp_ns));
	return draft_name(&d, &want, diff_id);
}

static void drop_pages(int layer_fd)
{
	const struct layer_driver *driver = layer_driver_of(layer_fd);
	auto_fd int tar = driver && driver->tar ? driver->tar(layer_fd) : -1;

	if (tar >= 0)
		fs_drop_pages(tar);
}

void layers_deleted_free(struct snapshotter *s)
{
	for (size_t i = 0; i < s->deleted.n; i++) {
		drop_pages(s->deleted.p[i].fd);
		draft_drop(&s->deleted.p[i]);
	}
	s->deleted.n = 0;
}

/* Its own directory becomes the draft that nobody finishes: nothing is made, so that it works on a full disk. */
static FALLIBLE unname(struct snapshotter *s, const char *diff_id, struct draft *out_draft)
{
	auto_fd int fd = -1;
	int r;

	TRY(digest_check(sv_of(diff_id)));
	fd = layer_open(s, diff_id);
	if (fd == -ENOENT)
		return NULL;
	if (fd < 0 && fd != -ENOTDIR) /* of a rotten inode anything may have become */
		return FAIL_OS(-fd, "delete layer %s", diff_id);
	if (fd >= 0 && (r = sys_flock(fd, LOCK_EX)) < 0)
		return FAIL_OS(-r, "delete layer %s", diff_id);
	draft_number(out_draft->name);
	r = sys_renameat(s->layers_fd, digest_hex(diff_id), s->tmp_fd, out_draft->name, RENAME_NOREPLACE);
	if (r < 0)
		return r == -ENOENT ? NULL : FAIL_OS(-r, "delete layer %s", diff_id);
	if (fd < 0)
		(void)fs_remove_tree(s->tmp_fd, out_draft->name);
	out_draft->s = s;
	out_draft->fd = TAKE_FD(fd);
	if (s->shared_fd >= 0) /* links of containers that ran on it; one that still does has its own copy */
		(void)fs_remove_tree(s->shared_fd, digest_hex(diff_id));
	return NULL;
}

FALLIBLE layer_delete(struct snapshotter *s, const char *diff_id)
{
	CLEANUP(draft_drop) struct draft d = DRAFT_NONE;

	return unname(s, diff_id, &d);
}

FALLIBLE layer_unname(struct snapshotter *s, const char *diff_id)
{
	struct draft d = DRAFT_NONE;

	if (s->deleted.n == DELETED_MAX)
		layers_deleted_free(s);
	TRY(unname(s, diff_id, &d));
	if (d.fd >= 0)
		*vec_push(&s->deleted) = d;
	return NULL;
}

FALLIBLE layer_verify(struct snapshotter *s, const char *diff_id, struct zip_source tar,
		      const struct layer_tell *tell)
{
	CLEANUP(draft_drop) struct draft d = DRAFT_NONE;
	const struct layer_driver *driver;
	auto_fd int fd = -1;
	uint64_t size = 0;
	struct err *e;

	TRY(digest_check(sv_of(diff_id)));
	fd = sys_openat(s->layers_fd, digest_hex(diff_id), O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT || fd == -ENOTDIR) {
		tell->tell(tell->ctx, "/", fd == -ENOENT ? "is missing" : "is no directory");
		return NULL;
	}
	if (fd < 0)
		return FAIL_OS(-fd, "open layer %s", diff_id);
	driver = layer_driver_of(fd);
	if (!driver) {
		tell->tell(tell->ctx, "/", "is missing");
		return NULL;
	}
	e = draft_open(s, &d);
	if (e && e->os != EROFS)
		return e;
	err_free(e);
	TRY(driver->verify(fd, diff_id, tar, d.fd, tell, &size));
	if (size != driver->size(fd))
		tell->tell(tell->ctx, "size", "is not the size of the content");
	return NULL;
}

FALLIBLE layer_tar_open(const struct snapshotter *s, const char *diff_id, int *out_fd)
{
	auto_fd int fd = layer_open(s, diff_id);
	const struct layer_driver *driver = fd < 0 ? NULL : layer_driver_of(fd);
	int r = driver && driver->tar ? driver->tar(fd) : -ENOENT;

	if (r < 0)
		return FAIL_OS(-r, "layer %s: its tar", diff_id);
	*out_fd = r;
	return NULL;
}

FALLIBLE layer_tar_patch(const struct snapshotter *s, const char *diff_id, int tar_fd, uint64_t size, struct zip_sink sink)
{
	auto_fd int fd = layer_open(s, diff_id), tree = -1;
	const struct layer_driver *driver = fd < 0 ? NULL : layer_driver_of(fd);

	tree = driver && driver->tree ? driver->tree(fd) : -ENOENT;
	return tree < 0 ? FAIL_OS(-tree, "layer %s: its tree", diff_id) : patch_tar(tree, tar_fd, size, sink);
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
