/*
 * df.c - what everything takes on disk; see prune.h.
 *
 * Blobs and layers belong to the images, but for those that only the build cache keeps. What is left over
 * from something cut short is nobody's: the images' row has it, and image prune frees it.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "content/store.h"
#include "engine/container.h"
#include "engine/ctr.h"
#include "engine/filter.h"
#include "engine/image_store.h"
#include "engine/prune.h"
#include "engine/volume.h"
#include "state/db.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <sys/file.h>

struct row {
	size_t total, active;
	uint64_t size, reclaimable;
	json_t *items;
};
struct df {
	struct engine *e;
	bool with_items;
	json_t *containers; /* container_list of all */
	struct row images, boxes, volumes, cache;
	struct map of_images, of_containers,
	    of_cache; /* digests reached; an image that a container has counts with the containers */
};

static void df_fini(struct df *d)
{
	json_decref(d->containers);
	json_decref(d->images.items);
	json_decref(d->boxes.items);
	json_decref(d->volumes.items);
	json_decref(d->cache.items);
	map_fini(&d->of_images);
	map_fini(&d->of_containers);
	map_fini(&d->of_cache);
}

/* ---- blobs and layers ---- */

static size_t containers_of(const struct df *d, const char *image_id)
{
	size_t i, n = 0;
	json_t *c;

	json_array_foreach(d->containers, i, c) n += strcmp(json_str_at(c, "ImageID", ""), image_id) == 0;
	return n;
}

static FALLIBLE image_id_of(struct engine *e, const char *manifest, char out_id[DIGEST_MAX])
{
	CLEANUP(image_docs_fini) struct image_docs doc = { 0 };
	struct err *err = image_docs_load(e, manifest, &doc);

	if (err && !image_is_damage(err))
		return err;
	memcpy(out_id, err ? manifest : doc.manifest.config.digest, DIGEST_MAX);
	err_free(err);
	return NULL;
}

static FALLIBLE reach_all(struct df *d)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	auto_map struct map seen = { 0 };

	TRY(image_reach_names(d->e, &d->of_images));
	TRY(image_reach_containers(d->e, &d->of_containers));
	TRY(image_reach_cache(d->e, &d->of_cache));
	TRY(image_names_load(d->e, &names));
	for (size_t i = 0; i < names.v.n; i++) {
		const struct image_name *n = &names.v.p[i];
		char id[DIGEST_MAX];

		TRY(image_id_of(d->e, n->manifest, id));
		if (containers_of(d, id)) {
			*map_put(&d->of_containers, n->digest) = d;
			TRY(image_reach(d->e, n->manifest, &d->of_containers));
		}
		if (map_get(&seen, n->manifest))
			continue;
		*map_put(&seen, n->manifest) = &seen;
		d->images.total++;
		d->images.active += containers_of(d, id) > 0;
	}
	return NULL;
}

struct sorting { /* every digest of the store into one of the lists */
	const struct df *d;
	struct map seen;
	char **images, **images_free, **cache, **cache_free;
};

static void sorting_fini(struct sorting *s)
{
	map_fini(&s->seen);
	text_list_free(s->images);
	text_list_free(s->images_free);
	text_list_free(s->cache);
	text_list_free(s->cache_free);
}

static struct err *sort_one(void *ctx, const char *digest, uint64_t size)
{
	struct sorting *s = ctx;
	bool is_cached = map_get(&s->d->of_cache, digest) != NULL,
	     is_used = map_get(&s->d->of_containers, digest) != NULL;

	(void)size;
	if (map_get(&s->seen, digest))
		return NULL;
	*map_put(&s->seen, digest) = s;
	if (is_cached && !is_used && !map_get(&s->d->of_images, digest)) {
		text_list_add(&s->cache, digest);
		return NULL;
	}
	text_list_add(&s->images, digest);
	if (!is_used && !is_cached)
		text_list_add(&s->images_free, digest);
	return NULL;
}

static FALLIBLE measure(struct df *d, char *const *digests, uint64_t *out_all, uint64_t *out_freed)
{
	auto_usage struct usage u = { 0 };

	TRY(image_usage(d->e, &u, digests));
	if (out_all)
		*out_all += u.all;
	if (out_freed)
		*out_freed += u.freed;
	return NULL;
}

/* What a directory of ROOT holds, of entries that begin so. */
static FALLIBLE measure_dir(struct df *d, const char *dir, const char *prefix, uint64_t *out_bytes)
{
	auto_fd int fd = sys_open_beneath(engine_root_fd(d->e), dir, O_RDONLY | O_DIRECTORY, 0);
	auto_usage struct usage u = { 0 };
	auto_list char **names = NULL;
	int r = fd < 0 ? fd : fs_list(fd, &names);

	if (fd == -ENOENT)
		return NULL;
	if (r < 0)
		return FAIL_OS(-r, "list %s/%s", engine_root(d->e), dir);
	for (size_t i = 0; names[i]; i++)
		if (strncmp(names[i], prefix, strlen(prefix)) == 0)
			TRY(usage_add(&u, fd, names[i]));
	*out_bytes += u.all;
	return NULL;
}

static struct err *count_entry(void *ctx, struct sv key, struct sv value)
{
	struct df *d = ctx;
	auto_json json_t *v = NULL;
	struct sv id = sv_starts(key, sv_of("sha256:")) ? sv_skip(key, 7) : key;
	const char *diff_id;
	uint64_t bytes = 0;

	TRY(json_parse(value, "cache entry", 1u << 20, &v));
	diff_id = json_str_at(v, "diff_id", "");
	if (d->with_items && *diff_id)
		TRY(measure(d, (char *const[]){ (char *)(uintptr_t)diff_id, NULL }, &bytes, NULL));
	d->cache.total++;
	d->cache.active += map_get(&d->of_containers, diff_id) != NULL;
	if (d->with_items)
		(void)json_array_append_new(d->cache.items,
					    json_pack("{s:s#, s:s, s:s, s:I, s:I, s:b, s:b}", "ID", id.p,
						      (int)(id.n < 12 ? id.n : 12), "CacheType",
						      json_str_at(v, "what", ""), "DiffID", diff_id, "UsedNs",
						      json_int_at(v, "used_ns", 0), "Size", (json_int_t)bytes, "InUse",
						      map_get(&d->of_containers, diff_id) != NULL, "Shared",
						      map_get(&d->of_images, diff_id) != NULL));
	return NULL;
}

static FALLIBLE store_rows(struct df *d)
{
	CLEANUP(sorting_fini) struct sorting s = { .d = d };
	auto_txn struct db_txn *txn = NULL;
	uint64_t parts = 0, mounts = 0;

	TRY(reach_all(d));
	TRY(store_blob_each(engine_store(d->e), sort_one, &s));
	TRY(layer_each(engine_snapshotter(d->e), sort_one, &s));
	TRY(measure(d, s.images, &d->images.size, NULL));
	TRY(measure(d, s.images_free, NULL, &d->images.reclaimable));
	TRY(measure_dir(d, "tmp", "part-", &parts));
	d->images.size += parts;
	d->images.reclaimable += parts;
	TRY(measure(d, s.cache, &d->cache.size, &d->cache.reclaimable));
	TRY(measure_dir(d, "cache", "", &mounts));
	d->cache.size += mounts;
	d->cache.reclaimable += mounts;
	TRY(db_begin_read(engine_db(d->e), &txn));
	return db_scan(txn, DB_CACHE, "", count_entry, d);
}

/* ---- images, one by one ---- */

static char **reached_by(struct engine *e, const char *manifest, struct err **out_err)
{
	auto_map struct map m = { 0 };
	char **list = NULL;

	*out_err = image_reach(e, manifest, &m);
	for (size_t i = 0; i < m.n; i++)
		text_list_add(&list, m.entries[i].key);
	return list;
}

/* How many images reach each digest. */
static FALLIBLE count_sharers(struct df *d, const json_t *list, struct map *out_counts)
{
	size_t i;
	json_t *image;

	json_array_foreach(list, i, image)
	{
		struct err *err;
		auto_list char **digests = reached_by(d->e, json_str_at(image, "HoyManifest", ""), &err);

		TRY(err);
		for (size_t k = 0; digests && digests[k]; k++) {
			void **slot = map_put(out_counts, digests[k]);

			*slot = (void *)((uintptr_t)*slot + 1);
		}
	}
	return NULL;
}

static FALLIBLE image_item(struct df *d, json_t *image, const struct map *counts)
{
	struct err *err;
	auto_list char **digests = reached_by(d->e, json_str_at(image, "HoyManifest", ""), &err),
		       **shared = NULL;
	uint64_t all = 0, common = 0;

	TRY(err);
	for (size_t k = 0; digests && digests[k]; k++)
		if ((uintptr_t)*map_get(counts, digests[k]) > 1)
			text_list_add(&shared, digests[k]);
	TRY(measure(d, digests, &all, NULL));
	TRY(measure(d, shared, &common, NULL));
	(void)json_object_set_new(image, "Size", json_integer((json_int_t)all));
	(void)json_object_set_new(image, "SharedSize", json_integer((json_int_t)common));
	(void)json_object_set_new(image, "Containers",
				  json_integer((json_int_t)containers_of(d, json_str_at(image, "Id", ""))));
	return NULL;
}

static FALLIBLE image_items(struct df *d)
{
	auto_map struct map counts = { 0 };
	auto_json json_t *list = NULL;
	size_t i;
	json_t *image;

	TRY(engine_image_list(d->e, NULL, &list));
	TRY(count_sharers(d, list, &counts));
	json_array_foreach(list, i, image) TRY(image_item(d, image, &counts));
	json_decref(d->images.items);
	d->images.items = json_incref(list);
	return NULL;
}

/* ---- containers and volumes ---- */

static bool is_running(const json_t *c)
{
	const char *state = json_str_at(c, "State", "");

	return strcmp(state, "exited") != 0 && strcmp(state, "created") != 0;
}

/* Of the layers of its image. */
static FALLIBLE image_bytes(struct engine *e, const char *id, uint64_t *out_bytes)
{
	auto_json json_t *doc = NULL;
	const json_t *layers;
	size_t i;
	json_t *diff_id;

	*out_bytes = 0;
	TRY(ctr_load(e, id, &doc));
	layers = json_at(doc, "Hoy.Layers");
	json_array_foreach(layers, i, diff_id) *out_bytes +=
	    layer_size(engine_snapshotter(e), json_string_value(diff_id));
	return NULL;
}

FALLIBLE engine_container_size(struct engine *e, json_t *container)
{
	const char *id = json_str_at(container, "Id", "?");
	struct df d = { .e = e };
	uint64_t own = 0, image = 0;

	TRY(measure_dir(&d, "containers", id, &own));
	TRY(image_bytes(e, id, &image));
	(void)json_object_set_new(container, "SizeRw", json_integer((json_int_t)own));
	(void)json_object_set_new(container, "SizeRootFs", json_integer((json_int_t)(own + image)));
	return NULL;
}

static FALLIBLE container_row(struct df *d)
{
	size_t i;
	json_t *c;

	json_array_foreach(d->containers, i, c)
	{
		uint64_t bytes = 0;

		TRY(measure_dir(d, "containers", json_str_at(c, "Id", "?"), &bytes));
		(void)json_object_set_new(c, "SizeRw", json_integer((json_int_t)bytes));
		d->boxes.total++;
		d->boxes.active += is_running(c);
		d->boxes.size += bytes;
		d->boxes.reclaimable += is_running(c) ? 0 : bytes;
		if (d->with_items)
			(void)json_array_append(d->boxes.items, c);
	}
	return NULL;
}

static size_t users_of(const struct df *d, const char *volume)
{
	size_t i, k, n = 0;
	json_t *c, *m;

	json_array_foreach(d->containers, i, c) json_array_foreach(json_object_get(c, "Mounts"), k, m) n +=
	    strcmp(json_str_at(m, "Name", ""), volume) == 0;
	return n;
}

static FALLIBLE volume_bytes(struct df *d, const char *name, uint64_t *out_bytes)
{
	auto_fd int fd = sys_open_beneath(engine_root_fd(d->e), "volumes", O_RDONLY | O_DIRECTORY, 0);
	auto_usage struct usage u = { 0 };

	if (fd < 0)
		return FAIL_OS(-fd, "open %s/volumes", engine_root(d->e));
	TRY(usage_add(&u, fd, name));
	*out_bytes = u.all;
	return NULL;
}

static FALLIBLE volume_row(struct df *d)
{
	auto_json json_t *list = NULL;
	size_t i;
	json_t *v;

	TRY(volume_list(d->e, NULL, &list));
	json_array_foreach(list, i, v)
	{
		const char *name = json_str_at(v, "Name", "");
		size_t links = users_of(d, name);
		uint64_t bytes = 0;

		TRY(volume_bytes(d, name, &bytes));
		d->volumes.total++;
		d->volumes.active += links > 0;
		d->volumes.size += bytes;
		d->volumes.reclaimable += links ? 0 : bytes;
		if (d->with_items)
			(void)json_array_append_new(d->volumes.items,
						    json_pack("{s:s, s:I, s:I}", "Name", name, "Links",
							      (json_int_t)links, "Size", (json_int_t)bytes));
	}
	return NULL;
}

static void add_row(json_t *rows, const char *type, const struct row *r)
{
	(void)json_array_append_new(rows,
				    json_pack("{s:s, s:I, s:I, s:I, s:I, s:O}", "Type", type, "TotalCount",
					      (json_int_t)r->total, "Active", (json_int_t)r->active, "Size",
					      (json_int_t)r->size, "Reclaimable", (json_int_t)r->reclaimable,
					      "Items", r->items));
}

FALLIBLE engine_df(struct engine *e, bool with_items, json_t **out_rows)
{
	CLEANUP(df_fini) struct df d = { .e = e, .with_items = with_items };
	auto_json json_t *rows = json_array();

	d.images.items = json_array();
	d.boxes.items = json_array();
	d.volumes.items = json_array();
	d.cache.items = json_array();
	TRY(container_list(e, true, NULL, &d.containers));
	TRY(store_rows(&d));
	TRY(container_row(&d));
	TRY(volume_row(&d));
	if (with_items)
		TRY(image_items(&d));
	add_row(rows, "Images", &d.images);
	add_row(rows, "Containers", &d.boxes);
	add_row(rows, "Local Volumes", &d.volumes);
	add_row(rows, "Build Cache", &d.cache);
	*out_rows = TAKE(rows);
	return NULL;
}
