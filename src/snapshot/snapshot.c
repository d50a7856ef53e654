/*
 * snapshot.c - naming of layers: the driver fills ROOT/tmp/layer-<random> (flocked) and syncs it; rename to
 * ROOT/layers/<hex>, sync the directory. So a layer under its name has all its bytes on disk; what a crash
 * left in tmp nobody holds and is swept.
 */
#include "snapshot/snapshot.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "snapshot/driver.h"
#include "snapshot/pump.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>

enum { DRAFT_NAME = 48, DELETED_MAX = 256 };
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

static FALLIBLE need_driver(struct snapshotter *s);

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
	if (o && o->driver && *o->driver) { /* what was asked for works, or is an error at once */
		(void)snprintf(s->wanted, sizeof s->wanted, "%s", o->driver);
		TRY(need_driver(s));
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
	TRY(need_driver(s));
	*out_name = s->driver->name;
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

/* An empty directory that goes with whoever made it. */
static FALLIBLE draft_open(struct snapshotter *s, struct draft *d)
{
	struct stat st = { 0 };
	int r;

	*d = (struct draft)DRAFT_NONE;
	d->s = s;
	do { /* again when a sweeper took it between the two calls */
		own_close(&d->fd);
		draft_number(d->name);
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

static void add_reason(char **list, const char *name, const char *why)
{
	char *longer = xasprintf("%s%s%s: %s", *list ? *list : "", *list ? "; " : "", name, why);

	free(*list);
	*list = longer;
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
		e = known[i]->probe(s->root_fd, d.fd);
		if (!e)
			s->driver = known[i];
		else if (*s->wanted || i + 1 == LEN(known))
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

static FALLIBLE draft_begin(struct snapshotter *s, struct draft *d)
{
	TRY(need_driver(s));
	TRY(draft_open(s, d));
	d->driver = s->driver;
	d->layer.dir_fd = d->fd;
	return NULL;
}

/* Syncs and names. A layer that is there already stays: the draft goes. */
static FALLIBLE draft_name(struct draft *d, const char *diff_id)
{
	struct err *e = d->driver->seal(&d->layer, diff_id);
	int r;

	if (e)
		return err_ctx(e, "write layer %s", diff_id);
	lease_hold(d->s->lease, diff_id);
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

static FALLIBLE fill(void *ctx, struct zip_source tar)
{
	struct draft *d = ctx;

	return d->driver->fill(&d->layer, tar);
}

/* What a small blob unpacks to without end must not take the last room from everybody else on the disk. */
enum { LOOK_BYTES = 256 << 20, SHARE_KEPT = 20 };
struct watched {
	struct zip_source source;
	int dir_fd;
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
	if (sys_room(w->dir_fd, &room, &size) == 0 && room < size / SHARE_KEPT)
		return FAIL_OS(ENOSPC, "the layer unpacks to more than %llu MiB, and less than a twentieth of the disk is free",
			       (unsigned long long)(w->bytes >> 20));
	return NULL;
}

FALLIBLE layer_apply(struct snapshotter *s, struct zip_source source, const char *want_diff_id,
		     char out_diff_id[DIGEST_MAX])
{
	CLEANUP(draft_drop) struct draft d = DRAFT_NONE;
	struct watched watched = { .source = source, .dir_fd = s->tmp_fd };
	struct pump_job job = { fill, &d };
	char got[DIGEST_MAX];

	TRY(draft_begin(s, &d));
	TRY(d.driver->begin(&d.layer, &job.copy));
	TRY(pump_run((struct zip_source){ watched_read, &watched }, &job, got));
	if (want_diff_id && strcmp(got, want_diff_id) != 0)
		return FAIL(ERR_CORRUPT, "layer digest mismatch: wanted %s, got %s", want_diff_id, got);
	TRY(draft_name(&d, got));
	if (out_diff_id)
		memcpy(out_diff_id, got, DIGEST_MAX);
	return NULL;
}

FALLIBLE layer_adopt(struct snapshotter *s, int tar_fd, const char *upper, int64_t clamp_ns,
		     const char *diff_id)
{
	CLEANUP(draft_drop) struct draft d = DRAFT_NONE;

	TRY(digest_check(sv_of(diff_id)));
	TRY(draft_begin(s, &d));
	if (!upper && !d.driver->keeps_tars)
		return layer_apply(s, zip_source_fd(&tar_fd), diff_id, NULL);
	TRY(d.driver->adopt(&d.layer, tar_fd, upper, clamp_ns));
	return draft_name(&d, diff_id);
}

void layers_deleted_free(struct snapshotter *s)
{
	for (size_t i = 0; i < s->deleted.n; i++)
		draft_drop(&s->deleted.p[i]);
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
	if (fd < 0 || (r = sys_flock(fd, LOCK_EX)) < 0)
		return FAIL_OS(fd < 0 ? -fd : -r, "delete layer %s", diff_id);
	draft_number(out_draft->name);
	r = sys_renameat(s->layers_fd, digest_hex(diff_id), s->tmp_fd, out_draft->name, RENAME_NOREPLACE);
	if (r < 0)
		return r == -ENOENT ? NULL : FAIL_OS(-r, "delete layer %s", diff_id);
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

	TRY(digest_check(sv_of(diff_id)));
	fd = sys_openat(s->layers_fd, digest_hex(diff_id), O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOENT) {
		tell->tell(tell->ctx, "/", "is missing");
		return NULL;
	}
	if (fd < 0)
		return FAIL_OS(-fd, "open layer %s", diff_id);
	driver = layer_driver_of(fd);
	if (!driver) {
		tell->tell(tell->ctx, "/", "is missing");
		return NULL;
	}
	TRY(draft_open(s, &d));
	TRY(driver->verify(fd, diff_id, tar, d.fd, tell, &size));
	if (size != driver->size(fd))
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
