/*
 * image_change.c - tag, remove, and the sweep of what nothing reaches any more.
 *
 * Reached are: the documents and layers of every name, the layers and image of every container, the layers of every build
 * cache entry. Who adds content holds the content lock shared until it is named; the sweep takes it alone or not at all.
 */
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/ctr.h"
#include "engine/image_store.h"
#include "engine/mounts.h"
#include "image/ref.h"
#include "state/db.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

FALLIBLE engine_image_tag(struct engine *e, const char *source, const char *target)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *ref = NULL, *full = NULL;
	char manifest[DIGEST_MAX], digest[DIGEST_MAX];
	auto_fd int lock = -1;

	TRY(ref_parse(target, &r));
	if (r.digest)
		return FAIL(ERR_INVALID, "refusing to create a tag with a digest reference");
	TRY(engine_content_lock(e, false, &lock)); /* no sweep between finding and naming */
	TRY(image_find(e, source, manifest, &ref));
	memcpy(digest, manifest, DIGEST_MAX);
	TRY(image_names_load(e, &names));
	for (size_t i = 0; ref && i < names.v.n; i++)
		if (strcmp(names.v.p[i].ref, ref) == 0)
			memcpy(digest, names.v.p[i].digest, DIGEST_MAX);
	full = ref_full(&r);
	return image_name_set(e, full, digest, manifest);
}

/* ---- sweep ---- */

static void reach(struct map *m, const char *digest)
{
	*map_put(m, digest) = m;
}

/* Of a damaged image all that can still be read is kept. */
FALLIBLE image_reach(struct engine *e, const char *manifest, struct map *m)
{
	CLEANUP(manifest_fini) struct manifest doc = { 0 };
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_free char *body = NULL;
	struct err *err;
	size_t n = 0;

	reach(m, manifest);
	err = store_blob_read(engine_store(e), manifest, MANIFEST_MAX, &body, &n);
	if (!err)
		err = manifest_parse(sv_from(body, n), NULL, &doc);
	if (!err && !doc.is_index)
		reach(m, doc.config.digest);
	for (size_t i = 0; i < doc.n; i++)
		reach(m, doc.parts[i].digest);
	if (!err)
		err = image_docs_load(e, manifest, &d);
	for (size_t i = 0; !err && d.diff_ids[i]; i++)
		reach(m, d.diff_ids[i]);
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
	struct map *reached;
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

/* What is known of blobs that are gone; a sweep that dies before only leaves facts that are still true. */
static FALLIBLE forget_blobs(struct engine *e, char *const *blobs)
{
	auto_txn struct db_txn *txn = NULL;

	if (!blobs)
		return NULL;
	TRY(db_begin_write(engine_db(e), &txn));
	for (size_t i = 0; blobs[i]; i++)
		TRY(db_delete(txn, DB_BLOB_INFO, blobs[i]));
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

/* Somebody is adding: the first command that finds nobody at it sweeps instead. */
static FALLIBLE sweep_later(struct engine *e)
{
	auto_fd int fd = sys_openat(engine_run_fd(e), IMAGE_SWEEP_WANTED, O_WRONLY | O_CREAT, 0600);

	return fd < 0 ? FAIL_OS(-fd, "write %s/%s", engine_run(e), IMAGE_SWEEP_WANTED) : NULL;
}

void image_sweep_wanted(struct engine *e)
{
	auto_fd int lock = -1;
	struct err *err = engine_content_lock(e, true, &lock);

	if (!err) { /* else still being added to: a later one */
		own_close(&lock);
		lock = -1;
		(void)sys_unlink(engine_run_fd(e), IMAGE_SWEEP_WANTED);
		err = image_sweep(e);
	}
	if (err)
		log_debug("sweep: %s", err->msg); /* that something stays too long ends no command */
	err_free(err);
}

FALLIBLE image_sweep_count(struct engine *e, uint64_t *out_bytes)
{
	auto_map struct map reached = { 0 };
	auto_list char **blobs = NULL, **layers = NULL;
	struct doomed d = { &reached, NULL };
	auto_fd int lock = -1;
	struct err *err = engine_content_lock(e, true, &lock);

	if (out_bytes)
		*out_bytes = 0;
	if (err && err->kind == ERR_CONFLICT) {
		err_free(err);
		return sweep_later(e);
	}
	TRY(err);
	TRY(mark(e, &reached));
	TRY(store_blob_each(engine_store(e), doom, &d));
	blobs = TAKE(d.list);
	TRY(layer_each(engine_snapshotter(e), doom, &d));
	layers = TAKE(d.list);
	if (out_bytes)
		TRY(count(e, layers, blobs, out_bytes));
	for (size_t i = 0; layers && layers[i]; i++)
		TRY(layer_delete(engine_snapshotter(e), layers[i]));
	for (size_t i = 0; blobs && blobs[i]; i++)
		TRY(store_blob_delete(engine_store(e), blobs[i]));
	return forget_blobs(e, blobs);
}

FALLIBLE image_sweep(struct engine *e)
{
	return image_sweep_count(e, NULL);
}

/* ---- removal ---- */

struct user_search {
	struct engine *e;
	const char *image;
	char stopped[65], running[65]; /* a container each, or "" */
};

static struct err *find_user(void *ctx, struct sv key, struct sv value)
{
	struct user_search *u = ctx;
	auto_json json_t *doc = NULL;
	auto_list char **images = NULL;
	char id[65];

	TRY(json_parse(value, "container record", 1u << 20, &doc));
	mounts_images(doc, NULL, &images);
	if (strcmp(json_str_at(doc, "Image", ""), u->image) != 0 && !(images && text_list_has(images, u->image)))
		return NULL;
	(void)snprintf(id, sizeof id, "%.*s", SV_ARG(key));
	memcpy(ctr_live(u->e, id, NULL) ? u->running : u->stopped, id, sizeof id);
	return NULL;
}

static FALLIBLE find_users(struct engine *e, const char *image, struct user_search *out_users)
{
	auto_txn struct db_txn *txn = NULL;

	*out_users = (struct user_search){ .e = e, .image = image };
	TRY(db_begin_read(engine_db(e), &txn));
	return db_scan(txn, DB_CONTAINER, "", find_user, out_users);
}

static FALLIBLE untag(struct engine *e, const char *full, bool keep, json_t *events)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *familiar = NULL;

	TRY(image_name_delete(e, full, keep));
	if (image_name_is_none(full))
		return NULL;
	TRY(ref_parse(full, &r));
	familiar = ref_familiar(&r);
	(void)json_array_append_new(events, json_pack("{s:s}", "Untagged", familiar));
	return NULL;
}

struct removal {
	struct engine *e;
	const char *text;
	bool force;
	char manifest[DIGEST_MAX], id[DIGEST_MAX];
	char *ref; /* the name it was given by, or NULL: by id */
	struct image_names names;
	struct user_search users;
	struct image_docs docs; /* empty when damaged */
	json_t *events;
};

static void removal_fini(struct removal *r)
{
	free(r->ref);
	image_names_fini(&r->names);
	image_docs_fini(&r->docs);
	json_decref(r->events);
}

static FALLIBLE removal_open(struct removal *r)
{
	struct err *err;

	TRY(image_find(r->e, r->text, r->manifest, &r->ref));
	err = image_docs_load(r->e, r->manifest, &r->docs);
	if (err && !image_is_damage(err))
		return err;
	memcpy(r->id, err ? r->manifest : r->docs.manifest.config.digest, DIGEST_MAX);
	err_free(err);
	TRY(image_names_load(r->e, &r->names));
	return find_users(r->e, r->id, &r->users);
}

static FALLIBLE refuse(const struct removal *r, bool can_force, const char *why, const char *container)
{
	return FAIL(ERR_CONFLICT, "conflict: unable to delete %.12s (%s be forced) - image is %s%.12s", r->id + 7,
		    can_force ? "must" : "cannot", why, container);
}

/* As moby's daemon/images/image_delete.go: what may go by which kind of name. */
static FALLIBLE removal_check(const struct removal *r)
{
	const char *user = r->users.running[0] ? r->users.running : r->users.stopped;
	size_t n = image_names_of(&r->names, r->manifest);

	if (r->ref) {
		if (n > 1 || r->force || !*user)
			return NULL;
		return FAIL(ERR_CONFLICT,
			    "conflict: unable to remove repository reference \"%s\" (must force) - container %.12s is using its "
			    "referenced image %.12s",
			    r->text, user, r->id + 7);
	}
	if (r->users.running[0])
		return refuse(r, false, "being used by running container ", user);
	if (n > 1 && !r->force)
		return refuse(r, true, "referenced in multiple repositories", "");
	if (*user && !r->force)
		return refuse(r, true, "being used by stopped container ", user);
	return NULL;
}

/* Layers that others need stay, and one may come twice in an image: told is what was there before and is not after. */
static FALLIBLE sweep_and_tell(struct removal *r)
{
	const struct snapshotter *s = engine_snapshotter(r->e);
	auto_list char **there = NULL;

	for (size_t i = r->docs.diff_ids ? text_list_len(r->docs.diff_ids) : 0; i-- > 0;)
		if (layer_exists(s, r->docs.diff_ids[i]) && !text_list_has(there, r->docs.diff_ids[i]))
			text_list_add(&there, r->docs.diff_ids[i]);
	TRY(image_sweep(r->e));
	for (size_t i = 0; there && there[i]; i++)
		if (!layer_exists(s, there[i]))
			(void)json_array_append_new(r->events, json_pack("{s:s}", "Deleted", there[i]));
	return NULL;
}

static FALLIBLE removal_run(struct removal *r)
{
	bool is_last = !r->ref || image_names_of(&r->names, r->manifest) <= 1;
	bool keep = r->users.running[0] != 0; /* forced away from under a running container: it stays without a name */

	for (size_t i = 0; i < r->names.v.n; i++) {
		const struct image_name *n = &r->names.v.p[i];

		if (strcmp(n->manifest, r->manifest) == 0 && (!r->ref || strcmp(n->ref, r->ref) == 0))
			TRY(untag(r->e, n->ref, keep, r->events));
	}
	if (!is_last || keep)
		return NULL;
	(void)json_array_append_new(r->events, json_pack("{s:s}", "Deleted", r->id));
	return sweep_and_tell(r);
}

FALLIBLE engine_image_remove(struct engine *e, const char *text, bool force, json_t **out_events)
{
	CLEANUP(removal_fini) struct removal r = { .e = e, .text = text, .force = force, .events = json_array() };

	TRY(removal_open(&r));
	TRY(removal_check(&r));
	TRY(removal_run(&r));
	*out_events = TAKE(r.events);
	return NULL;
}
