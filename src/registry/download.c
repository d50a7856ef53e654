/*
 * download.c - bytes go from the wire into the store's temporary file, and through the hash as soon as all
 * before them are there. After a cut the next request asks for the rest by Range. Only the digest at the end
 * decides; if it is wrong after a resumption, the whole is fetched once more without one.
 *
 * A blob above SPLIT_BYTES is a row of parts, each one job. SECURITY: a part writes only its own bytes, each
 * once, so what was hashed cannot be overwritten. A server that answers a part with the whole is left alone
 * by the parts; the last job fetches what is missing by itself, and may begin again.
 */
#include "registry/download.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "registry/fault.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define FAILURES_MAX   5u
#define PROGRESS_BYTES (1u << 20) /* so much makes earlier failures forgotten */
#define SPLIT_BYTES    (32u << 20)
#define PART_BYTES     (16u << 20)
#define PARTS_MAX      1024u
#define KEEP_BYTES     (1u << 20) /* less is not worth a file */
#define TELL_BYTES     (1u << 20) /* so often those who unpack are told */
#define WAIT_NS	       INT64_C(100000000) /* so often a blob that somebody else fetches is looked at … */
#define STALLED_MAX    100u		  /* … and so many times without a byte more */
#define HOLD_BYTES                                                                                           \
	(256u << 10) /* curl gives 16 KiB: written one by one these cost as much as the whole of unpacking's \
			writes */

struct download {
	struct download_conf conf;
	size_t n_parts;
	uint64_t part_bytes;
	atomic_uint_fast64_t arrived; /* bytes, for people */
	pthread_mutex_t lock;         /* guards all below */
	struct report_line line;
	const char *diff_id; /* NULL: nobody unpacks meanwhile */
	uint64_t told_bytes; /* … who unpacks */
	struct ingest *in;   /* NULL: not begun, or the store has the blob */
	uint64_t opened_at;  /* bytes that an earlier pull has left */
	bool is_open, is_here, was_resumed, is_spoilt;
	bool *done; /* n_parts */
	size_t left;
};

struct range { /* one part, or what is left of the whole */
	struct download *w;
	uint64_t at, to; /* the next byte to come; behind the last */
	char *held;      /* HOLD_BYTES, owned: what came before `at` and is not written yet */
	size_t n_held;
	bool is_alone;   /* nobody else writes: may begin again */
	bool is_checked; /* this answer's range */
	bool is_refused; /* the server knows no ranges */
};

struct download *download_new(const struct download_conf *conf)
{
	struct download *w = xnew(struct download);
	uint64_t size = conf->d->size;

	w->conf = *conf;
	w->part_bytes = size <= SPLIT_BYTES ? size : PART_BYTES;
	if (size / PARTS_MAX >= w->part_bytes)
		w->part_bytes = size / PARTS_MAX + 1;
	w->n_parts = w->part_bytes ? (size_t)((size + w->part_bytes - 1) / w->part_bytes) : 1;
	if (!w->n_parts)
		w->n_parts = 1;
	w->left = w->n_parts;
	w->done = xcalloc(w->n_parts, sizeof *w->done);
	w->line = (struct report_line){ .digest = conf->d->digest, .total = size };
	(void)pthread_mutex_init(&w->lock, NULL);
	return w;
}

void download_announce(struct download *w, const char *diff_id)
{
	w->diff_id = diff_id;
}

size_t download_jobs(const struct download *w)
{
	return w->n_parts;
}

uint64_t download_missing(const struct download *w)
{
	uint64_t have = 0, size = w->conf.d->size;

	if (!store_has(w->conf.store, w->conf.d->digest, &have))
		have = store_part_size(w->conf.store, w->conf.d->digest);
	return have < size ? size - have : 0;
}

void download_free(struct download *w)
{
	if (!w)
		return;
	if (w->in && !w->is_spoilt && ingest_size(w->in) >= KEEP_BYTES)
		ingest_keep(w->in);
	else
		ingest_free(w->in);
	(void)pthread_mutex_destroy(&w->lock);
	free(w->done);
	free(w);
}

static void tell_locked(struct download *w, const char *status, uint64_t bytes)
{
	if (w->conf.is_shown)
		report_blob(registry_report(w->conf.registry), &w->line, status, bytes);
}

static void tell(struct download *w, const char *status)
{
	(void)pthread_mutex_lock(&w->lock);
	tell_locked(w, status, atomic_load(&w->arrived));
	(void)pthread_mutex_unlock(&w->lock);
}

/* With the lock held, or alone. */
static void tell_arrived(struct download *w)
{
	uint64_t n = ingest_size(w->in);
	bool is_worth = n < w->told_bytes || n - w->told_bytes >= TELL_BYTES || n == w->conf.d->size;

	if (!w->diff_id || n == w->told_bytes || !is_worth)
		return;
	w->told_bytes = n;
	report_arrived(registry_report(w->conf.registry), w->conf.d->digest, n);
}

static struct err *restart(struct download *w)
{
	struct err *e;

	atomic_store(&w->arrived, 0);
	e = ingest_restart(w->in);
	tell_arrived(w);
	return e;
}

/* Whether the answer brings the bytes we wait for. */
static struct err *check_answer(struct range *g, const struct http_response *r)
{
	g->is_checked = true;
	if (r->status == 206)
		return http_range_starts_at(r, g->at)
			   ? NULL
			   : FAIL(ERR_CORRUPT, "the registry answers with another part than asked for");
	if (!g->is_alone) {
		g->is_refused = true;
		return FAIL(ERR_UNSUPPORTED, "the registry knows no ranges");
	}
	if (g->at == 0)
		return NULL;
	g->at = 0;
	return restart(g->w);
}

/* Writes what is held, hashes it when its turn has come. */
static struct err *put_held(struct range *g)
{
	struct download *w = g->w;
	uint64_t at = g->at - g->n_held;
	struct err *e = NULL;

	if (!g->n_held)
		return NULL;
	TRY(ingest_put_at(w->in, at, g->held, g->n_held));
	(void)pthread_mutex_lock(&w->lock);
	if (at == ingest_size(w->in)) {
		e = ingest_claim(w->in, g->held, g->n_held);
		tell_arrived(w);
	}
	(void)pthread_mutex_unlock(&w->lock);
	g->n_held = 0;
	return e;
}

static void range_fini(struct range *g)
{
	free(g->held);
}

static struct err *take_bytes(void *ctx, const struct http_response *r, const void *p, size_t n)
{
	struct range *g = ctx;
	struct download *w = g->w;

	if (!g->is_checked)
		TRY(check_answer(g, r));
	if (n > g->to - g->at)
		return FAIL(ERR_CORRUPT, "size mismatch: wanted %llu bytes, got more",
			    (unsigned long long)(g->is_alone ? w->conf.d->size : g->to - g->at));
	(void)pthread_mutex_lock(&w->lock);
	tell_locked(w, "Downloading", atomic_fetch_add(&w->arrived, n) + n);
	(void)pthread_mutex_unlock(&w->lock);
	for (const char *from = p; n;) {
		size_t step = n < HOLD_BYTES - g->n_held ? n : HOLD_BYTES - g->n_held;

		memcpy(g->held + g->n_held, from, step);
		g->n_held += step;
		g->at += step;
		from += step;
		n -= step;
		if (g->n_held == HOLD_BYTES || g->at == g->to)
			TRY(put_held(g));
	}
	return NULL;
}

/* The answer was whole, as HTTP has it: what may be wrong with it? As attempt. */
static struct err *judge(struct range *g, const struct http_response *answer, bool has_asked_part,
			 struct err **out_error)
{
	struct err *e;

	if (answer->status == 416 && has_asked_part && g->is_alone) {
		g->at = 0;
		TRY(restart(g->w));
		*out_error = fault_of(answer);
	} else if (answer->status == 416 && has_asked_part) {
		g->is_refused = true;
	} else if (answer->status != 200 && answer->status != 206) {
		e = fault_of(answer);
		*out_error = fault_is_passing(answer) ? e : NULL;
		return *out_error ? NULL : e;
	} else if (g->at < g->to && !http_header(answer, "Content-Length", 0)) {
		*out_error = FAIL(ERR_UNAVAILABLE, "the connection ended after %llu of %llu bytes",
				  (unsigned long long)g->at, (unsigned long long)g->w->conf.d->size);
	}
	return NULL;
}

/*
 * One request. *out_error (owned): it did not finish, another may, and why this one did not. Returned errors
 * are final.
 */
static struct err *attempt(struct range *g, struct http_client *http, struct http_response *answer,
			   struct err **out_error)
{
	struct registry *registry = g->w->conf.registry;
	uint64_t size = g->w->conf.d->size;
	bool is_part = g->at > 0 || g->to < size;
	char what[32 + DIGEST_MAX], range[64];
	const char *const headers[] = { range, NULL };
	auto_free char *url = NULL;
	struct err *e;

	(void)snprintf(what, sizeof what, "blobs/%s", g->w->conf.d->digest);
	if (g->to < size)
		(void)snprintf(range, sizeof range, "Range: bytes=%llu-%llu", (unsigned long long)g->at,
			       (unsigned long long)g->to - 1);
	else
		(void)snprintf(range, sizeof range, "Range: bytes=%llu-", (unsigned long long)g->at);
	url = registry_url(registry, what);
	g->is_checked = false;
	e = registry_call(registry, http,
			  (struct http_request){ .method = "GET",
						 .url = url,
						 .headers = is_part ? headers : NULL,
						 .redirects = 10,
						 .sink = take_bytes,
						 .ctx = g },
			  answer);
	if (!e || !g->is_refused) { /* also of an answer that broke off */
		struct err *late = put_held(g);

		err_free(late ? e : NULL);
		TRY(late);
	}
	if (e && g->is_refused) {
		err_free(e);
		return NULL;
	}
	if (e) {
		bool may_help =
		    answer->cause == HTTP_CUT || answer->cause == HTTP_CONNECT || answer->cause == HTTP_STALL;

		*out_error = may_help ? e : NULL;
		return may_help ? NULL : e;
	}
	return judge(g, answer, is_part, out_error);
}

/* Until all bytes of the range are there, or it turns out that there are no ranges. */
static struct err *receive(struct range *g, struct http_client *http)
{
	uint64_t seen = g->at;

	for (unsigned failures = 0;;) {
		auto_response struct http_response answer = { 0 };
		struct err *why = NULL;

		TRY(attempt(g, http, &answer, &why));
		if (!why)
			return NULL;
		if (g->at >= seen + PROGRESS_BYTES)
			failures = 0;
		seen = g->at;
		if (++failures == FAILURES_MAX)
			return err_ctx(why, "given up after %u attempts", FAILURES_MAX);
		err_free(why);
		tell(g->w, "Retrying");
		if (g->is_alone)
			g->w->was_resumed = g->w->was_resumed || g->at > 0;
		TRY(registry_pause(g->w->conf.registry, failures - 1, answer.status >= 400 ? &answer : NULL));
	}
}

/* From where the bytes are all there to the end. */
static struct err *receive_rest(struct download *w, struct http_client *http)
{
	CLEANUP(range_fini)
	struct range g = { .w = w, .at = ingest_size(w->in), .to = w->conf.d->size, .is_alone = true };

	if (g.at == g.to && g.to)
		return NULL;
	g.held = xmalloc(HOLD_BYTES);
	atomic_store(&w->arrived, g.at);
	return receive(&g, http);
}

static struct err *commit(struct download *w)
{
	uint64_t size = w->conf.d->size;

	if (ingest_size(w->in) != size) /* a size of 0 means "any" to the store */
		return FAIL(ERR_CORRUPT, "size mismatch: wanted %llu bytes, got %llu",
			    (unsigned long long)size, (unsigned long long)ingest_size(w->in));
	return ingest_commit(w->in, w->conf.d->digest, size, NULL);
}

/* By the last job, which is alone. */
static struct err *finish(struct download *w, struct http_client *http)
{
	struct err *e;

	TRY(receive_rest(w, http));
	e = commit(w);
	if (e && e->kind == ERR_CORRUPT && w->was_resumed) {
		err_free(e);
		w->was_resumed = false;
		TRY(restart(w));
		TRY(receive_rest(w, http));
		e = commit(w);
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
		return FAIL(ERR_CORRUPT, "size mismatch: the manifest says %llu bytes, it has %llu",
			    (unsigned long long)d->size, (unsigned long long)have);
	err_free(e);
	return store_blob_delete(store, d->digest);
}

/*
 * Somebody else fetches the same blob: then theirs is waited for, as long as it grows. *out_is_here: it has come. Neither here nor
 * begun: it does not grow (they may wait for what we fetch), so we do.
 */
static struct err *begin_or_wait(struct download *w, bool *out_is_here)
{
	struct report *report = registry_report(w->conf.registry);
	struct store *store = w->conf.store;
	uint64_t had = 0;

	for (unsigned stalled = 0; stalled < STALLED_MAX; stalled++) {
		uint64_t have = store_part_size(store, w->conf.d->digest);

		TRY(look_in_store(store, w->conf.d, out_is_here));
		if (!*out_is_here)
			TRY(ingest_resume(store, w->conf.d->digest, &w->in));
		if (w->in)
			TRY(look_in_store(store, w->conf.d, out_is_here)); /* it came just before we began */
		if (*out_is_here || w->in)
			return NULL;
		tell_locked(w, "Waiting", have);
		if (have > had)
			stalled = 0;
		had = have;
		if (report_sleep(report, WAIT_NS))
			return FAIL(ERR_CANCELLED, "cancelled");
	}
	return ingest_begin(store, &w->in);
}

/* At the first job, with the lock held. */
static struct err *begin(struct download *w)
{
	if (w->is_open)
		return NULL;
	w->is_open = true;
	TRY(begin_or_wait(w, &w->is_here));
	if (w->is_here) {
		ingest_free(TAKE(w->in));
		tell_locked(w, "Already exists", w->conf.d->size);
		return NULL;
	}
	if (ingest_size(w->in) > w->conf.d->size) /* of another manifest, which lied */
		TRY(ingest_restart(w->in));
	w->opened_at = ingest_size(w->in);
	w->was_resumed = w->opened_at > 0 || w->n_parts > 1;
	atomic_store(&w->arrived, w->opened_at);
	if (w->diff_id)
		report_arriving(registry_report(w->conf.registry), w->conf.d, w->diff_id, ingest_file(w->in));
	tell_arrived(w);
	return NULL;
}

/* With the lock held: the part is there; hashes it and its neighbours when their turn has come. */
static struct err *part_is_there(struct download *w, size_t index)
{
	w->done[index] = true;
	for (;;) {
		uint64_t at = ingest_size(w->in), to;
		size_t i = (size_t)(at / w->part_bytes);

		if (i >= w->n_parts || !w->done[i])
			return NULL;
		to = (i + 1) * w->part_bytes < w->conf.d->size ? (i + 1) * w->part_bytes : w->conf.d->size;
		if (to == at)
			return NULL;
		TRY(ingest_claim(w->in, NULL, to - at));
		tell_arrived(w);
	}
}

static struct err *fetch_part(struct download *w, struct http_client *http, size_t index)
{
	CLEANUP(range_fini)
	struct range g = { .w = w, .at = index * w->part_bytes, .to = (index + 1) * w->part_bytes };
	struct err *e;

	if (g.to > w->conf.d->size)
		g.to = w->conf.d->size;
	if (g.at < w->opened_at)
		g.at = w->opened_at;
	if (g.at >= g.to)
		return NULL;
	g.held = xmalloc(HOLD_BYTES);
	TRY(receive(&g, http));
	if (g.is_refused)
		return NULL;
	if (g.at < g.to)
		return FAIL(ERR_CORRUPT, "size mismatch: a part of the blob is shorter than asked for");
	(void)pthread_mutex_lock(&w->lock);
	e = part_is_there(w, index);
	(void)pthread_mutex_unlock(&w->lock);
	return e;
}

static struct err *work(struct download *w, struct http_client *http, size_t index, bool *out_done)
{
	bool is_last;
	struct err *e;

	(void)pthread_mutex_lock(&w->lock);
	e = begin(w);
	(void)pthread_mutex_unlock(&w->lock);
	TRY(e);
	if (w->in && w->n_parts > 1)
		TRY(fetch_part(w, http, index));
	(void)pthread_mutex_lock(&w->lock);
	is_last = --w->left == 0;
	(void)pthread_mutex_unlock(&w->lock);
	if (!is_last)
		return NULL;
	if (w->in) {
		TRY(finish(w, http));
		ingest_free(TAKE(w->in));
		tell(w, "Download complete");
	}
	*out_done = true;
	return NULL;
}

/* Whether what has come may be gone on with. A full disk is to be relieved. */
static bool is_passing(const struct err *e)
{
	return e->kind == ERR_UNAVAILABLE || e->kind == ERR_TIMEOUT || e->kind == ERR_CANCELLED ||
	       (e->kind == ERR_LIMIT && !e->os);
}

struct err *download_job(struct download *w, struct http_client *http, size_t index, bool *out_done)
{
	struct err *e;

	*out_done = false;
	e = work(w, http, index, out_done);
	if (!e)
		return NULL;
	(void)pthread_mutex_lock(&w->lock);
	w->is_spoilt = w->is_spoilt || !is_passing(e);
	(void)pthread_mutex_unlock(&w->lock);
	return err_ctx(e, "blob %s", w->conf.d->digest);
}

static struct err *all_jobs(const struct download_conf *conf, struct http_client *http)
{
	struct download *w = download_new(conf);
	struct err *e = NULL;

	for (size_t i = 0; !e && i < download_jobs(w); i++) {
		bool is_done;

		e = download_job(w, http, i, &is_done);
	}
	download_free(w);
	return e;
}

struct err *download_all(const struct download_conf *conf)
{
	return all_jobs(conf, NULL);
}

struct err *download_blob(struct registry *r, struct http_client *http, struct store *store,
			  const struct descriptor *d)
{
	const struct download_conf conf = { .registry = r, .store = store, .d = d };

	return all_jobs(&conf, http);
}
