/*
 * upload.c - one PUT of the whole blob is what every registry takes. When that is cut, the registry is asked what it
 * has of it (GET of the session), and the rest follows in chunks; one that kept nothing (docker-registry 2 gives a
 * session up when a request in it is cut) gets it anew, in chunks. Where a session of a large blob is, is noted in
 * ROOT/tmp/upload-<hex>, so that the next process goes on with it.
 */
#include "registry/upload.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "codec/enc.h"
#include "http/url.h"
#include "registry/fault.h"
#include "registry/referrers.h"
#include "state/record.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>

#define ATTEMPTS_MAX    4u /* without progress */
#define CHUNK_BYTES     (8u << 20)
#define CHUNK_MAX_BYTES (1u << 30) /* whatever a registry wants at least */
#define NOTED_BYTES     (1u << 20) /* smaller blobs are not worth a note */
#define LOCATION_MAX    (64u << 10)

struct upload {
	const struct upload_conf *conf;
	struct report_line line;
	char mounted[300]; /* status, when it was */
	char note[64];     /* name of the session's record; "": none */
	char *location;    /* of the session; owned; NULL: none */
	uint64_t have;     /* bytes of the blob that the registry has of this session */
	uint64_t most;     /* that it ever had */
	uint64_t chunk_bytes;
	bool in_chunks;
};

static void upload_fini(struct upload *u)
{
	free(u->location);
}

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
	struct upload *u = ctx;

	tell(u, "Pushing", u->have + sent_bytes);
}

/* ---- where a session is ---- */

static void note_name(struct upload *u)
{
	auto_free char *root = registry_root_url(u->conf->registry), *text = NULL;
	char digest[DIGEST_MAX];

	if (u->conf->d->size < NOTED_BYTES)
		return;
	text = xasprintf("%s %s %s", root, registry_place(u->conf->registry)->repository, u->conf->d->digest);
	digest_of(text, strlen(text), digest);
	(void)snprintf(u->note, sizeof u->note, "upload-%.40s", digest_hex(digest));
}

/* Only hints: what cannot be written or read is no session. */
static void note_put(const struct upload *u)
{
	auto_fd int fd =
	    u->note[0] ? sys_open_beneath(store_root_fd(u->conf->store), "tmp", O_RDONLY | O_DIRECTORY, 0)
		       : -1;

	if (fd >= 0 && u->location)
		err_free(record_write_volatile(fd, u->note, u->location, strlen(u->location)));
	else if (fd >= 0)
		(void)sys_unlink(fd, u->note);
}

static void note_get(struct upload *u)
{
	auto_fd int fd =
	    u->note[0] ? sys_open_beneath(store_root_fd(u->conf->store), "tmp", O_RDONLY | O_DIRECTORY, 0)
		       : -1;

	if (fd >= 0)
		err_free(record_read(fd, u->note, &u->location, NULL));
}

static void forget(struct upload *u)
{
	free(TAKE(u->location));
	u->have = 0;
	note_put(u);
}

/* Where the session goes on: a reference to the request's URL; http of the same host behind an https registry is
 * meant as https. Absent: *out_url stays. */
static struct err *take_location(struct upload *u, const char *asked, const struct http_response *answer)
{
	const char *location = http_header(answer, "Location", 0);
	auto_url struct url base = { 0 }, there = { 0 };
	auto_free char *url = NULL;

	if (!location)
		return u->location ? NULL : FAIL(ERR_INVALID, "the registry does not say where to upload to");
	if (strlen(location) > LOCATION_MAX)
		return FAIL(ERR_LIMIT, "the registry's upload location is too long");
	TRY(url_resolve(asked, location, &url));
	TRY(url_parse(asked, &base));
	TRY(url_parse(url, &there));
	if (strcmp(base.scheme, "https") == 0 && strcmp(there.scheme, "http") == 0) {
		const char *path = url + strlen("http://") + strcspn(url + strlen("http://"), "/?");
		char *fixed;

		if (strcasecmp(base.host, there.host) != 0)
			return FAIL(ERR_INVALID, "refused to upload over http to %s", there.host);
		fixed = xasprintf("https://%s%s%s%s", base.host, base.has_port ? ":" : "",
				  base.has_port ? base.port : "", path);
		free(url);
		url = fixed;
	}
	free(u->location);
	u->location = TAKE(url);
	return NULL;
}

static char *closing_url(const struct upload *u)
{
	auto_buf struct buf full = BUF(2 * LOCATION_MAX);

	buf_str(&full, u->location);
	buf_ch(&full, strchr(u->location, '?') ? '&' : '?');
	buf_str(&full, "digest=");
	enc_percent(sv_of(u->conf->d->digest), &full);
	return buf_take(&full);
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

/* "0-99": 100 bytes; "0-0" is what some say of none. */
static uint64_t bytes_of_range(const struct http_response *answer)
{
	const char *text = http_header(answer, "Range", 0);
	uint64_t last = 0;
	struct sv rest;
	struct err *e;

	if (!text)
		return 0;
	rest = sv_of(text);
	if (sv_starts(rest, SV("bytes=")))
		rest = sv_skip(rest, strlen("bytes="));
	if (!sv_is(sv_cut(&rest, '-'), "0"))
		return 0;
	e = num_parse(rest, 10, 0, INT64_MAX - 1, &last);
	err_free(e);
	return !e && last ? last + 1 : 0;
}

/* The session that was open before: what the registry has of it. None, or one that is gone: u->location NULL. */
static struct err *ask_session(struct upload *u, struct http_client *http)
{
	auto_response struct http_response answer = { 0 };
	auto_free char *asked = u->location ? xstrdup(u->location) : NULL;
	struct err *e;

	if (!asked)
		return NULL;
	e = registry_ask(u->conf->registry, http,
			 (struct http_request){ .method = "GET", .url = asked, .max_body = 65536 }, &answer);
	if (e && e->kind == ERR_CANCELLED)
		return e;
	if (e || answer.status != 204 || bytes_of_range(&answer) > u->conf->d->size) {
		forget(u);
		err_free(e);
		return NULL;
	}
	u->have = bytes_of_range(&answer);
	if (!u->have) { /* nothing, or who knows what */
		forget(u);
		return NULL;
	}
	return take_location(u, asked, &answer);
}

/* *out_done: the registry has the blob now. */
static struct err *start_upload(struct upload *u, struct http_client *http, bool *out_done)
{
	const struct upload_conf *c = u->conf;
	auto_response struct http_response answer = { 0 };
	auto_free char *what = start_what(c), *url = registry_url(c->registry, what);
	const char *least;
	uint64_t n = 0;

	TRY(registry_ask(c->registry, http,
			 (struct http_request){ .method = "POST", .url = url, .has_body = true, .bytes = "" },
			 &answer));
	if (answer.status == 201 && c->mount_from) {
		(void)snprintf(u->mounted, sizeof u->mounted, "Mounted from %s", c->mount_from);
		*out_done = true;
		return NULL;
	}
	if (answer.status != 202)
		return upload_refusal(c->repository, &answer, "start an upload");
	least = http_header(&answer, "OCI-Chunk-Min-Length", 0);
	if (least) /* what is no number has no effect */
		err_free(num_parse(sv_of(least), 10, 0, CHUNK_MAX_BYTES, &n));
	u->chunk_bytes = n > CHUNK_BYTES ? n : CHUNK_BYTES;
	TRY(take_location(u, url, &answer));
	note_put(u);
	return NULL;
}

/* The blob, which may have to come first. */
static struct err *open_bytes(const struct upload_conf *c, int *out_fd)
{
	if (c->bring && !store_has(c->store, c->d->digest, NULL))
		TRY(c->bring(c->ctx));
	return store_blob_open(c->store, c->d->digest, c->d->size, out_fd);
}

/* One request of the session with bytes of the blob. *out_error (owned): it failed in a way that may pass. */
static struct err *send_bytes(struct upload *u, struct http_client *http, struct http_request q,
			      struct http_response *answer, struct err **out_error)
{
	struct err *e;

	q.has_body = true;
	q.on_sent = on_sent;
	q.ctx = u;
	q.bytes = q.body_size ? NULL : "";
	e = registry_call(u->conf->registry, http, q, answer);
	if (e) {
		bool may_help = answer->cause == HTTP_CUT || answer->cause == HTTP_STALL;

		*out_error = may_help ? e : NULL;
		return may_help ? NULL : e;
	}
	if (answer->status == 201 || answer->status == 202 || answer->status == 204)
		return NULL;
	e = upload_refusal(u->conf->repository, answer, "upload");
	*out_error = fault_is_passing(answer) ? e : NULL;
	return *out_error ? NULL : e;
}

/* One chunk. A registry that takes none gets the blob in one piece. */
static struct err *send_chunk(struct upload *u, struct http_client *http, int fd,
			      struct http_response *answer, struct err **out_error)
{
	uint64_t left = u->conf->d->size - u->have, n = left < u->chunk_bytes ? left : u->chunk_bytes;
	auto_free char *range = xasprintf("Content-Range: %llu-%llu", (unsigned long long)u->have,
					  (unsigned long long)(u->have + n - 1)),
		       *asked = xstrdup(u->location);
	const char *const headers[] = { "Content-Type: application/octet-stream", range, NULL };
	struct err *e = send_bytes(u, http,
				   (struct http_request){ .method = "PATCH",
							  .url = asked,
							  .headers = headers,
							  .body_fd = fd,
							  .body_at = u->have,
							  .body_size = n },
				   answer, out_error);

	if (e && answer->status >= 400 && answer->status != 401 && answer->status != 403 &&
	    answer->status != 413 && u->in_chunks) {
		*out_error = e;
		forget(u);
		u->in_chunks = false;
		return NULL;
	}
	if (e || *out_error)
		return e;
	u->have = bytes_of_range(answer) ? bytes_of_range(answer) : u->have + n;
	if (u->have > u->conf->d->size)
		return FAIL(ERR_INVALID, "the registry says it has more than was sent");
	TRY(take_location(u, asked, answer));
	note_put(u);
	return NULL;
}

/* One whole try. *out_error (owned): it failed in a way that may pass. */
static struct err *try_upload(struct upload *u, struct http_client *http, struct http_response *answer,
			      struct err **out_error)
{
	static const char *const headers[] = { "Content-Type: application/octet-stream", NULL };
	const struct upload_conf *c = u->conf;
	auto_free char *url = NULL;
	auto_fd int fd = -1;
	bool is_done = false;

	if (!c->mount_from)
		TRY(open_bytes(c, &fd));
	TRY(ask_session(u, http));
	if (!u->location)
		TRY(start_upload(u, http, &is_done));
	if (is_done)
		return NULL;
	if (fd < 0)
		TRY(open_bytes(c, &fd));
	u->chunk_bytes = u->chunk_bytes ? u->chunk_bytes : CHUNK_BYTES;
	while ((u->have || (u->in_chunks && c->d->size > u->chunk_bytes)) && u->have < c->d->size) {
		TRY(send_chunk(u, http, fd, answer, out_error));
		if (*out_error)
			return NULL;
		http_response_fini(answer);
	}
	url = closing_url(u);
	return send_bytes(u, http,
			  (struct http_request){ .method = "PUT",
						 .url = url,
						 .headers = headers,
						 .body_fd = fd,
						 .body_size = u->have ? 0 : c->d->size },
			  answer, out_error);
}

static struct err *upload(struct upload *u, struct http_client *http)
{
	for (unsigned attempt = 1;; attempt++) {
		auto_response struct http_response answer = { 0 };
		struct err *why = NULL, *e = try_upload(u, http, &answer, &why);

		if (!why) {
			if (!e || e->kind != ERR_CANCELLED)
				forget(u);
			return e;
		}
		if (u->have > u->most) {
			u->most = u->have;
			attempt = 1;
		}
		if (attempt == ATTEMPTS_MAX)
			return err_ctx(why, "given up after %u attempts", attempt);
		err_free(why);
		u->in_chunks = answer.status == 0 || u->in_chunks;
		tell(u, "Retrying", u->have);
		TRY(registry_pause(u->conf->registry, attempt - 1, answer.status >= 400 ? &answer : NULL));
	}
}

struct err *upload_blob(const struct upload_conf *c, struct http_client *http)
{
	CLEANUP(upload_fini)
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
	note_name(&u);
	note_get(&u);
	e = upload(&u, http);
	if (e) {
		/* perhaps that is why */
		bool is_here = e->kind != ERR_CANCELLED && store_has(c->store, c->d->digest, NULL);
		struct err *damage = is_here ? store_blob_verify(c->store, c->d->digest) : NULL;

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
	return http_header(&answer, "OCI-Subject", 0) ? NULL
						      : referrers_note(r, repository, body, media_type);
}
