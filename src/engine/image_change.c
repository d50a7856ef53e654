/*
 * image_change.c - tag, remove, and the sweep of what nothing reaches any more.
 *
 * Reached are: the documents and layers of every name, the layers and image of every container, the layers of every build
 * cache entry. Who adds content holds the content lock shared until it is named; the sweep takes it alone or not at all.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "image/ref.h"
#include "state/db.h"
#include <stdio.h>

FALLIBLE engine_image_tag(struct engine *e, const char *source, const char *target)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *ref = NULL, *full = NULL;
	char manifest[DIGEST_MAX], digest[DIGEST_MAX];

	TRY(ref_parse(target, &r));
	if (r.digest)
		return FAIL(ERR_INVALID, "refusing to create a tag with a digest reference");
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

static FALLIBLE reach_image(struct engine *e, struct map *m, const char *manifest)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };

	reach(m, manifest);
	TRY(image_docs_load(e, manifest, &d));
	reach(m, d.manifest.config.digest);
	for (size_t i = 0; i < d.manifest.n; i++) {
		reach(m, d.manifest.parts[i].digest);
		reach(m, d.diff_ids[i]);
	}
	return NULL;
}

static struct err *reach_container(void *ctx, struct sv key, struct sv value)
{
	auto_json json_t *doc = NULL;
	auto_list char **layers = NULL;

	(void)key;
	TRY(json_parse(value, "container record", 1u << 20, &doc));
	TRY(json_list_at(doc, "Hoy.Layers", &layers));
	for (size_t i = 0; layers && layers[i]; i++)
		reach(ctx, layers[i]);
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

static FALLIBLE mark(struct engine *e, struct map *m)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	auto_txn struct db_txn *txn = NULL;

	TRY(image_names_load(e, &names));
	for (size_t i = 0; i < names.v.n; i++) {
		reach(m, names.v.p[i].digest);
		TRY(reach_image(e, m, names.v.p[i].manifest));
	}
	TRY(db_begin_read(engine_db(e), &txn));
	TRY(db_scan(txn, DB_CONTAINER, "", reach_container, m));
	return db_scan(txn, DB_CACHE, "", reach_cache, m);
}

FALLIBLE image_sweep(struct engine *e)
{
	auto_map struct map reached = { 0 };
	auto_list char **blobs = NULL, **layers = NULL;
	struct doomed d = { &reached, NULL };
	auto_fd int lock = -1;
	struct err *err = engine_content_lock(e, true, &lock);

	if (err && err->kind == ERR_CONFLICT) { /* the next removal sweeps */
		err_free(err);
		return NULL;
	}
	TRY(err);
	TRY(mark(e, &reached));
	TRY(store_blob_each(engine_store(e), doom, &d));
	blobs = TAKE(d.list);
	TRY(layer_each(engine_snapshotter(e), doom, &d));
	layers = TAKE(d.list);
	for (size_t i = 0; layers && layers[i]; i++)
		TRY(layer_delete(engine_snapshotter(e), layers[i]));
	for (size_t i = 0; blobs && blobs[i]; i++)
		TRY(store_blob_delete(engine_store(e), blobs[i]));
	return NULL;
}

/* ---- removal ---- */

struct user_search {
	const char *image;
	char id[65];
	bool is_running;
};

static struct err *find_user(void *ctx, struct sv key, struct sv value)
{
	struct user_search *u = ctx;
	auto_json json_t *doc = NULL;

	TRY(json_parse(value, "container record", 1u << 20, &doc));
	if (strcmp(json_str_at(doc, "Image", ""), u->image) == 0)
		(void)snprintf(u->id, sizeof u->id, "%.*s", SV_ARG(key));
	return NULL;
}

static FALLIBLE check_unused(struct engine *e, const char *config, const char *text, bool by_name)
{
	struct user_search u = { .image = config };
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	TRY(db_scan(txn, DB_CONTAINER, "", find_user, &u));
	if (!u.id[0])
		return NULL;
	if (by_name)
		return FAIL(ERR_CONFLICT,
			    "conflict: unable to remove repository reference \"%s\" (must force) - container %.12s is using its "
			    "referenced image %.12s",
			    text, u.id, config + 7);
	return FAIL(ERR_CONFLICT, "conflict: unable to delete %.12s (must be forced) - image is being used by container %.12s",
		    config + 7, u.id);
}

static FALLIBLE untag(struct engine *e, const char *full, json_t *events)
{
	CLEANUP(ref_fini) struct ref r = { 0 };
	auto_free char *familiar = NULL;

	TRY(image_name_delete(e, full));
	if (strncmp(full, "<none>", 6) == 0)
		return NULL;
	TRY(ref_parse(full, &r));
	familiar = ref_familiar(&r);
	(void)json_array_append_new(events, json_pack("{s:s}", "Untagged", familiar));
	return NULL;
}

static FALLIBLE deleted_events(const struct image_docs *d, json_t *events)
{
	(void)json_array_append_new(events, json_pack("{s:s}", "Deleted", d->manifest.config.digest));
	for (size_t i = text_list_len(d->diff_ids); i-- > 0;)
		(void)json_array_append_new(events, json_pack("{s:s}", "Deleted", d->diff_ids[i]));
	return NULL;
}

FALLIBLE engine_image_remove(struct engine *e, const char *text, bool force, json_t **out_events)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_json json_t *events = json_array();
	auto_free char *ref = NULL;
	char manifest[DIGEST_MAX];
	size_t n = 0;

	TRY(image_find(e, text, manifest, &ref));
	TRY(image_docs_load(e, manifest, &d));
	TRY(image_names_load(e, &names));
	for (size_t i = 0; i < names.v.n; i++)
		n += strcmp(names.v.p[i].manifest, manifest) == 0;
	if (!ref && n > 1 && !force)
		return FAIL(ERR_CONFLICT,
			    "conflict: unable to delete %.12s (must be forced) - image is referenced in multiple repositories",
			    d.manifest.config.digest + 7);
	if (!force && (!ref || n == 1))
		TRY(check_unused(e, d.manifest.config.digest, text, ref != NULL));
	for (size_t i = 0; i < names.v.n; i++)
		if (strcmp(names.v.p[i].manifest, manifest) == 0 && (!ref || strcmp(names.v.p[i].ref, ref) == 0))
			TRY(untag(e, names.v.p[i].ref, events));
	if (!ref || n == 1) {
		TRY(deleted_events(&d, events));
		TRY(image_sweep(e));
	}
	*out_events = TAKE(events);
	return NULL;
}
