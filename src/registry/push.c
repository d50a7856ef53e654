/*
 * push.c - what a manifest names goes first, it last: nobody can pull what is not whole. Layers made here are
 * plain tars; an image pushed under a tag gets them compressed and a manifest that says so. What is pushed by
 * digest, or inside an index, goes as it is.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "image/manifest.h"
#include "registry/client.h"
#include "registry/compress.h"
#include "registry/mounts.h"
#include "registry/transfer.h"
#include "registry/upload.h"
#include <stdio.h>

#define NESTING_MAX 3u
#define MOUNTS_MAX  8u /* repositories asked for in one token */

struct push {
	const struct transfer *t;
	struct places places;
	struct registry *registry;
	struct mounts *mounts;
	char *repository; /* as the user knows it */
};
struct document { /* a manifest or an index of the store */
	char *body;
	size_t n;
	struct manifest m;
};
struct image { /* one manifest on its way: its layers, then its config */
	struct push *p;
	const struct document *doc;
	bool may_compress;
	struct descriptor *sent; /* what goes for each; n + 1; owned with media types */
	size_t *jobs, n_jobs;    /* indexes: each digest once, nothing foreign */
};

static void push_fini(struct push *p)
{
	free(p->repository);
	mounts_free(p->mounts);
	registry_close(p->registry);
	places_fini(&p->places);
}

static void document_fini(struct document *d)
{
	manifest_fini(&d->m);
	free(d->body);
}

static void image_fini(struct image *i)
{
	for (size_t k = 0; i->sent && k <= i->doc->m.n; k++)
		free(i->sent[k].media_type);
	free(i->sent);
	free(i->jobs);
}

static struct err *load(const struct push *p, const char *digest, struct document *out_doc)
{
	TRY(store_blob_read(p->t->store, digest, MANIFEST_MAX, &out_doc->body, &out_doc->n));
	return manifest_parse(sv_from(out_doc->body, out_doc->n), NULL, &out_doc->m);
}

static const struct descriptor *part_of(const struct manifest *m, size_t index)
{
	return index < m->n ? &m->parts[index] : &m->config;
}

/* A plain layer whose compressed form is known need not be compressed when the registry has that. */
struct squeezed {
	struct image *image;
	const struct descriptor *plain;
	struct descriptor *sent;
	bool is_other; /* another version of the compressor gives other bytes */
};

static struct err *squeeze(struct squeezed *s, struct descriptor *out)
{
	const struct transfer *t = s->image->p->t;
	struct report_line line = { .digest = s->plain->digest, .total = s->plain->size };

	report_blob(t->report, &line, "Preparing", 0);
	return compress_layer(t->store, t->report, t->compress, s->plain, out);
}

static struct err *bring_squeezed(void *ctx)
{
	struct squeezed *s = ctx;
	struct descriptor made = { 0 };

	TRY(squeeze(s, &made));
	s->is_other = strcmp(made.digest, s->sent->digest) != 0;
	free(s->sent->media_type);
	*s->sent = made;
	return s->is_other ? FAIL(ERR_CONFLICT, "it was compressed by another version") : NULL;
}

static struct err *upload_squeezed(struct upload_conf *conf, struct squeezed *s, struct http_client *http)
{
	const struct descriptor known = *s->sent;
	struct err *e;

	conf->d = &known; /* bring_squeezed may change what it is made of */
	conf->bring = bring_squeezed;
	conf->ctx = s;
	e = upload_blob(conf, http);
	if (!e || !s->is_other)
		return e;
	err_free(e);
	conf->d = s->sent;
	conf->bring = NULL;
	return upload_blob(conf, http);
}

static struct err *blob_job(void *ctx, struct http_client *http, size_t index)
{
	struct image *i = ctx;
	size_t at = i->jobs[index];
	const struct descriptor *plain = part_of(&i->doc->m, at);
	struct descriptor *sent = &i->sent[at];
	struct upload_conf conf = { .registry = i->p->registry,
				    .store = i->p->t->store,
				    .repository = i->p->repository,
				    .d = sent,
				    .shown_digest = at < i->doc->m.n ? plain->digest : NULL }; /* as docker */
	struct squeezed squeezed = { .image = i, .plain = plain, .sent = sent };
	bool is_squeezed = i->may_compress && compress_applies(plain->media_type);

	if (is_squeezed && compress_known(conf.store, i->p->t->compress, plain, sent)) {
		conf.mount_from = mounts_find(i->p->mounts, sent->digest);
		return upload_squeezed(&conf, &squeezed, http);
	}
	if (is_squeezed) {
		TRY(squeeze(&squeezed, sent));
	} else {
		*sent = *plain;
		sent->media_type = xstrdup(plain->media_type);
	}
	conf.mount_from = mounts_find(i->p->mounts, sent->digest);
	return upload_blob(&conf, http);
}

/* Layers that must not be distributed are described, never uploaded (image-spec layer.md). */
static bool is_foreign(const struct descriptor *d)
{
	return strstr(d->media_type, ".foreign.") || strstr(d->media_type, ".nondistributable.");
}

/* The first part with the same digest. */
static size_t first_of(const struct manifest *m, size_t index)
{
	size_t k = 0;

	while (strcmp(part_of(m, k)->digest, part_of(m, index)->digest) != 0)
		k++;
	return k;
}

static struct err *push_blobs(struct image *i)
{
	const struct manifest *m = &i->doc->m;
	uint64_t n_bytes = 0;

	i->sent = xcalloc(m->n + 1, sizeof *i->sent);
	i->jobs = xcalloc(m->n + 1, sizeof *i->jobs);
	for (size_t k = 0; k <= m->n; k++) {
		if (first_of(m, k) != k || is_foreign(part_of(m, k)))
			continue;
		i->jobs[i->n_jobs++] = k;
		n_bytes += part_of(m, k)->size;
	}
	TRY(registry_each(i->p->registry, i->n_jobs, n_bytes, blob_job, i));
	for (size_t k = 0; k <= m->n; k++) {
		const struct descriptor *same = &i->sent[first_of(m, k)];

		if (i->sent[k].media_type)
			continue;
		i->sent[k] = same->media_type ? *same : *part_of(m, k);
		i->sent[k].media_type = xstrdup(i->sent[k].media_type);
	}
	return NULL;
}

static struct err *is_remote(struct push *p, const char *digest, bool *out_is_there)
{
	auto_response struct http_response answer = { 0 };
	auto_free char *what = xasprintf("manifests/%s", digest), *url = registry_url(p->registry, what);

	TRY(registry_ask(p->registry, NULL,
			 (struct http_request){ .method = "HEAD", .url = url, .redirects = 5 }, &answer));
	*out_is_there = answer.status == 200;
	return NULL;
}

static bool is_changed(const struct image *i)
{
	for (size_t k = 0; k < i->doc->m.n; k++)
		if (strcmp(i->sent[k].digest, i->doc->m.parts[k].digest) != 0)
			return true;
	return false;
}

/* What is damaged here can be had again from there. */
static void note_source(const struct push *p, const struct manifest *m, const char *digest)
{
	auto_free char *from = xasprintf("%s/%s@%s", p->t->ref->domain, p->t->ref->path, digest);

	for (size_t k = 0; k <= m->n; k++)
		store_note_set(p->t->store, part_of(m, k)->digest, STORE_NOTE_FROM, from);
}

static struct err *push_image(struct push *p, const struct document *doc, const char *reference,
			      bool may_compress, struct transfer_result *out)
{
	CLEANUP(image_fini) struct image i = { .p = p, .doc = doc, .may_compress = may_compress };
	auto_buf struct buf text = BUF(MANIFEST_MAX);

	TRY(push_blobs(&i));
	if (is_changed(&i)) {
		compress_rewrite(doc->m.doc, doc->m.parts, i.sent, doc->m.n, &text);
	} else {
		buf_add(&text, doc->body, doc->n);
	}
	TRY(buf_check(&text, "manifest"));
	TRY(store_put(p->t->store, text.data, text.n, out->digest));
	memcpy(out->manifest, out->digest, DIGEST_MAX);
	out->size_bytes = text.n;
	TRY(upload_manifest(p->registry, p->repository, reference, sv_from(text.data, text.n),
			    doc->m.media_type));
	note_source(p, &doc->m, out->digest);
	return NULL;
}

static struct err *push_document(struct push *p, const char *digest, unsigned depth);

static struct err *push_parts(struct push *p, const struct manifest *m, unsigned depth)
{
	for (size_t i = 0; i < m->n; i++) {
		const char *part = m->parts[i].digest;
		bool is_there = false;

		if (store_has(p->t->store, part, NULL)) {
			TRY(push_document(p, part, depth + 1));
			continue;
		}
		TRY(is_remote(p, part, &is_there));
		if (!is_there)
			return FAIL(
			    ERR_NOT_FOUND,
			    "the index names manifest %s, which is neither here nor in %s (pull it with "
			    "--platform first)",
			    part, p->repository);
	}
	return NULL;
}

/* A part of an index, under its own digest. */
static struct err *push_document(struct push *p, const char *digest, unsigned depth)
{
	CLEANUP(document_fini) struct document doc = { 0 };
	struct transfer_result sent;

	if (depth > NESTING_MAX)
		return FAIL(ERR_INVALID, "more than %u indexes inside each other", NESTING_MAX);
	TRY(load(p, digest, &doc));
	if (!doc.m.is_index)
		return push_image(p, &doc, digest, false, &sent);
	TRY(push_parts(p, &doc.m, depth));
	return upload_manifest(p->registry, p->repository, digest, sv_from(doc.body, doc.n),
			       doc.m.media_type);
}

/* Repositories we shall mount from: the token must allow pulling there. Owned list. */
static char **mount_scopes(const struct push *p, const struct manifest *m)
{
	char **list = NULL;

	for (size_t i = 0; !m->is_index && i < m->n; i++) {
		const char *from = mounts_find(p->mounts, m->parts[i].digest);
		size_t k = 0;

		while (from && list && list[k] && strcmp(list[k], from) != 0)
			k++;
		if (from && (!list || !list[k]) && k < MOUNTS_MAX)
			text_list_add(&list, from);
	}
	return list;
}

struct err *transfer_push(const struct transfer *t, const char *digest, struct transfer_result *out_result)
{
	const char *reference = t->ref->tag ? t->ref->tag : digest;
	CLEANUP(push_fini) struct push p = { .t = t };
	CLEANUP(document_fini) struct document doc = { 0 };
	auto_list char **from = NULL;
	struct registry_conf conf = {
		.report = t->report, .actions = "pull,push", .patience = t->patience, .daemon = t->daemon, .access = &t->access
	};

	TRY(digest_check(sv_of(digest)));
	p.repository = ref_familiar_repo(t->ref);
	TRY(load(&p, digest, &doc));
	TRY(mounts_load(t->root, t->store, t->ref->domain, t->ref->path, &p.mounts));
	from = mount_scopes(&p, &doc.m);
	conf.pull_from = from;
	TRY(places_find(t->ref, t->daemon, &t->access, &p.places));
	TRY(places_for_push(&p.places, t->ref->domain, &conf.place));
	TRY(registry_open(&conf, &p.registry));
	if (!doc.m.is_index)
		return push_image(&p, &doc, reference, t->ref->tag != NULL, out_result);
	TRY(push_parts(&p, &doc.m, 0));
	TRY(upload_manifest(p.registry, p.repository, reference, sv_from(doc.body, doc.n), doc.m.media_type));
	(void)snprintf(out_result->digest, DIGEST_MAX, "%s", digest);
	(void)snprintf(out_result->manifest, DIGEST_MAX, "%s", digest);
	out_result->size_bytes = doc.n;
	return NULL;
}
