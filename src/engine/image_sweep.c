/*
 * image_sweep.c - what is needed, and the removal of all else.
 *
 * Reached are: the documents and layers of every name, the layers and image of every container, the layers of every build
 * cache entry; and what a lease holds (content/lease.h), or an image in use (image_lease). A sweep decides while all leases are stopped and takes
 * the names of what goes; its room comes back afterwards, while others work.
 */
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "engine/mounts.h"
#include "state/db.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/file.h>

static void reach(struct map *m, const char *digest)
{
	*map_put(m, digest) = m;
}

static FALLIBLE reach_layers(struct engine *e, const struct manifest *doc, struct map *m)
{
	auto_list char **diff_ids = NULL;
	auto_json json_t *config = NULL;
	auto_free char *body = NULL;
	size_t n = 0;

	TRY(image_document_read(e, doc->config.digest, &body, &n));
	TRY(config_parse(sv_from(body, n), (long)doc->n, &config));
	TRY(config_diff_ids(config, &diff_ids));
	for (size_t i = 0; diff_ids && diff_ids[i]; i++)
		reach(m, diff_ids[i]);
	return NULL;
}

/* Of a damaged image all that can still be found is kept: what it is made of waits for the repair. */
FALLIBLE image_reach(struct engine *e, const char *manifest, struct map *m)
{
	CLEANUP(manifest_fini) struct manifest doc = { 0 };
	auto_free char *body = NULL;
	struct err *err;
	size_t n = 0;

	reach(m, manifest);
	err = image_document_read(e, manifest, &body, &n);
	if (!err)
		err = manifest_parse(sv_from(body, n), NULL, &doc);
	if (!err && !doc.is_index)
		reach(m, doc.config.digest);
	for (size_t i = 0; i < doc.n; i++)
		reach(m, doc.parts[i].digest);
	if (!err && !doc.is_index)
		err = reach_layers(e, &doc, m);
	if (err && !image_is_damage(err))
		return err;
	err_free(err);
	return NULL;
}

static struct err *reach_container(void *ctx, struct sv key, struct sv value)
{
	auto_json json_t *doc = NULL;
	auto_list char **layers = NULL, **images = NULL;

	(void)key;
	TRY(json_parse(value, "container record", 1u << 20, &doc));
	TRY(json_list_at(doc, "Hoy.Layers", &layers));
	mounts_images(doc, &layers, &images);
	for (size_t i = 0; layers && layers[i]; i++)
		reach(ctx, layers[i]);
	for (size_t i = 0; images && images[i]; i++)
		reach(ctx, images[i]);
	reach(ctx, json_str_at(doc, "Image", ""));
	return NULL;
}

static struct err *reach_cache(void *ctx, struct sv key, struct sv value)
{
	auto_json json_t *v = NULL;

	(void)key;
	TRY(json_parse(value, "cache entry", 1u << 20, &v));
	if (*json_str_at(v, "diff_id", ""))
		reach(ctx, json_str_at(v, "diff_id", ""));
	return NULL;
}

struct doomed {
	const struct map *reached;
	char **list;
};

static struct err *doom(void *ctx, const char *digest, uint64_t size)
{
	struct doomed *d = ctx;

	(void)size;
	if (!map_get(d->reached, digest))
		text_list_add(&d->list, digest);
	return NULL;
}

FALLIBLE image_reach_names(struct engine *e, struct map *m)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };

	TRY(image_names_load(e, &names));
	for (size_t i = 0; i < names.v.n; i++) {
		reach(m, names.v.p[i].digest);
		TRY(image_reach(e, names.v.p[i].manifest, m));
	}
	return NULL;
}

FALLIBLE image_reach_containers(struct engine *e, struct map *m)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	return db_scan(txn, DB_CONTAINER, "", reach_container, m);
}

FALLIBLE image_reach_cache(struct engine *e, struct map *m)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	return db_scan(txn, DB_CACHE, "", reach_cache, m);
}

static FALLIBLE mark(struct engine *e, struct map *m)
{
	TRY(image_reach_names(e, m));
	TRY(image_reach_containers(e, m));
	return image_reach_cache(e, m);
}

FALLIBLE image_usage(struct engine *e, struct usage *u, char *const *digests)
{
	auto_fd int blobs = sys_open_beneath(engine_root_fd(e), "blobs/sha256", O_RDONLY | O_DIRECTORY, 0);
	auto_fd int layers = sys_open_beneath(engine_root_fd(e), "layers", O_RDONLY | O_DIRECTORY, 0);

	if (blobs < 0 || layers < 0)
		return FAIL_OS(blobs < 0 ? -blobs : -layers, "open the store");
	for (; digests && *digests; digests++) { /* a digest names a blob, a layer, or both */
		TRY(usage_add(u, blobs, digest_hex(*digests)));
		TRY(usage_add(u, layers, digest_hex(*digests)));
	}
	return NULL;
}

static struct err *doom_record(void *ctx, struct sv key, struct sv value)
{
	auto_free char *digest = xstrndup(key.p, key.n);

	(void)value;
	return doom(ctx, digest, 0);
}

static FALLIBLE forget_table(struct db_txn *txn, enum db_table table, const struct map *reached)
{
	struct doomed d = { reached, NULL };
	auto_list char **keys = NULL;
	struct err *err = db_scan(txn, table, "", doom_record, &d);

	keys = d.list;
	for (size_t i = 0; !err && keys && keys[i]; i++)
		err = db_delete(txn, table, keys[i]);
	return err;
}

/*
 * What is known of blobs that are gone. After their removal, so that on a full disk there is room for it; a sweep that dies before
 * leaves facts that are still true, which the next one takes.
 */
static FALLIBLE forget_blobs(struct engine *e, const struct map *reached)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_write(engine_db(e), &txn));
	TRY(forget_table(txn, DB_BLOB_INFO, reached));
	TRY(forget_table(txn, DB_DOCUMENT, reached));
	return db_commit(TAKE(txn));
}

static FALLIBLE count(struct engine *e, char *const *layers, char *const *blobs, uint64_t *out_bytes)
{
	auto_usage struct usage u = { 0 };
	auto_map struct map both = { 0 };
	auto_list char **all = NULL;

	for (size_t i = 0; layers && layers[i]; i++)
		*map_put(&both, layers[i]) = &both;
	for (size_t i = 0; blobs && blobs[i]; i++)
		*map_put(&both, blobs[i]) = &both;
	for (size_t i = 0; i < both.n; i++)
		text_list_add(&all, both.entries[i].key);
	TRY(image_usage(e, &u, all));
	*out_bytes = u.freed;
	return NULL;
}

/* ---- leases ---- */

static struct err *reach_held(void *ctx, const char *digest)
{
	reach(ctx, digest);
	return NULL;
}

struct probe {
	struct engine *e;
	const struct map *reached;
	char **locked;
};

/* Whether somebody has it as the manifest of an image that is about to be used. */
static struct err *probe_blob(void *ctx, const char *digest, uint64_t size)
{
	struct probe *p = ctx;
	auto_fd int lock = -1;
	struct err *err;

	if (size > MANIFEST_MAX || map_get(p->reached, digest))
		return NULL;
	err = image_lease(p->e, digest, true, &lock);
	if (err && err->kind == ERR_CONFLICT) {
		err_free(err);
		text_list_add(&p->locked, digest);
		return NULL;
	}
	return err;
}

/* All of each image that is not in m yet and about to be used. */
static FALLIBLE reach_locked(struct engine *e, struct map *m)
{
	struct probe p = { .e = e, .reached = m };
	struct err *err = store_blob_each(engine_store(e), probe_blob, &p);
	auto_list char **locked = p.locked;

	TRY(err);
	for (size_t i = 0; locked && locked[i]; i++)
		TRY(image_reach(e, locked[i], m));
	return NULL;
}

FALLIBLE image_reach_leased(struct engine *e, struct map *m)
{
	TRY(leases_each(engine_root_fd(e), reach_held, m));
	return reach_locked(e, m);
}

FALLIBLE image_hold(struct engine *e, const char *manifest)
{
	auto_map struct map all = { 0 };

	if (!engine_lease(e))
		return NULL;
	TRY(image_reach(e, manifest, &all));
	for (size_t i = 0; i < all.n; i++)
		lease_hold(engine_lease(e), all.entries[i].key);
	return NULL;
}

/* ---- the sweep ---- */

/* Whoever is last to hold something, or the first command that finds nobody, does it again. */
static FALLIBLE sweep_later(struct engine *e)
{
	auto_fd int fd = sys_openat(engine_run_fd(e), IMAGE_SWEEP_WANTED, O_WRONLY | O_CREAT, 0600);

	return fd < 0 ? FAIL_OS(-fd, "write %s/%s", engine_run(e), IMAGE_SWEEP_WANTED) : NULL;
}

void image_sweep_wanted(struct engine *e)
{
	struct stat st;
	bool any = true;
	struct err *err = NULL;

	if (sys_fstatat(engine_run_fd(e), IMAGE_SWEEP_WANTED, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	err = leases_any(engine_root_fd(e), &any);
	if (!err && !any) {
		(void)sys_unlink(engine_run_fd(e), IMAGE_SWEEP_WANTED);
		err = image_sweep(e);
	}
	if (err)
		log_debug("sweep: %s", err->msg); /* that something stays too long ends no command */
	err_free(err);
}

/* What only leases keep goes when they end. The leases are read first: what leaves one meanwhile has its name by then. */
static FALLIBLE mark_all(struct engine *e, struct map *reached)
{
	auto_map struct map leased = { 0 };
	size_t named;

	TRY(leases_each(engine_root_fd(e), reach_held, &leased));
	TRY(mark(e, reached));
	named = reached->n;
	for (size_t i = 0; i < leased.n; i++)
		reach(reached, leased.entries[i].key);
	TRY(reach_locked(e, reached));
	return reached->n > named ? sweep_later(e) : NULL;
}

/* What has no name any more gives its room back while the database commits. */
struct rooms {
	struct engine *e;
	pthread_t thread;
	bool runs;
};

static void *free_rooms(void *ctx)
{
	const struct rooms *r = ctx;

	layers_deleted_free(engine_snapshotter(r->e));
	store_deleted_free(engine_store(r->e));
	return NULL;
}

static void rooms_begin(struct rooms *r)
{
	r->runs = pthread_create(&r->thread, NULL, free_rooms, r) == 0;
}

static void rooms_end(struct rooms *r)
{
	if (r->runs)
		(void)pthread_join(r->thread, NULL);
	else
		(void)free_rooms(r);
}

static FALLIBLE remove_rest(struct engine *e, const struct map *reached, struct rooms *rooms, uint64_t *out_bytes)
{
	auto_list char **blobs = NULL, **layers = NULL;
	struct doomed d = { reached, NULL };

	TRY(store_blob_each(engine_store(e), doom, &d));
	blobs = TAKE(d.list);
	TRY(layer_each(engine_snapshotter(e), doom, &d));
	layers = TAKE(d.list);
	if (out_bytes)
		TRY(count(e, layers, blobs, out_bytes));
	for (size_t i = 0; layers && layers[i]; i++)
		TRY(layer_unname(engine_snapshotter(e), layers[i]));
	for (size_t i = 0; blobs && blobs[i]; i++)
		TRY(store_blob_unname(engine_store(e), blobs[i]));
	if (!blobs)
		return NULL;
	rooms_begin(rooms);
	return forget_blobs(e, reached);
}

static FALLIBLE sweep(struct engine *e, struct rooms *rooms, uint64_t *out_bytes)
{
	auto_leases struct leases_stop stop = LEASES_GOING;
	auto_map struct map reached = { 0 };
	struct err *err = leases_stop(engine_root_fd(e), engine_lease(e), &stop);

	if (err && err->kind == ERR_CONFLICT) {
		err_free(err);
		return sweep_later(e);
	}
	TRY(err);
	TRY(mark_all(e, &reached));
	return remove_rest(e, &reached, rooms, out_bytes);
}

FALLIBLE image_sweep_count(struct engine *e, uint64_t *out_bytes)
{
	static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER; /* of the threads of a build */
	struct rooms rooms = { .e = e };
	struct err *err;

	if (out_bytes)
		*out_bytes = 0;
	(void)pthread_mutex_lock(&one);
	err = sweep(e, &rooms, out_bytes);
	rooms_end(&rooms);
	(void)pthread_mutex_unlock(&one);
	return err;
}

FALLIBLE image_sweep(struct engine *e)
{
	return image_sweep_count(e, NULL);
}
