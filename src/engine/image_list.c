/* image_list.c - images as lists and objects in docker's shapes. */
#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "content/store.h"
#include "engine/filter.h"
#include "engine/image_store.h"
#include "image/ref.h"
#include "state/db.h"
#include <fnmatch.h>
#include <stdio.h>

#define NS INT64_C(1000000000)

/*
 * What is asked for: docker's filters. created, named: of the images that "before" and "since" name; images of one second are told apart by
 * when they got their names, since a build takes the time of its base.
 */
struct moment {
	int64_t created, named; /* seconds; nanoseconds */
};
struct wanted {
	const json_t *filters;
	struct moment before, since; /* 0: not asked for */
};

static int moment_compare(struct moment a, struct moment b)
{
	if (a.created != b.created)
		return a.created < b.created ? -1 : 1;
	return a.named == b.named ? 0 : a.named < b.named ? -1 : 1;
}

/* "app", "app:1*", "REGISTRY/team/a*": as docker matches (no star crosses a slash), and whole names, too. */
static bool is_wanted_name(const json_t *patterns, const struct ref *r)
{
	auto_free char *familiar = ref_familiar(r), *repo = ref_familiar_repo(r), *full = ref_full(r);
	const char *const texts[] = { familiar, repo, full };
	size_t i;
	json_t *v;

	json_array_foreach (patterns, i, v)
		for (size_t k = 0; k < LEN(texts); k++)
			if (fnmatch(json_string_value(v) ? json_string_value(v) : "", texts[k], FNM_PATHNAME) == 0)
				return true;
	return json_array_size(patterns) == 0;
}

/* Names of one image that fit the patterns (NULL: all), as familiar texts and as repository@digest. */
static void names_of(const struct image_names *all, const char *manifest, const json_t *patterns, json_t *tags, json_t *digests)
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
		if (!is_wanted_name(patterns, &r))
			continue;
		familiar = ref_familiar(&r);
		repo = ref_familiar_repo(&r);
		by_digest = xasprintf("%s@%s", repo, all->v.p[i].digest);
		if (r.tag && !r.digest) /* of NAME:TAG@DIGEST the digest is what was asked for */
			(void)json_array_append_new(tags, json_string(familiar));
		if (!all->v.p[i].has_no_digest)
			json_add_once(digests, by_digest);
	}
}

static json_t *summary(struct engine *e, const struct image_docs *d)
{
	return json_pack("{s:s, s:s, s:s, s:I, s:I, s:i, s:i, s:O?}", "HoyManifest", d->digest, "Id", d->manifest.config.digest, "ParentId", "",
			 "Created", (json_int_t)(config_created(d->config) / NS), "Size", (json_int_t)image_size(e, d), "SharedSize",
			 -1, "Containers", -1, "Labels", json_at(d->config, "config.Labels"));
}

/* Documents that are gone or damaged: it is shown, so that it can be removed or pulled again. */
static json_t *damaged_summary(const char *manifest)
{
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i}", "HoyManifest", manifest, "Id", manifest, "ParentId", "", "Created", 0, "Size", 0,
			 "SharedSize", -1, "Containers", -1);
}

static FALLIBLE keeps(const struct wanted *w, const json_t *item, struct moment m, bool *out_keeps)
{
	bool has_tag = json_array_size(json_object_get(item, "RepoTags")) > 0, has_name = json_array_size(json_object_get(item, "RepoDigests")) > 0;
	bool is_dangling = filter_is(w->filters, "dangling", "true") || filter_is(w->filters, "dangling", "1");

	*out_keeps = false;
	if (json_array_size(json_object_get(w->filters, "reference")) && !has_name)
		return NULL;
	if (json_array_size(json_object_get(w->filters, "dangling")) && (is_dangling ? has_tag : !has_name))
		return NULL;
	if ((w->before.named && moment_compare(m, w->before) >= 0) || (w->since.named && moment_compare(m, w->since) <= 0))
		return NULL;
	return filter_prunes(w->filters, m.created * NS > m.named ? m.created * NS : m.named, json_object_get(item, "Labels"), out_keeps);
}

struct found {
	json_t *item; /* owned */
	struct moment at;
};

/* out_found->item stays NULL when it is not wanted. */
static FALLIBLE summary_of(struct engine *e, const struct image_names *all, const char *manifest, const struct wanted *w,
			   struct found *out_found)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	json_t *tags = json_array(), *digests = json_array();
	auto_json json_t *item = NULL;
	bool is_kept = false;
	struct err *err = image_docs_load(e, manifest, &d);

	if (!err || image_is_damage(err)) {
		item = err ? damaged_summary(manifest) : summary(e, &d);
		out_found->at = (struct moment){ err ? 0 : config_created(d.config) / NS, image_named_ns(all, manifest) };
		if (err)
			log_warn("image %.19s: %s", manifest, err->msg);
		err_free(err);
		err = NULL;
	}
	names_of(all, manifest, json_object_get(w->filters, "reference"), tags, digests);
	(void)json_object_set_new(item, "RepoTags", tags);
	(void)json_object_set_new(item, "RepoDigests", digests);
	TRY(err);
	TRY(keeps(w, item, out_found->at, &is_kept));
	out_found->item = is_kept ? TAKE(item) : NULL;
	return NULL;
}

static int newest_first(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return moment_compare(y->at, x->at);
}

static FALLIBLE moment_of(struct engine *e, const struct image_names *all, const char *key, const json_t *filters, struct moment *out)
{
	CLEANUP(image_docs_fini) struct image_docs d = { 0 };
	const json_t *values = json_object_get(filters, key);
	auto_free char *ref = NULL;
	char manifest[DIGEST_MAX];

	if (!json_array_size(values))
		return NULL;
	if (json_array_size(values) > 1)
		return FAIL(ERR_INVALID, "invalid filter '%s': it takes one image", key);
	TRY(image_find(e, json_string_value(json_array_get(values, 0)), manifest, &ref));
	TRY(image_docs_load(e, manifest, &d));
	*out = (struct moment){ config_created(d.config) / NS, image_named_ns(all, manifest) };
	return NULL;
}

static FALLIBLE check_filters(const json_t *filters)
{
	static const char *const known[] = { "dangling", "label", "label!", "reference", "before", "since", "until", NULL };

	TRY(filter_check(filters, known));
	return filter_check_bool(filters, "dangling");
}

FALLIBLE engine_image_list(struct engine *e, const json_t *filters, json_t **out_array)
{
	CLEANUP(image_names_fini) struct image_names names = { 0 };
	struct wanted w = { .filters = filters };
	VEC(struct found) found = { 0 };
	auto_json json_t *out = NULL;
	struct err *err = NULL;

	TRY(check_filters(filters));
	TRY(image_names_load(e, &names));
	TRY(moment_of(e, &names, "before", filters, &w.before));
	TRY(moment_of(e, &names, "since", filters, &w.since));
	for (size_t i = 0; !err && i < names.v.n; i++) {
		struct found one = { 0 };
		size_t j = 0;

		while (j < i && strcmp(names.v.p[j].manifest, names.v.p[i].manifest) != 0)
			j++;
		if (j < i)
			continue; /* listed with its first name */
		err = summary_of(e, &names, names.v.p[i].manifest, &w, &one);
		if (one.item)
			*vec_push(&found) = one;
	}
	if (found.n)
		qsort(found.p, found.n, sizeof *found.p, newest_first);
	out = json_array();
	for (size_t i = 0; i < found.n; i++)
		(void)json_array_append_new(out, found.p[i].item);
	vec_fini(&found);
	TRY(err);
	*out_array = TAKE(out);
	return NULL;
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
	char last_tag[TIME_TEXT_MAX];
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
	names_of(&names, manifest, NULL, tags, digests);
	layers = json_from_list(d.diff_ids);
	config = json_object_get(d.config, "config");
	*out_object = json_pack("{s:s, s:o, s:o, s:s, s:s, s:s, s:s, s:O?, s:s, s:s, s:s, s:s, s:I, s:I, s:{s:s}, s:{s:s, s:o}, s:{s:s}}", "Id",
				d.manifest.config.digest, "RepoTags", tags, "RepoDigests", digests, "Parent", "", "Comment", last_comment(d.config),
				"Created", json_str_at(d.config, "created", "1970-01-01T00:00:00Z"), "Author",
				json_str_at(d.config, "author", ""), "Config", config, "Architecture",
				json_str_at(d.config, "architecture", ""), "Os", json_str_at(d.config, "os", ""), "DockerVersion",
				json_str_at(d.config, "docker_version", ""), "Container", json_str_at(d.config, "container", ""), "Size",
				(json_int_t)image_size(e, &d), "VirtualSize", (json_int_t)image_size(e, &d), "GraphDriver", "Name",
				engine_image_driver(e, d.diff_ids), "RootFS", "Type", "layers", "Layers", layers,
				"Metadata", "LastTagTime", time_format(image_named_ns(&names, manifest), last_tag));
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
							      "Created", (json_int_t)(created / NS), "CreatedBy",
							      json_str_at(h, "created_by", ""), "Tags", "Size", (json_int_t)size,
							      "Comment", json_str_at(h, "comment", "")));
	}
	if (json_array_size(history) == 0)
		(void)json_array_append_new(out, json_pack("{s:s, s:I, s:s, s:[], s:I, s:s}", "Id", d.manifest.config.digest,
							   "Created", (json_int_t)(config_created(d.config) / NS),
							   "CreatedBy", "", "Tags", "Size", (json_int_t)image_size(e, &d),
							   "Comment", ""));
	*out_array = out;
	return NULL;
}
