/* image_list.c - images as lists and objects in docker's shapes. */
#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "content/store.h"
#include "engine/image_store.h"
#include "image/ref.h"
#include "state/db.h"
#include <stdio.h>

/* Names of one image as familiar texts and as repository@digest. */
static void names_of(const struct image_names *all, const char *manifest, json_t *tags, json_t *digests)
{
	for (size_t i = 0; i < all->v.n; i++) {
		CLEANUP(ref_fini) struct ref r = { 0 };
		auto_free char *familiar = NULL, *repo = NULL, *by_digest = NULL;
		struct err *err;

		if (strcmp(all->v.p[i].manifest, manifest) != 0)
			continue;
		err = ref_parse(all->v.p[i].ref, &r);
		if (err) {
			err_free(err);
			continue;
		}
		familiar = ref_familiar(&r);
		repo = ref_familiar_repo(&r);
		by_digest = xasprintf("%s@%s", repo, all->v.p[i].digest);
		if (r.tag)
			(void)json_array_append_new(tags, json_string(familiar));
		(void)json_array_append_new(digests, json_string(by_digest));
	}
}

static json_t *summary(struct engine *e, const struct image_names *all, const struct image_docs *d)
{
	json_t *tags = json_array(), *digests = json_array(), *labels = json_at(d->config, "config.Labels");

	names_of(all, d->digest, tags, digests);
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:I, s:I, s:i, s:i, s:O?}", "HoyManifest", d->digest, "Id",
			 d->manifest.config.digest, "ParentId", "",
			 "RepoTags", tags, "RepoDigests", digests, "Created",
			 (json_int_t)(config_created(d->config) / 1000000000), "Size", (json_int_t)image_size(e, d), "SharedSize",
			 -1, "Containers", -1, "Labels", labels);
}

/* Documents that are gone or damaged: it is shown, so that it can be removed or pulled again. */
static json_t *damaged_summary(const struct image_names *all, const char *manifest)
{
	json_t *tags = json_array(), *digests = json_array();

	names_of(all, manifest, tags, digests);
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:i, s:i, s:i, s:i}", "HoyManifest", manifest, "Id", manifest, "ParentId", "", "RepoTags", tags,
			 "RepoDigests", digests, "Created", 0, "Size", 0, "SharedSize", -1, "Containers", -1);
}

static FALLIBLE summary_of(struct engine *e, const struct image_names *all, const char *manifest, json_t **out)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	struct err *err = image_docs_load(e, manifest, &d);

	if (err && !image_is_damage(err))
		return err;
	*out = err ? damaged_summary(all, manifest) : summary(e, all, &d);
	if (err)
		log_warn("image %.19s: %s", manifest, err->msg);
	err_free(err);
	return NULL;
}

static int newest_first(const void *a, const void *b)
{
	json_t *const *x = a, *const *y = b;
	int64_t d = json_int_at(*y, "Created", 0) - json_int_at(*x, "Created", 0);

	return d > 0 ? 1 : d < 0 ? -1 : 0;
}

FALLIBLE engine_image_list(struct engine *e, bool all, json_t **out_array)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	VEC(json_t *) found = { 0 };
	json_t *out = json_array();
	struct err *err = NULL;

	(void)all; /* there are no intermediate images here: build steps are cache entries */
	TRY(image_names_load(e, &names));
	for (size_t i = 0; !err && i < names.v.n; i++) {
		json_t *item = NULL;
		size_t j = 0;

		while (j < i && strcmp(names.v.p[j].manifest, names.v.p[i].manifest) != 0)
			j++;
		if (j < i)
			continue; /* listed with its first name */
		err = summary_of(e, &names, names.v.p[i].manifest, &item);
		if (!err)
			*vec_push(&found) = item;
	}
	if (found.n)
		qsort(found.p, found.n, sizeof *found.p, newest_first);
	for (size_t i = 0; i < found.n; i++)
		(void)json_array_append_new(out, found.p[i]);
	vec_fini(&found);
	if (err)
		json_decref(out);
	else
		*out_array = out;
	return err;
}

/* Of the last step that made it. */
static const char *last_comment(const json_t *config)
{
	const json_t *history = json_object_get(config, "history");
	size_t n = json_array_size(history);

	return n ? json_str_at(json_array_get(history, n - 1), "comment", "") : "";
}

FALLIBLE engine_image_inspect(struct engine *e, const char *text, json_t **out_object)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_free char *ref = NULL;
	char manifest[DIGEST_MAX];
	json_t *tags = json_array(), *digests = json_array(), *layers, *config;
	struct err *err = image_find(e, text, manifest, &ref);

	if (!err)
		err = image_names_load(e, &names);
	if (!err)
		err = image_docs_load(e, manifest, &d);
	if (err) {
		json_decref(tags);
		json_decref(digests);
		return err;
	}
	names_of(&names, manifest, tags, digests);
	layers = json_from_list(d.diff_ids);
	config = json_object_get(d.config, "config");
	*out_object = json_pack("{s:s, s:o, s:o, s:s, s:s, s:s, s:s, s:O?, s:s, s:s, s:I, s:I, s:{s:s}, s:{s:s, s:o}, s:{}}", "Id",
				d.manifest.config.digest, "RepoTags", tags, "RepoDigests", digests, "Parent", "", "Comment", last_comment(d.config),
				"Created", json_str_at(d.config, "created", "1970-01-01T00:00:00Z"), "Author",
				json_str_at(d.config, "author", ""), "Config", config, "Architecture",
				json_str_at(d.config, "architecture", ""), "Os", json_str_at(d.config, "os", ""), "Size",
				(json_int_t)image_size(e, &d), "VirtualSize", (json_int_t)image_size(e, &d), "GraphDriver", "Name",
				engine_image_driver(e, d.diff_ids), "RootFS", "Type", "layers", "Layers", layers,
				"Metadata");
	if (*json_str_at(d.config, "variant", ""))
		(void)json_object_set_new(*out_object, "Variant", json_string(json_str_at(d.config, "variant", "")));
	return NULL;
}

/* Newest first; only the top one has the image's id, as after a pull with docker. */
FALLIBLE engine_image_history(struct engine *e, const char *text, json_t **out_array)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	auto_free char *ref = NULL;
	char manifest[DIGEST_MAX];
	const json_t *history;
	json_t *out = json_array(), *h;
	size_t i, layer = 0;
	struct err *err = image_find(e, text, manifest, &ref);

	if (!err)
		err = image_docs_load(e, manifest, &d);
	if (err) {
		json_decref(out);
		return err;
	}
	history = json_object_get(d.config, "history");
	json_array_foreach (history, i, h) {
		bool is_empty = json_bool_at(h, "empty_layer", false);
		int64_t created = 0;
		uint64_t size = 0;

		err_free(time_parse(sv_of(json_str_at(h, "created", "")), &created));
		if (!is_empty && layer < d.manifest.n)
			size = layer_size(engine_snapshotter(e), d.diff_ids[layer++]);
		(void)json_array_insert_new(out, 0, json_pack("{s:s, s:I, s:s, s:[], s:I, s:s}", "Id",
							      i + 1 == json_array_size(history) ? d.manifest.config.digest :
												  "<missing>",
							      "Created", (json_int_t)(created / 1000000000), "CreatedBy",
							      json_str_at(h, "created_by", ""), "Tags", "Size", (json_int_t)size,
							      "Comment", json_str_at(h, "comment", "")));
	}
	if (json_array_size(history) == 0)
		(void)json_array_append_new(out, json_pack("{s:s, s:I, s:s, s:[], s:I, s:s}", "Id", d.manifest.config.digest,
							   "Created", (json_int_t)(config_created(d.config) / 1000000000),
							   "CreatedBy", "", "Tags", "Size", (json_int_t)image_size(e, &d),
							   "Comment", ""));
	*out_array = out;
	return NULL;
}
