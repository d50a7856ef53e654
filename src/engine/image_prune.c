/*
 * image_prune.c - removing on request what nobody needs: images without a name, images without a container, build cache.
 *
 * Nothing goes by itself but what nothing names; a cache entry keeps its layer until the cache is pruned.
 */
#include "base/map.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "image/ref.h"
#include "state/db.h"

static struct err *add_size(void *ctx, const char *digest, uint64_t size)
{
	(void)digest;
	*(uint64_t *)ctx += size;
	return NULL;
}

/* Bytes that images and cache hold on disk. */
static FALLIBLE held_bytes(struct engine *e, uint64_t *out_bytes)
{
	*out_bytes = 0;
	TRY(store_blob_each(engine_store(e), add_size, out_bytes));
	return layer_each(engine_snapshotter(e), add_size, out_bytes);
}

static FALLIBLE sweep_and_count(struct engine *e, uint64_t *out_bytes)
{
	uint64_t before, after;

	TRY(held_bytes(e, &before));
	TRY(image_sweep(e));
	TRY(held_bytes(e, &after));
	*out_bytes = before > after ? before - after : 0;
	return NULL;
}

static struct err *add_used(void *ctx, struct sv key, struct sv value)
{
	auto_json json_t *doc = NULL;

	(void)key;
	TRY(json_parse(value, "container record", 1u << 20, &doc));
	*map_put(ctx, json_str_at(doc, "Image", "")) = ctx;
	return NULL;
}

static FALLIBLE used_images(struct engine *e, struct map *out_ids)
{
	auto_txn struct db_txn *txn = NULL;

	TRY(db_begin_read(engine_db(e), &txn));
	return db_scan(txn, DB_CONTAINER, "", add_used, out_ids);
}

/* Whether no container has the image; its id for the report. A damaged image is used by nobody that could start. */
static FALLIBLE is_unused(struct engine *e, const struct map *used, const char *manifest, char out_id[DIGEST_MAX],
			  bool *out_unused)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	struct err *err = image_docs_load(e, manifest, &d);

	if (err && !image_is_damage(err))
		return err;
	memcpy(out_id, err ? manifest : d.manifest.config.digest, DIGEST_MAX);
	err_free(err);
	*out_unused = !map_get(used, out_id);
	return NULL;
}

static FALLIBLE drop_names(struct engine *e, const struct image_names *names, const char *manifest, json_t *events)
{
	for (size_t i = 0; i < names->v.n; i++) {
		const struct image_name *n = &names->v.p[i];
		CLEANUP(ref_fini) struct ref r = { 0 };
		auto_free char *familiar = NULL;

		if (strcmp(n->manifest, manifest) != 0)
			continue;
		TRY(image_name_delete(e, n->ref, false));
		if (image_name_is_none(n->ref))
			continue;
		TRY(ref_parse(n->ref, &r));
		familiar = ref_familiar(&r);
		(void)json_array_append_new(events, json_pack("{s:s}", "Untagged", familiar));
	}
	return NULL;
}

FALLIBLE engine_image_prune(struct engine *e, bool all, json_t **out_events, uint64_t *out_bytes)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	auto_map struct map used = { 0 }, done = { 0 };
	auto_json json_t *events = json_array();

	TRY(used_images(e, &used));
	TRY(image_names_load(e, &names));
	for (size_t i = 0; i < names.v.n; i++) {
		const char *manifest = names.v.p[i].manifest;
		char id[DIGEST_MAX];
		bool unused;

		if (map_get(&done, manifest) || (!all && image_names_of(&names, manifest)))
			continue;
		*map_put(&done, manifest) = &done;
		TRY(is_unused(e, &used, manifest, id, &unused));
		if (!unused)
			continue;
		TRY(drop_names(e, &names, manifest, events));
		(void)json_array_append_new(events, json_pack("{s:s}", "Deleted", id));
	}
	store_parts_drop(engine_store(e)); /* of pulls that nobody went on with */
	TRY(sweep_and_count(e, out_bytes));
	*out_events = TAKE(events);
	return NULL;
}

/* ---- build cache ---- */

static struct err *add_key(void *ctx, struct sv key, struct sv value)
{
	auto_free char *text = xstrndup(key.p, key.n);

	(void)value;
	text_list_add(ctx, text);
	return NULL;
}

FALLIBLE engine_cache_prune(struct engine *e, char ***out_keys, uint64_t *out_bytes)
{
	auto_txn struct db_txn *txn = NULL;
	auto_list char **keys = NULL;

	TRY(db_begin_write(engine_db(e), &txn));
	TRY(db_scan(txn, DB_CACHE, "", add_key, &keys));
	for (size_t i = 0; keys && keys[i]; i++)
		TRY(db_delete(txn, DB_CACHE, keys[i]));
	TRY(db_commit(TAKE(txn)));
	TRY(sweep_and_count(e, out_bytes));
	*out_keys = TAKE(keys);
	return NULL;
}
