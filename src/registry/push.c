/*
 * push.c - what a manifest names goes first, it last: nobody can pull what is not whole. Blobs by HEAD, else
 * POST and one streamed PUT; an upload that was cut begins again.
 */
#include "base/mem.h"
#include "base/own.h"
#include "codec/enc.h"
#include "codec/json.h"
#include "http/url.h"
#include "image/manifest.h"
#include "registry/client.h"
#include "registry/fault.h"
#include "registry/transfer.h"
#include <stdio.h>
#include <strings.h>

#define NESTING_MAX  3u
#define ATTEMPTS_MAX 4u

struct push {
	const struct transfer *t;
	struct registry *registry;
	char *repository; /* as the user knows it */
};
struct blobs { /* of one manifest, each once */
	struct push *p;
	const struct descriptor **list;
	size_t n;
	const struct descriptor *config; /* not shown, as docker does */
};
struct upload {
	struct push *p;
	const struct descriptor *d;
	struct report_line line;
	bool is_shown;
};

static void push_fini(struct push *p)
{
	free(p->repository);
	registry_close(p->registry);
}

static void blobs_fini(struct blobs *b)
{
	free(b->list);
}

static struct err *refusal(const struct push *p, const struct http_response *r, const char *what)
{
	struct err *e = fault_of(r);

	if (e->kind == ERR_DENIED)
		return err_ctx(e, "push access denied for %s (see hoy login)", p->repository);
	return err_ctx(e, "%s", what);
}

static void tell(struct upload *u, const char *status, uint64_t sent_bytes)
{
	if (u->is_shown)
		report_blob(u->p->t->report, &u->line, status, sent_bytes);
}

static void on_sent(void *ctx, uint64_t sent_bytes)
{
	tell(ctx, "Pushing", sent_bytes);
}

/* Where an upload goes: a reference to the request's URL; http of the same host behind an https registry is
 * meant as https. */
static struct err *upload_url(const char *asked, const struct http_response *answer, const char *digest,
			      char **out_url)
{
	const char *location = http_header(answer, "Location", 0);
	auto_url struct url base = { 0 }, there = { 0 };
	auto_free char *url = NULL, *fixed = NULL;
	auto_buf struct buf full = BUF(64u << 10);

	if (!location)
		return FAIL(ERR_INVALID, "the registry does not say where to upload to");
	TRY(url_resolve(asked, location, &url));
	TRY(url_parse(asked, &base));
	TRY(url_parse(url, &there));
	if (strcmp(base.scheme, "https") == 0 && strcmp(there.scheme, "http") == 0) {
		if (strcasecmp(base.host, there.host) != 0)
			return FAIL(ERR_INVALID, "refused to upload over http to %s", there.host);
		fixed = xasprintf("https://%s%s%s%s", base.host, base.has_port ? ":" : "",
				  base.has_port ? base.port : "",
				  url + strlen("http://") + strcspn(url + strlen("http://"), "/?"));
	}
	buf_str(&full, fixed ? fixed : url);
	buf_ch(&full, strchr(buf_text(&full), '?') ? '&' : '?');
	buf_str(&full, "digest=");
	enc_percent(sv_of(digest), &full);
	TRY(buf_check(&full, "upload location"));
	*out_url = buf_take(&full);
	return NULL;
}

/* *out_is_there: the registry had it already, or has it now. */
static struct err *start_upload(struct upload *u, struct http_client *http, char **out_url,
				bool *out_is_there)
{
	auto_response struct http_response answer = { 0 };
	auto_free char *url = registry_url(u->p->registry, "blobs/uploads/");

	TRY(registry_ask(u->p->registry, http,
			 (struct http_request){ .method = "POST", .url = url, .has_body = true, .bytes = "" },
			 &answer));
	*out_is_there = answer.status == 201;
	if (*out_is_there)
		return NULL;
	if (answer.status != 202)
		return refusal(u->p, &answer, "start an upload");
	return upload_url(url, &answer, u->d->digest, out_url);
}

/* One whole try. *out_error (owned): it failed in a way that may pass. */
static struct err *try_upload(struct upload *u, struct http_client *http, struct http_response *answer,
			      struct err **out_error)
{
	static const char *const headers[] = { "Content-Type: application/octet-stream", NULL };
	auto_free char *url = NULL;
	bool is_there = false;
	auto_fd int fd = -1;
	struct err *e;

	TRY(store_blob_open(u->p->t->store, u->d->digest, u->d->size, &fd));
	TRY(start_upload(u, http, &url, &is_there));
	if (is_there)
		return NULL;
	e = registry_call(u->p->registry, http,
			  (struct http_request){ .method = "PUT",
						 .url = url,
						 .headers = headers,
						 .has_body = true,
						 .body_fd = fd,
						 .body_size = u->d->size,
						 .on_sent = on_sent,
						 .ctx = u },
			  answer);
	if (e) {
		bool may_help = answer->cause == HTTP_CUT || answer->cause == HTTP_STALL;

		*out_error = may_help ? e : NULL;
		return may_help ? NULL : e;
	}
	if (answer->status == 201 || answer->status == 204)
		return NULL;
	e = refusal(u->p, answer, "upload");
	*out_error = fault_is_passing(answer->status) ? e : NULL;
	return *out_error ? NULL : e;
}

static struct err *upload(struct upload *u, struct http_client *http)
{
	for (unsigned attempt = 1;; attempt++) {
		auto_response struct http_response answer = { 0 };
		struct err *why = NULL;

		TRY(try_upload(u, http, &answer, &why));
		if (!why)
			return NULL;
		if (attempt == ATTEMPTS_MAX)
			return err_ctx(why, "given up after %u attempts", attempt);
		err_free(why);
		tell(u, "Retrying", 0);
		TRY(registry_pause(u->p->registry, attempt - 1, answer.status >= 400 ? &answer : NULL));
	}
}

static struct err *push_blob(struct push *p, struct http_client *http, const struct descriptor *d,
			     bool is_shown)
{
	struct upload u = {
		.p = p, .d = d, .is_shown = is_shown, .line = { .digest = d->digest, .total = d->size }
	};
	auto_response struct http_response answer = { 0 };
	auto_free char *what = xasprintf("blobs/%s", d->digest), *url = registry_url(p->registry, what);
	struct err *e;

	TRY(registry_ask(p->registry, http,
			 (struct http_request){ .method = "HEAD", .url = url, .redirects = 5 }, &answer));
	if (answer.status == 200) {
		tell(&u, "Layer already exists", d->size);
		return NULL;
	}
	if (answer.status != 404)
		return refusal(p, &answer, what);
	tell(&u, "Pushing", 0);
	e = upload(&u, http);
	if (e)
		return err_ctx(e, "blob %s", d->digest);
	tell(&u, "Pushed", d->size);
	return NULL;
}

static struct err *blob_job(void *ctx, struct http_client *http, size_t index)
{
	struct blobs *b = ctx;

	return push_blob(b->p, http, b->list[index], b->list[index] != b->config);
}

/* Layers that must not be distributed are described, never uploaded (image-spec layer.md). */
static bool is_foreign(const struct descriptor *d)
{
	return strstr(d->media_type, ".foreign.") || strstr(d->media_type, ".nondistributable.");
}

static struct err *push_blobs(struct push *p, const struct manifest *m)
{
	CLEANUP(blobs_fini) struct blobs b = { .p = p, .config = &m->config };

	b.list = xcalloc(m->n + 1, sizeof *b.list);
	for (size_t i = 0; i <= m->n; i++) {
		const struct descriptor *d = i < m->n ? &m->parts[i] : &m->config;
		size_t k = 0;

		while (k < b.n && strcmp(b.list[k]->digest, d->digest) != 0)
			k++;
		if (k == b.n && !is_foreign(d))
			b.list[b.n++] = d;
	}
	return registry_each(p->registry, b.n, blob_job, &b);
}

static struct err *put_manifest(struct push *p, struct http_client *http, const char *reference,
				struct sv body, const struct manifest *m)
{
	auto_free char *what = xasprintf("manifests/%s", reference), *url = registry_url(p->registry, what);
	auto_free char *type = xasprintf("Content-Type: %s", m->media_type);
	const char *const headers[] = { type, NULL };
	auto_response struct http_response answer = { 0 };
	char digest[DIGEST_MAX];
	const char *stored;

	TRY(registry_ask(p->registry, http,
			 (struct http_request){ .method = "PUT",
						.url = url,
						.headers = headers,
						.has_body = true,
						.bytes = body.p,
						.body_size = body.n },
			 &answer));
	if (answer.status < 200 || answer.status > 204)
		return refusal(p, &answer, what);
	digest_of(body.p, body.n, digest);
	stored = http_header(&answer, "Docker-Content-Digest", 0);
	if (stored && strcmp(stored, digest) != 0)
		return FAIL(ERR_CORRUPT, "the registry stored %s as %.100s instead of %s", what, stored,
			    digest);
	return NULL;
}

static struct err *is_remote(struct push *p, struct http_client *http, const char *digest, bool *out_is_there)
{
	auto_response struct http_response answer = { 0 };
	auto_free char *what = xasprintf("manifests/%s", digest), *url = registry_url(p->registry, what);

	TRY(registry_ask(p->registry, http,
			 (struct http_request){ .method = "HEAD", .url = url, .redirects = 5 }, &answer));
	*out_is_there = answer.status == 200;
	return NULL;
}

/* reference: a tag, or the digest itself. */
static struct err *push_document(struct push *p, struct http_client *http, const char *digest,
				 const char *reference, unsigned depth)
{
	auto_free char *body = NULL;
	CLEANUP(manifest_fini) struct manifest m = { 0 };
	size_t n = 0;

	if (depth > NESTING_MAX)
		return FAIL(ERR_INVALID, "more than %u indexes inside each other", NESTING_MAX);
	TRY(store_blob_read(p->t->store, digest, MANIFEST_MAX, &body, &n));
	TRY(manifest_parse(sv_from(body, n), NULL, &m));
	for (size_t i = 0; m.is_index && i < m.n; i++) {
		const char *part = m.parts[i].digest;
		bool is_there = false;

		if (store_has(p->t->store, part, NULL)) {
			TRY(push_document(p, http, part, part, depth + 1));
			continue;
		}
		TRY(is_remote(p, http, part, &is_there));
		if (!is_there)
			return FAIL(ERR_NOT_FOUND,
				    "index %s names manifest %s, which is neither here nor in %s (pull it "
				    "with --platform first)",
				    digest, part, p->repository);
	}
	if (!m.is_index)
		TRY(push_blobs(p, &m));
	return put_manifest(p, http, reference, sv_from(body, n), &m);
}

struct err *transfer_push(const struct transfer *t, const char *digest, struct transfer_result *out_result)
{
	CLEANUP(push_fini) struct push p = { .t = t };
	struct registry_conf conf = { .report = t->report,
				      .domain = t->ref->domain,
				      .repository = t->ref->path,
				      .actions = "pull,push",
				      .is_insecure = t->is_insecure };
	auto_http struct http_client *http = NULL;

	TRY(digest_check(sv_of(digest)));
	p.repository = ref_familiar_repo(t->ref);
	TRY(registry_open(&conf, &p.registry));
	http = registry_http(p.registry);
	TRY(push_document(&p, http, digest, t->ref->tag ? t->ref->tag : digest, 0));
	(void)snprintf(out_result->digest, sizeof out_result->digest, "%s", digest);
	(void)snprintf(out_result->manifest, sizeof out_result->manifest, "%s", digest);
	return NULL;
}
