/*
 * pull.c - reference -> (index ->) manifest -> config -> layers in parallel -> the manifests themselves,
 * last: a manifest in the store has its blobs. The answer's own SHA-256 is the identity of what a tag names;
 * headers are hints for what to skip.
 */
#include "base/log.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/json.h"
#include "image/config.h"
#include "image/manifest.h"
#include "registry/client.h"
#include "registry/download.h"
#include "registry/remote.h"
#include "registry/transfer.h"
#include "sys/sys.h"
#include <stdio.h>

#define NESTING_MAX 3 /* an index in an index in an index */

struct document { /* a manifest or an index */
	char digest[DIGEST_MAX];
	char *body;
	size_t n;
	struct manifest m;
};

struct layer {
	size_t at; /* index into parts */
	struct download *download;
	size_t first_job;
};
struct pull {
	const struct transfer *t;
	struct registry *registry;
	const char *want; /* digest of what the reference is; NULL: as the tag says */
	char *name;       /* as the user knows it, "x:latest" */
	char *repository;
	struct document chain[NESTING_MAX + 1]; /* what the reference is, …, the manifest of our platform */
	size_t n_chain;
	struct layer *layers; /* each digest once */
	size_t n_layers, n_jobs;
	char **diff_ids; /* of all parts; NULL for an artifact */
	uint64_t blob_bytes;
};

static void pull_fini(struct pull *p)
{
	for (size_t i = 0; i < p->n_chain; i++) {
		manifest_fini(&p->chain[i].m);
		free(p->chain[i].body);
	}
	for (size_t i = 0; i < p->n_layers; i++)
		download_free(p->layers[i].download);
	free(p->layers);
	text_list_free(p->diff_ids);
	free(p->name);
	free(p->repository);
	registry_close(p->registry);
}

/* A manifest we have, if it is whole. A damaged one is removed, and fetched. */
static struct err *from_store(const struct pull *p, const char *digest, struct document *doc, bool *out_found)
{
	struct err *e;

	*out_found = false;
	if (!store_has(p->t->store, digest, NULL))
		return NULL;
	e = store_blob_read(p->t->store, digest, MANIFEST_MAX, &doc->body, &doc->n);
	if (!e) {
		(void)snprintf(doc->digest, sizeof doc->digest, "%s", digest);
		*out_found = true;
		return NULL;
	}
	if (e->kind != ERR_CORRUPT)
		return e;
	err_free(e);
	return store_blob_delete(p->t->store, digest);
}

/* HEAD costs nothing at registries that count: what the tag names may be here already. */
static struct err *from_store_by_tag(const struct pull *p, const char *url, struct document *doc,
				     bool *out_found)
{
	auto_response struct http_response answer = { 0 };
	const char *digest;
	struct err *e;

	*out_found = false;
	e = registry_call(
	    p->registry, NULL,
	    (struct http_request){ .method = "HEAD", .url = url, .headers = remote_accept, .redirects = 5 },
	    &answer);
	if (e && answer.cause == HTTP_CUT) { /* GET asks again, and tells why */
		err_free(e);
		return NULL;
	}
	if (e)
		return e;
	digest = http_header(&answer, "Docker-Content-Digest", 0);
	if (answer.status != 200 || !digest || !digest_is_valid(sv_of(digest)))
		return NULL;
	return from_store(p, digest, doc, out_found);
}

/* want: by digest, and of this size unless 0; NULL: what a tag names. */
static struct err *fetch_document(struct pull *p, const char *reference, const char *want, uint64_t want_size)
{
	struct document *doc = &p->chain[p->n_chain];
	auto_remote_doc struct remote_doc got = { 0 };
	auto_free char *what = xasprintf("manifests/%s", reference), *url = registry_url(p->registry, what);
	const char *type = NULL;
	bool is_here = false;
	struct err *e;

	if (want)
		TRY(from_store(p, want, doc, &is_here));
	else
		TRY(from_store_by_tag(p, url, doc, &is_here));
	if (!is_here) {
		TRY(remote_get(p->registry, p->t->ref, reference, want, &got));
		type = got.media_type;
		doc->n = got.n;
		doc->body = TAKE(got.body);
		memcpy(doc->digest, got.digest, DIGEST_MAX);
	}
	p->n_chain++;
	if (want_size && want_size != doc->n)
		return FAIL(ERR_CORRUPT, "manifest %s: size mismatch: wanted %llu bytes, got %zu", reference,
			    (unsigned long long)want_size, doc->n);
	e = manifest_parse(sv_from(doc->body, doc->n), type, &doc->m);
	return e ? err_ctx(e, "manifest %s of %s", reference, p->repository) : NULL;
}

/* Down from what the reference names to the manifest of the platform. */
static struct err *resolve(struct pull *p)
{
	const struct ref *ref = p->t->ref;
	struct platform host;
	struct err *e;

	platform_host(&host);
	TRY(fetch_document(p, p->want ? p->want : ref->tag, p->want, 0));
	while (p->chain[p->n_chain - 1].m.is_index) {
		const struct descriptor *part = NULL;

		if (p->n_chain > NESTING_MAX)
			return FAIL(ERR_INVALID, "%s: more than %d indexes inside each other", p->name,
				    NESTING_MAX);
		e = manifest_choose(&p->chain[p->n_chain - 1].m, p->t->platform ? p->t->platform : &host,
				    &part);
		if (e)
			return err_ctx(e, "%s", p->name);
		TRY(fetch_document(p, part->digest, part->digest, part->size));
	}
	return NULL;
}

/* The body of the config. One that is here and damaged is removed, and fetched. */
static struct err *config_body(struct pull *p, const struct descriptor *d, char **out_body, size_t *out_n)
{
	struct err *e = store_blob_read(p->t->store, d->digest, MANIFEST_MAX, out_body, out_n);

	if (!e || e->kind != ERR_CORRUPT)
		return e;
	err_free(e);
	TRY(store_blob_delete(p->t->store, d->digest));
	TRY(download_blob(p->registry, NULL, p->t->store, d));
	return store_blob_read(p->t->store, d->digest, MANIFEST_MAX, out_body, out_n);
}

/*
 * The config comes first: an image for another platform than was asked for is refused before its layers
 * travel, and the caller learns which layer is which. An artifact says nothing of either.
 */
static struct err *fetch_config(struct pull *p)
{
	const struct manifest *m = &p->chain[p->n_chain - 1].m;
	const struct platform *want = p->t->platform;
	auto_free char *body = NULL;
	auto_json json_t *doc = NULL;
	size_t n = 0;
	char text[96];

	if (m->config.size > MANIFEST_MAX)
		return FAIL(ERR_LIMIT, "%s: config of %llu bytes, at most %u", p->name,
			    (unsigned long long)m->config.size, MANIFEST_MAX);
	TRY(download_blob(p->registry, NULL, p->t->store, &m->config));
	if (strcmp(m->config.media_type, MEDIA_CONFIG) != 0 &&
	    strcmp(m->config.media_type, MEDIA_DOCKER_CONFIG) != 0)
		return NULL;
	TRY(config_body(p, &m->config, &body, &n));
	TRY(config_parse(sv_from(body, n), (long)m->n, &doc));
	if (want && platform_config_rank(want, json_str_at(doc, "os", ""), json_str_at(doc, "architecture", ""),
					 json_str_at(doc, "variant", "")) < 0)
		return FAIL(
		    ERR_NOT_FOUND,
		    "image with reference %s was found but does not provide the specified platform (%s)",
		    p->name, platform_text(want, text));
	return config_diff_ids(doc, &p->diff_ids);
}

/* Each digest once. */
static void list_layers(struct pull *p)
{
	const struct manifest *m = &p->chain[p->n_chain - 1].m;

	p->layers = xcalloc(m->n + 1, sizeof *p->layers);
	for (size_t i = 0; i < m->n; i++) {
		const struct download_conf conf = {
			.registry = p->registry, .store = p->t->store, .d = &m->parts[i], .is_shown = true
		};
		size_t k = 0;

		while (k < p->n_layers && strcmp(m->parts[p->layers[k].at].digest, m->parts[i].digest) != 0)
			k++;
		if (k < p->n_layers)
			continue;
		p->layers[p->n_layers++] =
		    (struct layer){ .at = i, .download = download_new(&conf), .first_job = p->n_jobs };
		p->n_jobs += download_jobs(p->layers[k].download);
	}
}

/* The layer that job index is of. */
static const struct layer *layer_of_job(const struct pull *p, size_t index)
{
	size_t low = 0, high = p->n_layers;

	while (high - low > 1) {
		size_t middle = low + (high - low) / 2;

		if (p->layers[middle].first_job <= index)
			low = middle;
		else
			high = middle;
	}
	return &p->layers[low];
}

static struct err *job(void *ctx, struct http_client *http, size_t index)
{
	struct pull *p = ctx;
	const struct layer *l = layer_of_job(p, index);
	bool is_done;

	TRY(download_job(l->download, http, index - l->first_job, &is_done));
	if (is_done && p->diff_ids)
		report_layer(p->t->report, &p->chain[p->n_chain - 1].m.parts[l->at], p->diff_ids[l->at]);
	return NULL;
}

/* Rather now than after an hour. What the layers take when they are unpacked is not known yet. */
static struct err *check_room(const struct pull *p)
{
	char want[16], have[16];
	uint64_t missing = 0, room = 0;

	for (size_t i = 0; i < p->n_layers; i++)
		if (__builtin_add_overflow(missing, download_missing(p->layers[i].download), &missing))
			missing = UINT64_MAX;
	if (sys_room(store_root_fd(p->t->store), &room, NULL) < 0 || missing <= room) /* who cannot tell may have enough */
		return NULL;
	return FAIL(
	    ERR_LIMIT,
	    "No space left on device for %s: its layers need %s more and %s has %s (hoy image prune, hoy "
	    "system df)",
	    p->name, num_human(missing, want), p->t->root, num_human(room, have));
}

static struct err *fetch_blobs(struct pull *p)
{
	const struct manifest *m = &p->chain[p->n_chain - 1].m;
	uint64_t layer_bytes = 0;

	list_layers(p);
	for (size_t i = 0; i < p->n_layers; i++) {
		const struct descriptor *d = &m->parts[p->layers[i].at];
		struct report_line line = { .digest = d->digest, .total = d->size };

		layer_bytes += d->size;
		report_blob(p->t->report, &line, "Pulling fs layer", 0);
	}
	p->blob_bytes = m->config.size + layer_bytes;
	TRY(fetch_config(p));
	for (size_t i = 0; p->diff_ids && i < p->n_layers; i++)
		download_announce(p->layers[i].download, p->diff_ids[p->layers[i].at]);
	TRY(check_room(p));
	return registry_each(p->registry, p->n_jobs, layer_bytes, job, p);
}

/* A damaged blob can be had again from there, also when the image has lost its name. */
static void note_source(const struct pull *p, const struct document *last)
{
	auto_free char *from = xasprintf("%s/%s@%s", p->t->ref->domain, p->t->ref->path, p->chain[0].digest);

	store_note_set(p->t->store, last->m.config.digest, STORE_NOTE_FROM, from);
	for (size_t i = 0; i < last->m.n; i++)
		store_note_set(p->t->store, last->m.parts[i].digest, STORE_NOTE_FROM, from);
}

static struct err *run(struct pull *p, struct transfer_result *out_result)
{
	const struct document *last;

	TRY(resolve(p));
	TRY(fetch_blobs(p));
	for (size_t i = p->n_chain; i-- > 0;)
		TRY(store_put(p->t->store, p->chain[i].body, p->chain[i].n, p->chain[i].digest));
	last = &p->chain[p->n_chain - 1];
	note_source(p, last);
	memcpy(out_result->digest, p->chain[0].digest, DIGEST_MAX);
	memcpy(out_result->manifest, last->digest, DIGEST_MAX);
	out_result->size_bytes = last->n + p->blob_bytes;
	return NULL;
}

/* digest: what the tag is, when somebody else has said so; else NULL. */
static struct err *pull_from(const struct transfer *t, const struct place *place, const char *digest,
			     struct transfer_result *out_result)
{
	CLEANUP(pull_fini) struct pull p = { .t = t, .want = digest ? digest : t->ref->digest };
	struct registry_conf conf = { .report = t->report,
				      .place = place,
				      .actions = "pull",
				      .patience = t->patience,
				      .daemon = t->daemon,
				      .access = &t->access };

	p.name = ref_familiar(t->ref);
	p.repository = ref_familiar_repo(t->ref);
	TRY(registry_open(&conf, &p.registry));
	return run(&p, out_result);
}

static struct err *resolve_at(const struct transfer *t, const struct place *place, char **out_digest)
{
	auto_registry struct registry *r = NULL;
	struct registry_conf conf = { .report = t->report,
				      .place = place,
				      .actions = "pull",
				      .patience = t->patience,
				      .daemon = t->daemon,
				      .access = &t->access };
	char digest[DIGEST_MAX];

	TRY(registry_open(&conf, &r));
	TRY(remote_digest(r, t->ref, t->ref->tag, digest));
	*out_digest = xstrdup(digest);
	return NULL;
}

/* A mirror that must not say what a tag is gets its digest told by the others. Owned; NULL: nobody needs it.
 */
static struct err *digest_for_mirrors(const struct transfer *t, const struct places *places,
				      char **out_digest)
{
	bool is_needed = false;
	struct err *e = NULL;

	for (size_t i = 0; i < places->v.n; i++)
		is_needed = is_needed || (places->v.p[i].can_pull && !places->v.p[i].can_resolve);
	for (size_t i = 0; is_needed && !t->ref->digest && i < places->v.n; i++) {
		if (!places->v.p[i].can_resolve)
			continue;
		err_free(e);
		e = resolve_at(t, &places->v.p[i], out_digest);
		if (!e || e->kind == ERR_CANCELLED)
			return e;
	}
	return e;
}

/* What one place lacks another may have; our own troubles are the same everywhere. */
static bool may_others_help(const struct err *e)
{
	return e->kind != ERR_CANCELLED &&
	       !(e->kind == ERR_LIMIT && (e->os || strstr(e->msg, "No space left")));
}

/* The registry's own word first, then what its mirrors said. Consumes e. */
static struct err *with_mirrors(struct err *e, const char *mirrors)
{
	struct err *both = FAIL(e->kind, "%s (before: %s)", e->msg, mirrors);

	err_free(e);
	return both;
}

struct err *transfer_pull(const struct transfer *t, struct transfer_result *out_result)
{
	auto_places struct places places = { 0 };
	auto_free char *digest = NULL;
	auto_buf struct buf mirrors = BUF(4096);

	TRY(places_find(t->ref, t->daemon, &t->access, &places));
	TRY(digest_for_mirrors(t, &places, &digest));
	for (size_t i = 0; i < places.v.n; i++) {
		const struct place *place = &places.v.p[i];
		struct err *e;

		if (!place->can_pull)
			continue;
		e = pull_from(t, place, digest, out_result);
		if (!e || !may_others_help(e))
			return e;
		if (i + 1 == places.v.n)
			return mirrors.n ? with_mirrors(e, buf_text(&mirrors)) : e;
		buf_fmt(&mirrors, "%smirror %s: %.300s", mirrors.n ? "; " : "", place->host, e->msg);
		log_debug("mirror %s: %s", place->host, e->msg);
		err_free(e);
	}
	return FAIL(ERR_DENIED, "hosts.toml of %s names nobody to pull from (capabilities)", t->ref->domain);
}
