/* inspect.c - what a registry says of an image and which tags a repository has, without fetching layers. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "image/config.h"
#include "image/manifest.h"
#include "registry/download.h"
#include "registry/remote.h"
#include "registry/transfer.h"
#include <string.h>

#define NESTING_MAX 4

/* The first place that answers; owned registry. f is called with it; when it fails the next place is asked.
 */
struct question {
	const struct transfer *t;
	struct err *(*ask)(struct question *q, struct registry *r);
	json_t **out;
	enum inspect_form form;
};

static struct err *ask_places(struct question *q)
{
	const struct transfer *t = q->t;
	auto_places struct places places = { 0 };
	struct err *e = NULL;

	TRY(places_find(t->ref, t->daemon, &t->access, &places));
	for (size_t i = 0; i < places.v.n; i++) {
		auto_registry struct registry *r = NULL;
		struct registry_conf conf = { .report = t->report,
					      .place = &places.v.p[i],
					      .actions = "pull",
					      .patience = t->patience,
					      .daemon = t->daemon,
					      .access = &t->access };

		if (!conf.place->can_resolve)
			continue;
		err_free(e);
		e = registry_open(&conf, &r);
		if (!e)
			e = q->ask(q, r);
		if (!e || e->kind == ERR_CANCELLED)
			return e;
	}
	return e ? e
		 : FAIL(ERR_DENIED, "hosts.toml of %s names nobody to ask (capabilities)", t->ref->domain);
}

/* Collected: configs are small. */
static struct err *get_config(const struct question *q, struct registry *r, const struct descriptor *d,
			      char **out_body, size_t *out_n)
{
	auto_free char *what = xasprintf("blobs/%s", d->digest), *url = registry_url(r, what);
	auto_response struct http_response answer = { 0 };
	char digest[DIGEST_MAX];

	if (d->size > MANIFEST_MAX)
		return FAIL(ERR_LIMIT, "config of %llu bytes, at most %u", (unsigned long long)d->size,
			    MANIFEST_MAX);
	TRY(registry_ask(
	    r, NULL,
	    (struct http_request){ .method = "GET", .url = url, .redirects = 10, .max_body = MANIFEST_MAX },
	    &answer));
	if (answer.status != 200)
		return remote_refusal(q->t->ref, &answer, d->digest);
	digest_of(buf_text(&answer.body), answer.body.n, digest);
	if (strcmp(digest, d->digest) != 0)
		return FAIL(ERR_CORRUPT, "config: digest mismatch: wanted %s, got %s", d->digest, digest);
	*out_n = answer.body.n;
	*out_body = buf_take(&answer.body);
	return NULL;
}

static json_t *platforms_of(const struct manifest *m)
{
	json_t *list = json_array(), *entry;
	size_t i;

	json_array_foreach(json_object_get(m->doc, "manifests"), i, entry)
	{
		const json_t *p = json_object_get(entry, "platform");
		const char *variant = json_str_at(p, "variant", "");
		auto_free char *text =
		    xasprintf("%s/%s%s%s", json_str_at(p, "os", "unknown"),
			      json_str_at(p, "architecture", "unknown"), *variant ? "/" : "", variant);

		(void)json_array_append_new(list,
					    json_pack("{s:s, s:s, s:s, s:I}", "Platform", text, "Digest",
						      m->parts[i].digest, "MediaType", m->parts[i].media_type,
						      "Size", (json_int_t)m->parts[i].size));
	}
	return list;
}

static json_t *layers_of(const struct manifest *m, json_int_t *out_total)
{
	json_t *list = json_array(), *entry;
	size_t i;

	json_array_foreach(json_object_get(m->doc, "layers"), i, entry)
	{
		(void)json_array_append(list, entry);
		*out_total += (json_int_t)m->parts[i].size;
	}
	return list;
}

static void set_text(json_t *out, const char *key, const char *value)
{
	if (*value)
		(void)json_object_set_new(out, key, json_string(value));
}

/* The manifest's side of the answer: a text that names what is copied, and what of it. */
static struct err *describe(const struct question *q, struct registry *r, const struct remote_doc *top,
			    const struct manifest *m, const char *digest, json_t *out)
{
	auto_free char *body = NULL;
	auto_json json_t *config = NULL;
	json_int_t total = 0;
	size_t n = 0;

	set_text(out, "MediaType", m->media_type);
	set_text(out, "ManifestDigest", digest);
	set_text(out, "ArtifactType", json_str_at(m->doc, "artifactType", ""));
	set_text(out, "RateLimit", top->limits);
	(void)json_object_set_new(out, "Layers", layers_of(m, &total));
	(void)json_object_set_new(out, "Size", json_integer(total));
	if (json_object_get(m->doc, "annotations"))
		(void)json_object_set(out, "Annotations", json_object_get(m->doc, "annotations"));
	if (json_object_get(m->doc, "subject"))
		(void)json_object_set(out, "Subject", json_object_get(m->doc, "subject"));
	if (strcmp(m->config.media_type, MEDIA_CONFIG) != 0 &&
	    strcmp(m->config.media_type, MEDIA_DOCKER_CONFIG) != 0)
		return NULL;
	TRY(get_config(q, r, &m->config, &body, &n));
	TRY(json_parse(sv_from(body, n), "config", MANIFEST_MAX, &config));
	set_text(out, "Id", m->config.digest);
	set_text(out, "Created", json_str_at(config, "created", ""));
	set_text(out, "Os", json_str_at(config, "os", ""));
	set_text(out, "Architecture", json_str_at(config, "architecture", ""));
	set_text(out, "Variant", json_str_at(config, "variant", ""));
	if (json_object_get(config, "config"))
		(void)json_object_set(out, "Config", json_object_get(config, "config"));
	return NULL;
}

/* Down to the manifest of the platform. doc and m are those of the last step; *out_platforms: of the first
 * index, or NULL. */
static struct err *walk(struct question *q, struct registry *r, struct remote_doc *doc, struct manifest *m,
			json_t **out_platforms)
{
	struct platform host;

	platform_host(&host);
	for (int depth = 0;; depth++) {
		const struct descriptor *part = NULL;
		char digest[DIGEST_MAX];
		uint64_t size;

		manifest_fini(m);
		TRY(manifest_parse(sv_from(doc->body, doc->n), *doc->media_type ? doc->media_type : NULL, m));
		if (!m->is_index)
			return NULL;
		if (depth == NESTING_MAX)
			return FAIL(ERR_INVALID, "more than %d indexes inside each other", NESTING_MAX);
		if (!*out_platforms)
			*out_platforms = platforms_of(m);
		TRY(manifest_choose(m, q->t->platform ? q->t->platform : &host, &part));
		memcpy(digest, part->digest, DIGEST_MAX);
		size = part->size;
		remote_doc_fini(doc);
		TRY(remote_get(r, q->t->ref, digest, digest, doc));
		if (doc->n != size)
			return FAIL(ERR_CORRUPT, "manifest %s: size mismatch: wanted %llu bytes, got %zu",
				    digest, (unsigned long long)size, doc->n);
	}
}

static struct err *text_result(const char *body, size_t n, json_t **out)
{
	*out = json_stringn(body, n);
	return *out ? NULL : FAIL(ERR_INVALID, "the document is not UTF-8");
}

static struct err *inspect_at(struct question *q, struct registry *r)
{
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	auto_remote_doc struct remote_doc top = { 0 }, doc = { 0 };
	const struct ref *ref = q->t->ref;
	auto_free char *name = ref_full(ref), *body = NULL;
	auto_json json_t *out = json_object(), *platforms = NULL;
	size_t n = 0;

	TRY(remote_get(r, ref, ref->digest ? ref->digest : ref->tag, ref->digest, &top));
	if (q->form == INSPECT_RAW && !q->t->platform)
		return text_result(top.body, top.n, q->out);
	doc = (struct remote_doc){ .body = xstrndup(top.body, top.n),
				   .n = top.n,
				   .media_type = xstrdup(top.media_type) };
	memcpy(doc.digest, top.digest, DIGEST_MAX);
	TRY(walk(q, r, &doc, &m, &platforms));
	if (q->form == INSPECT_RAW)
		return text_result(doc.body, doc.n, q->out);
	if (q->form == INSPECT_CONFIG) {
		TRY(get_config(q, r, &m.config, &body, &n));
		return text_result(body, n, q->out);
	}
	set_text(out, "Name", name);
	set_text(out, "Digest", top.digest);
	TRY(describe(q, r, &top, &m, doc.digest, out));
	if (platforms)
		(void)json_object_set(out, "Platforms", platforms);
	*q->out = TAKE(out);
	return NULL;
}

struct err *transfer_inspect(const struct transfer *t, enum inspect_form form, json_t **out)
{
	struct question q = { .t = t, .ask = inspect_at, .out = out, .form = form };
	auto_free char *name = ref_familiar(t->ref);
	struct err *e = ask_places(&q);

	return e && e->kind != ERR_NOT_FOUND && e->kind != ERR_DENIED ? err_ctx(e, "%s", name) : e;
}

static struct err *tags_at(struct question *q, struct registry *r)
{
	auto_list char **tags = NULL;

	TRY(remote_tags(r, q->t->ref, &tags));
	*q->out = json_from_list(tags);
	return NULL;
}

struct err *transfer_tags(const struct transfer *t, json_t **out_list)
{
	struct question q = { .t = t, .ask = tags_at, .out = out_list };

	return ask_places(&q);
}
