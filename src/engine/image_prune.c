/*
 * image_prune.c - removing on request what nobody needs: images without a name, images without a container, build cache.
 *
 * Nothing goes by itself but what nothing names; a cache entry keeps its layer until the cache is pruned.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/filter.h"
#include "engine/image_store.h"
#include "engine/mounts.h"
#include "engine/prune.h"
#include "image/ref.h"
#include "state/db.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>

/* Pulls that were cut and that nobody went on with. */
static FALLIBLE parts_bytes(struct engine *e, uint64_t *out_bytes)
{
	auto_fd int tmp = sys_open_beneath(engine_root_fd(e), "tmp", O_RDONLY | O_DIRECTORY, 0);
	auto_usage struct usage u = { 0 };
	auto_list char **names = NULL;
	int r = tmp < 0 ? tmp : fs_list(tmp, &names);

	if (r < 0)
		return FAIL_OS(-r, "list %s/tmp", engine_root(e));
	for (size_t i = 0; names[i]; i++)
		if (strncmp(names[i], "part-", 5) == 0)
			TRY(usage_add(&u, tmp, names[i]));
	*out_bytes = u.all;
	return NULL;
}

static struct err *add_used(void *ctx, struct sv key, struct sv value)
{
	auto_json json_t *doc = NULL;
	auto_list char **images = NULL;

	(void)key;
	TRY(json_parse(value, "container record", 1u << 20, &doc));
	*map_put(ctx, json_str_at(doc, "Image", "")) = ctx;
	mounts_images(doc, NULL, &images);
	for (size_t i = 0; images && images[i]; i++)
		*map_put(ctx, images[i]) = ctx;
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

/*
 * Whether it is one that the filters mean; of a damaged image nothing is known. "until" asks when it came here, too: a build has the time
 * of its base, an import that of its newest file, and neither is old for that.
 */
static FALLIBLE is_meant(struct engine *e, const struct image_names *names, const char *manifest, const json_t *filters, bool *out_fits)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	struct err *err = image_docs_load(e, manifest, &d);
	int64_t made_ns = err ? 0 : config_created(d.config), named_ns = image_named_ns(names, manifest);

	if (err && !image_is_damage(err))
		return err;
	TRY(filter_prunes(filters, err || made_ns > named_ns ? made_ns : named_ns, err ? NULL : json_at(d.config, "config.Labels"), out_fits));
	err_free(err);
	return NULL;
}

static FALLIBLE prune_one(struct engine *e, const struct image_names *names, const char *manifest, const json_t *filters,
			  json_t *events)
{
	auto_map struct map used = { 0 };
	char id[DIGEST_MAX];
	auto_fd int lease = -1;
	bool goes;
	struct err *err = image_lease(e, manifest, true, &lease);

	if (err && err->kind == ERR_CONFLICT) {
		err_free(err);
		return NULL;
	}
	TRY(err);
	TRY(used_images(e, &used)); /* now that nobody can take it into use */
	TRY(is_unused(e, &used, manifest, id, &goes));
	if (goes)
		TRY(is_meant(e, names, manifest, filters, &goes));
	if (!goes)
		return NULL;
	TRY(drop_names(e, names, manifest, events));
	(void)json_array_append_new(events, json_pack("{s:s}", "Deleted", id));
	return NULL;
}

FALLIBLE engine_image_prune(struct engine *e, bool all, const json_t *filters, json_t **out_events, uint64_t *out_bytes)
{
	static const char *const known[] = { "until", "label", "label!", "dangling", NULL };
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	const json_t *dangling = json_object_get(filters, "dangling");
	auto_map struct map done = { 0 };
	auto_json json_t *events = json_array();
	uint64_t before, after;

	TRY(filter_check(filters, known));
	TRY(filter_check_bool(filters, "dangling"));
	all = all || (dangling && (filter_is(filters, "dangling", "false") || filter_is(filters, "dangling", "0")));
	TRY(image_names_load(e, &names));
	for (size_t i = 0; i < names.v.n; i++) {
		const char *manifest = names.v.p[i].manifest;

		if (map_get(&done, manifest) || (!all && image_names_of(&names, manifest)))
			continue;
		*map_put(&done, manifest) = &done;
		TRY(prune_one(e, &names, manifest, filters, events));
	}
	TRY(parts_bytes(e, &before));
	store_parts_drop(engine_store(e)); /* of pulls that nobody went on with */
	TRY(parts_bytes(e, &after));
	TRY(image_sweep_count(e, out_bytes));
	*out_bytes += before - after;
	*out_events = TAKE(events);
	return NULL;
}

/* ---- build cache ---- */

struct cache_choice {
	bool all;
	const json_t *filters;
	struct map of_images;
	char **keys;
};

static void cache_choice_fini(struct cache_choice *c)
{
	map_fini(&c->of_images);
	text_list_free(c->keys);
}

static struct err *choose_key(void *ctx, struct sv key, struct sv value)
{
	struct cache_choice *c = ctx;
	auto_free char *text = xstrndup(key.p, key.n);
	auto_json json_t *v = NULL;
	bool goes = true;

	TRY(json_parse(value, "cache entry", 1u << 20, &v));
	TRY(filter_prunes(c->filters, json_int_at(v, "used_ns", 0), NULL, &goes));
	if (goes && (c->all || !map_get(&c->of_images, json_str_at(v, "diff_id", ""))))
		text_list_add(&c->keys, text);
	return NULL;
}

FALLIBLE engine_cache_prune(struct engine *e, bool all, const json_t *filters, char ***out_keys, uint64_t *out_bytes)
{
	static const char *const known[] = { "until", "unused-for", NULL };
	CLEANUP(cache_choice_fini) struct cache_choice c = { .all = all, .filters = filters };
	auto_txn struct db_txn *txn = NULL;

	TRY(filter_check(filters, known));
	TRY(image_reach_names(e, &c.of_images));
	TRY(db_begin_write(engine_db(e), &txn));
	TRY(db_scan(txn, DB_CACHE, "", choose_key, &c));
	for (size_t i = 0; c.keys && c.keys[i]; i++)
		TRY(db_delete(txn, DB_CACHE, c.keys[i]));
	TRY(db_commit(TAKE(txn)));
	TRY(image_sweep_count(e, out_bytes));
	*out_keys = TAKE(c.keys);
	return NULL;
}
