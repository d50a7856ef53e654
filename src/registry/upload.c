/*
 * upload.c - an upload that was cut begins again: what a registry keeps of a broken one differs too much to
 * rely on.
 */
#include "registry/upload.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/enc.h"
#include "http/url.h"
#include "registry/fault.h"
#include <stdio.h>
#include <strings.h>

#define ATTEMPTS_MAX 4u

struct upload {
	const struct upload_conf *conf;
	struct report_line line;
	char mounted[300]; /* status, when it was */
};

struct err *upload_refusal(const char *repository, const struct http_response *r, const char *what)
{
	struct err *e = fault_of(r);

	if (e->kind == ERR_DENIED)
		return err_ctx(e, "push access denied for %s (see hoy login)", repository);
	return err_ctx(e, "%s", what);
}

static void tell(struct upload *u, const char *status, uint64_t sent_bytes)
{
	if (u->conf->shown_digest)
		report_blob(registry_report(u->conf->registry), &u->line, status, sent_bytes);
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

/* A mount needs no upload; a registry that does not want it starts an ordinary one (202). */
static char *start_what(const struct upload_conf *c)
{
	auto_buf struct buf b = BUF(4096);

	buf_str(&b, "blobs/uploads/");
	if (c->mount_from) {
		buf_str(&b, "?mount=");
		enc_percent(sv_of(c->d->digest), &b);
		buf_str(&b, "&from=");
		enc_percent(sv_of(c->mount_from), &b);
	}
	return buf_take(&b);
}

/* *out_url: where to, owned; NULL: the registry has the blob now. */
static struct err *start_upload(struct upload *u, struct http_client *http, char **out_url)
{
	const struct upload_conf *c = u->conf;
	auto_response struct http_response answer = { 0 };
	auto_free char *what = start_what(c), *url = registry_url(c->registry, what);

	TRY(registry_ask(c->registry, http,
			 (struct http_request){ .method = "POST", .url = url, .has_body = true, .bytes = "" },
			 &answer));
	if (answer.status == 201) {
		if (c->mount_from)
			(void)snprintf(u->mounted, sizeof u->mounted, "Mounted from %s", c->mount_from);
		*out_url = NULL;
		return NULL;
	}
	if (answer.status != 202)
		return upload_refusal(c->repository, &answer, "start an upload");
	return upload_url(url, &answer, c->d->digest, out_url);
}

/* The blob, which may have to come first. */
static struct err *open_bytes(const struct upload_conf *c, int *out_fd)
{
	if (c->bring && !store_has(c->store, c->d->digest, NULL))
		TRY(c->bring(c->ctx));
	return store_blob_open(c->store, c->d->digest, c->d->size, out_fd);
}

/* One whole try. *out_error (owned): it failed in a way that may pass. */
static struct err *try_upload(struct upload *u, struct http_client *http, struct http_response *answer,
			      struct err **out_error)
{
	static const char *const headers[] = { "Content-Type: application/octet-stream", NULL };
	const struct upload_conf *c = u->conf;
	auto_free char *url = NULL;
	auto_fd int fd = -1;
	struct err *e;

	if (!c->mount_from)
		TRY(open_bytes(c, &fd));
	TRY(start_upload(u, http, &url));
	if (!url)
		return NULL;
	if (fd < 0)
		TRY(open_bytes(c, &fd));
	e = registry_call(c->registry, http,
			  (struct http_request){ .method = "PUT",
						 .url = url,
						 .headers = headers,
						 .has_body = true,
						 .body_fd = fd,
						 .body_size = c->d->size,
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
	e = upload_refusal(c->repository, answer, "upload");
	*out_error = fault_is_passing(answer) ? e : NULL;
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
		TRY(registry_pause(u->conf->registry, attempt - 1, answer.status >= 400 ? &answer : NULL));
	}
}

struct err *upload_blob(const struct upload_conf *c, struct http_client *http)
{
	struct upload u = { .conf = c, .line = { .digest = c->shown_digest, .total = c->d->size } };
	auto_response struct http_response answer = { 0 };
	auto_free char *what = xasprintf("blobs/%s", c->d->digest), *url = registry_url(c->registry, what);
	struct err *e;

	TRY(registry_ask(c->registry, http,
			 (struct http_request){ .method = "HEAD", .url = url, .redirects = 5 }, &answer));
	if (answer.status == 200) {
		tell(&u, "Layer already exists", c->d->size);
		return NULL;
	}
	if (answer.status != 404)
		return upload_refusal(c->repository, &answer, what);
	tell(&u, "Pushing", 0);
	e = upload(&u, http);
	if (e) {
		/* perhaps that is why */
		struct err *damage =
		    e->kind == ERR_CANCELLED ? NULL : store_blob_verify(c->store, c->d->digest);

		if (damage)
			err_free(e);
		return err_ctx(damage ? damage : e, "blob %s", c->d->digest);
	}
	tell(&u, u.mounted[0] ? u.mounted : "Pushed", c->d->size);
	return NULL;
}

struct err *upload_manifest(struct registry *r, const char *repository, const char *reference, struct sv body,
			    const char *media_type)
{
	auto_free char *what = xasprintf("manifests/%s", reference), *url = registry_url(r, what);
	auto_free char *type = xasprintf("Content-Type: %s", media_type);
	const char *const headers[] = { type, NULL };
	auto_response struct http_response answer = { 0 };
	char digest[DIGEST_MAX];
	const char *stored;

	TRY(registry_ask(r, NULL,
			 (struct http_request){ .method = "PUT",
						.url = url,
						.headers = headers,
						.has_body = true,
						.bytes = body.p,
						.body_size = body.n },
			 &answer));
	if (answer.status < 200 || answer.status > 204)
		return upload_refusal(repository, &answer, what);
	digest_of(body.p, body.n, digest);
	stored = http_header(&answer, "Docker-Content-Digest", 0);
	if (stored && strcmp(stored, digest) != 0)
		return FAIL(ERR_CORRUPT, "the registry stored %s as %.100s instead of %s", what, stored,
			    digest);
	return NULL;
}
