/*
 * download.c - bytes go from the wire through the hash into the store's temporary file. After a cut the next
 * request asks for the rest by Range; an answer that does not continue exactly there starts the file again.
 * Only the digest at the end decides; if it is wrong after a resumption, the whole is fetched once more
 * without one.
 */
#include "registry/download.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "registry/fault.h"
#include <stdio.h>

#define FAILURES_MAX   5u
#define PROGRESS_BYTES (1u << 20) /* so much makes earlier failures forgotten */

struct download {
	struct registry *registry;
	struct store *store;
	const struct descriptor *d;
	struct report_line line;
	bool is_shown, was_resumed, is_checked; /* is_checked: this answer's range */
	struct ingest *in;
};

static void tell(struct download *w, const char *status)
{
	if (w->is_shown)
		report_blob(registry_report(w->registry), &w->line, status,
			    w->in ? ingest_size(w->in) : w->d->size);
}

static struct err *restart(struct download *w)
{
	ingest_free(TAKE(w->in));
	return ingest_begin(w->store, &w->in);
}

/* "bytes 100-199/200": whether it starts at want_at. */
static bool range_starts_at(const struct http_response *r, uint64_t want_at)
{
	const char *text = http_header(r, "Content-Range", 0);
	struct sv rest = sv_of(text ? text : "");
	uint64_t at = 0;
	struct err *e;

	if (!sv_starts(rest, SV("bytes ")))
		return false;
	rest = sv_skip(rest, 6);
	e = num_parse(sv_cut(&rest, '-'), 10, 0, INT64_MAX, &at);
	if (e) {
		err_free(e);
		return false;
	}
	return at == want_at;
}

static struct err *take_bytes(void *ctx, const struct http_response *r, const void *p, size_t n)
{
	struct download *w = ctx;

	if (!w->is_checked) {
		w->is_checked = true;
		if (r->status == 206 && !range_starts_at(r, ingest_size(w->in)))
			return FAIL(ERR_CORRUPT, "the registry answers with another part than asked for");
		if (r->status != 206 && ingest_size(w->in) > 0)
			TRY(restart(w));
	}
	if (n > w->d->size - ingest_size(w->in))
		return FAIL(ERR_CORRUPT, "size mismatch: wanted %llu bytes, got more",
			    (unsigned long long)w->d->size);
	TRY(ingest_write(w->in, p, n));
	tell(w, "Downloading");
	return NULL;
}

/*
 * One request. *out_again: it did not finish, another may; then *out_error (owned) says why this one did not.
 * Returned errors are final.
 */
static struct err *attempt(struct download *w, struct http_client *http, struct http_response *answer,
			   struct err **out_error)
{
	char what[32 + DIGEST_MAX], range[64];
	const char *const headers[] = { range, NULL };
	uint64_t have = ingest_size(w->in);
	auto_free char *url = NULL;
	struct err *e;

	(void)snprintf(what, sizeof what, "blobs/%s", w->d->digest);
	(void)snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)have);
	url = registry_url(w->registry, what);
	w->is_checked = false;
	w->was_resumed = w->was_resumed || have > 0;
	e = registry_call(w->registry, http,
			  (struct http_request){ .method = "GET",
						 .url = url,
						 .headers = have ? headers : NULL,
						 .redirects = 10,
						 .sink = take_bytes,
						 .ctx = w },
			  answer);
	if (e) {
		bool may_help =
		    answer->cause == HTTP_CUT || answer->cause == HTTP_CONNECT || answer->cause == HTTP_STALL;

		*out_error = may_help ? e : NULL;
		return may_help ? NULL : e;
	}
	if (answer->status == 416 && have > 0) {
		TRY(restart(w));
		*out_error = fault_of(answer);
	} else if (answer->status != 200 && answer->status != 206) {
		e = fault_of(answer);
		*out_error = fault_is_passing(answer->status) ? e : NULL;
		return *out_error ? NULL : e;
	} else if (ingest_size(w->in) < w->d->size && !http_header(answer, "Content-Length", 0)) {
		*out_error = FAIL(ERR_UNAVAILABLE, "the connection ended after %llu of %llu bytes",
				  (unsigned long long)ingest_size(w->in), (unsigned long long)w->d->size);
	}
	return NULL;
}

/* Until all bytes are there. */
static struct err *receive(struct download *w, struct http_client *http)
{
	uint64_t seen = 0;

	for (unsigned failures = 0;;) {
		auto_response struct http_response answer = { 0 };
		struct err *why = NULL;

		TRY(attempt(w, http, &answer, &why));
		if (!why)
			return NULL;
		if (ingest_size(w->in) >= seen + PROGRESS_BYTES)
			failures = 0;
		seen = ingest_size(w->in);
		if (++failures == FAILURES_MAX)
			return err_ctx(why, "given up after %u attempts", FAILURES_MAX);
		err_free(why);
		tell(w, "Retrying");
		TRY(registry_pause(w->registry, failures - 1, answer.status >= 400 ? &answer : NULL));
	}
}

static struct err *finish(struct download *w)
{
	if (ingest_size(w->in) != w->d->size) /* a size of 0 means "any" to the store */
		return FAIL(ERR_CORRUPT, "size mismatch: wanted %llu bytes, got %llu",
			    (unsigned long long)w->d->size, (unsigned long long)ingest_size(w->in));
	return ingest_commit(w->in, w->d->digest, w->d->size, NULL);
}

static struct err *fetch(struct download *w, struct http_client *http)
{
	struct err *e;

	TRY(ingest_begin(w->store, &w->in));
	TRY(receive(w, http));
	e = finish(w);
	if (e && e->kind == ERR_CORRUPT && w->was_resumed) {
		err_free(e);
		w->was_resumed = false;
		TRY(restart(w));
		TRY(receive(w, http));
		e = finish(w);
	}
	return e;
}

/* A blob of another size than wanted is damaged, or the manifest lies; only in the first case it may go. */
static struct err *look_in_store(struct store *store, const struct descriptor *d, bool *out_is_here)
{
	uint64_t have = 0;
	struct err *e;

	*out_is_here = false;
	if (!store_has(store, d->digest, &have))
		return NULL;
	if (have == d->size) {
		*out_is_here = true;
		return NULL;
	}
	e = store_blob_verify(store, d->digest);
	if (!e)
		return FAIL(ERR_CORRUPT, "blob %s: size mismatch: the manifest says %llu bytes, it has %llu",
			    d->digest, (unsigned long long)d->size, (unsigned long long)have);
	err_free(e);
	return store_blob_delete(store, d->digest);
}

struct err *download_blob(struct registry *r, struct http_client *http, struct store *store,
			  const struct descriptor *d, bool is_shown)
{
	struct download w = { .registry = r,
			      .store = store,
			      .d = d,
			      .is_shown = is_shown,
			      .line = { .digest = d->digest, .total = d->size } };
	bool is_here = false;
	struct err *e;

	TRY(look_in_store(store, d, &is_here));
	if (is_here) {
		tell(&w, "Already exists");
		return NULL;
	}
	e = fetch(&w, http);
	ingest_free(TAKE(w.in));
	if (e)
		return err_ctx(e, "blob %s", d->digest);
	tell(&w, "Download complete");
	return NULL;
}
