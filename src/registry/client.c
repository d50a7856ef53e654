/*
 * client.c - the authorization is one value for all connections: whoever meets a 401 fetches a new one while
 * the others wait. A generation number keeps threads that were refused with the old value from fetching
 * again.
 */
#include "registry/client.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "base/vec.h"
#include "codec/enc.h"
#include "http/url.h"
#include "registry/auth.h"
#include "registry/fault.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

#define CONNECTIONS      4
#define CONNECTION_BYTES (4u << 20) /* of payload, or */
#define CONNECTION_JOBS  8u         /* so many jobs are worth a TLS connection */
#define ASK_ATTEMPTS     4u
#define PING_ATTEMPTS    3u
#define AUTH_ATTEMPTS    3u /* a token may end between two answers */
#define RETRY_MS         500u
#define HANDSHAKE_MS     5000u /* then an insecure registry is asked by HTTP: two lost segments, and then some */
#define PAUSE_MAX_NS     INT64_C(30000000000)
#define EARLY_NS         INT64_C(10000000000) /* a token is renewed so long before it ends */

struct registry {
	struct report *report;
	const struct place *place;
	char **scopes; /* may be NULL */
	char *base;    /* "https://host" */
	unsigned retry_ms;
	struct cred own_cred; /* of a file; loaded when asked for */
	const struct cred *cred;
	struct http_conf http_conf;
	atomic_bool is_stopped; /* a job failed */
	pthread_mutex_t lock;   /* guards all below */
	struct challenge challenge;
	char *authorization;
	int64_t until_ns;
	unsigned generation;
	VEC(struct http_client *) idle;
};

static bool is_cancelled(void *ctx)
{
	struct registry *r = ctx;

	return atomic_load(&r->is_stopped) || report_is_cancelled(r->report);
}

struct http_client *registry_http(struct registry *r)
{
	struct http_client *http = NULL;

	(void)pthread_mutex_lock(&r->lock);
	if (r->idle.n)
		http = r->idle.p[--r->idle.n];
	(void)pthread_mutex_unlock(&r->lock);
	return http ? http : http_new(&r->http_conf);
}

void registry_http_done(struct registry *r, struct http_client *http)
{
	if (!http)
		return;
	(void)pthread_mutex_lock(&r->lock);
	*vec_push(&r->idle) = http;
	(void)pthread_mutex_unlock(&r->lock);
}

struct report *registry_report(const struct registry *r)
{
	return r->report;
}

const struct place *registry_place(const struct registry *r)
{
	return r->place;
}

char *registry_root_url(const struct registry *r)
{
	return xasprintf("%s%s/", r->base, r->place->root);
}

char *registry_url(const struct registry *r, const char *what)
{
	auto_buf struct buf ns = BUF(1024);

	if (r->place->ns) {
		buf_str(&ns, strchr(what, '?') ? "&ns=" : "?ns=");
		enc_percent(sv_of(r->place->ns), &ns);
	}
	return xasprintf("%s%s/%s/%s%s", r->base, r->place->root, r->place->repository, what, buf_text(&ns));
}

static void take_challenge(struct registry *r, const struct http_response *answer)
{
	const char *header;

	challenge_fini(&r->challenge);
	for (size_t i = 0; (header = http_header(answer, "WWW-Authenticate", i)); i++)
		challenge_parse(header, &r->challenge);
}

/* Whether what came, or did not come, may be better the next time. */
static bool is_passing(const struct http_response *answer)
{
	return answer->cause == HTTP_OK ? fault_is_passing(answer)
					: answer->cause == HTTP_CUT || answer->cause == HTTP_CONNECT;
}

/* A token server has its bad moments, too, and without a token nothing goes on. With the lock held: who waits for it wants the token. */
static struct err *obtain(struct registry *r, struct http_client *http, const struct auth_ask *ask,
			  char **out_value, unsigned *out_seconds)
{
	for (unsigned attempt = 0;; attempt++) {
		auto_response struct http_response answer = { 0 };
		struct err *e = auth_obtain(http, ask, &answer, out_value, out_seconds);

		if (!e || !is_passing(&answer) || attempt + 1 == ASK_ATTEMPTS)
			return e;
		err_free(e);
		TRY(registry_pause(r, attempt, &answer));
	}
}

/* SECURITY: with the lock held; the only place where credentials leave the files. */
static struct err *renew(struct registry *r, struct http_client *http)
{
	struct auth_ask ask = { .challenge = &r->challenge,
				.registry_url = r->base,
				.scopes = r->scopes,
				.is_insecure = r->place->is_insecure };
	const struct cred_for who = { r->place->host, r->place->repository, is_cancelled, r };
	auto_free char *value = NULL, *file = NULL;
	unsigned seconds = 0;

	if (!r->cred) {
		err_free(cred_file(&file)); /* without a home there are none */
		TRY(cred_load(file, &who, &r->own_cred));
		r->cred = &r->own_cred;
	}
	ask.cred = r->cred;
	TRY(obtain(r, http, &ask, &value, &seconds));
	free(r->authorization);
	r->authorization = TAKE(value);
	r->until_ns = time_monotonic_ns() + (int64_t)seconds * 1000000000;
	r->generation++;
	return NULL;
}

/* The value to send now, owned, or NULL; *out_generation of it. Renewed when it is about to end. */
static struct err *current(struct registry *r, struct http_client *http, char **out_value,
			   unsigned *out_generation)
{
	struct err *e = NULL;

	(void)pthread_mutex_lock(&r->lock);
	if ((r->challenge.has_bearer || r->challenge.has_basic) &&
	    (r->generation == 0 || (r->authorization && time_monotonic_ns() > r->until_ns - EARLY_NS)))
		e = renew(r, http);
	*out_value = !e && r->authorization ? xstrdup(r->authorization) : NULL;
	*out_generation = r->generation;
	(void)pthread_mutex_unlock(&r->lock);
	return e;
}

/* After a 401 with the value of that generation: *out_again when another try makes sense. */
static struct err *refused(struct registry *r, struct http_client *http, const struct http_response *answer,
			   unsigned generation, bool *out_again)
{
	struct err *e = NULL;

	(void)pthread_mutex_lock(&r->lock);
	if (r->generation == generation) {
		take_challenge(r, answer);
		if (r->challenge.has_bearer || (r->challenge.has_basic && !r->authorization))
			e = renew(r, http);
	}
	*out_again = !e && r->generation != generation && r->authorization;
	(void)pthread_mutex_unlock(&r->lock);
	return e;
}

static bool is_at_home(const struct registry *r, const char *text)
{
	auto_url struct url base = { 0 }, u = { 0 };
	auto_err struct err *e = url_parse(r->base, &base), *f = url_parse(text, &u);

	return !e && !f && url_same_origin(&base, &u);
}

static struct err *call(struct registry *r, struct http_client *http, struct http_request q,
			struct http_response *out)
{
	bool is_home = is_at_home(r, q.url);

	for (unsigned attempt = 0;; attempt++) {
		auto_free char *value = NULL;
		unsigned generation = 0;
		bool again = false;

		if (is_home)
			TRY(current(r, http, &value, &generation));
		q.authorization = value;
		q.origin_headers = is_home ? (const char *const *)r->place->headers : NULL;
		TRY(http_call(http, &q, out));
		if (out->status != 401 || !is_home || attempt + 1 == AUTH_ATTEMPTS)
			return NULL;
		TRY(refused(r, http, out, generation, &again));
		if (!again)
			return NULL;
	}
}

/* With --debug: each request, and how often we may still ask. */
static void tell_debug(const struct http_request *q, const struct err *e, const struct http_response *answer)
{
	auto_free char *shown = NULL, *limits = NULL;

	if (log_level < LOG_DEBUG)
		return;
	shown = url_display(q->url);
	limits = fault_limits(answer);
	if (e)
		log_debug("%s %s: %s", q->method, shown, e->msg);
	else
		log_debug("%s %s: %d%s%s%s", q->method, shown, answer->status, *limits ? " (limit: " : "",
			  limits, *limits ? ")" : "");
}

struct err *registry_call(struct registry *r, struct http_client *http, struct http_request q,
			  struct http_response *out)
{
	struct http_client *borrowed = http ? NULL : registry_http(r);
	struct err *e = call(r, http ? http : borrowed, q, out);

	registry_http_done(r, borrowed);
	tell_debug(&q, e, out);
	return e;
}

struct err *registry_pause(struct registry *r, unsigned attempt, const struct http_response *answer)
{
	unsigned seconds = answer ? fault_retry_after(answer) : 0;
	int64_t ns = ((int64_t)r->retry_ms * 1000000) << (attempt < 8 ? attempt : 8);

	ns += ns * (time_monotonic_ns() / 1000 % 256) / 1024; /* many clients must not come back together */
	if (ns > PAUSE_MAX_NS)
		ns = PAUSE_MAX_NS;
	if (seconds)
		ns = (int64_t)seconds * 1000000000;
	while (ns > 0) { /* in slices: another job may stop us */
		int64_t slice = ns < 200000000 ? ns : 200000000;

		if (report_sleep(r->report, slice) || atomic_load(&r->is_stopped))
			return FAIL(ERR_CANCELLED, "cancelled");
		ns -= slice;
	}
	return NULL;
}

struct err *registry_ask(struct registry *r, struct http_client *http, struct http_request q,
			 struct http_response *out)
{
	for (unsigned attempt = 0;; attempt++) {
		struct err *e = registry_call(r, http, q, out);

		if (!is_passing(out) || attempt + 1 == ASK_ATTEMPTS)
			return e;
		err_free(e);
		TRY(registry_pause(r, attempt, e ? NULL : out));
	}
}

static struct err *ping(struct registry *r, const char *scheme, unsigned handshake_ms, enum http_cause *out_cause)
{
	const char *host = r->place->host;
	bool is_hub = strcmp(host, "docker.io") == 0 || strcmp(host, "index.docker.io") == 0;
	auto_response struct http_response answer = { 0 };
	struct http_client *http;
	auto_free char *url = NULL;
	struct err *e;

	free(r->base);
	r->base = xasprintf("%s://%s", scheme, is_hub ? "registry-1.docker.io" : host);
	http = registry_http(r);
	url = registry_root_url(r);
	e = http_call(http,
		      &(struct http_request){ .method = "GET",
					      .url = url,
					      .origin_headers = (const char *const *)r->place->headers,
					      .handshake_ms = handshake_ms,
					      .redirects = 5,
					      .max_body = 1 << 20 },
		      &answer);
	*out_cause = answer.cause;
	if (e) {
		http_free(http);
		return e;
	}
	registry_http_done(r, http);
	if (answer.status == 401)
		take_challenge(r, &answer);
	return NULL;
}

static char **scopes_of(const struct registry_conf *conf)
{
	char **list = NULL;

	if (conf->actions) {
		auto_free char *own = xasprintf("repository:%s:%s", conf->place->repository, conf->actions);

		text_list_add(&list, own);
	}
	for (size_t i = 0; conf->pull_from && conf->pull_from[i]; i++) {
		auto_free char *other = xasprintf("repository:%s:pull", conf->pull_from[i]);

		text_list_add(&list, other);
	}
	return list;
}

/* A server that knows no TLS may answer what begins it with silence. */
static struct err *try_schemes(struct registry *r, enum http_cause *out_cause)
{
	bool may_be_plain = !r->place->scheme && r->place->is_insecure;
	struct err *e =
	    ping(r, r->place->scheme ? r->place->scheme : "https", may_be_plain ? HANDSHAKE_MS : 0, out_cause);

	if (!e || !may_be_plain ||
	    (*out_cause != HTTP_CONNECT && *out_cause != HTTP_TLS && *out_cause != HTTP_CUT))
		return e;
	err_free(e);
	return ping(r, "http", 0, out_cause);
}

/* Who hangs up may be busy; where nobody listens nobody is waited for. */
static struct err *find_scheme(struct registry *r)
{
	for (unsigned attempt = 0;; attempt++) {
		enum http_cause cause = HTTP_OK;
		struct err *e = try_schemes(r, &cause);

		if (!e || cause != HTTP_CUT || attempt + 1 == PING_ATTEMPTS)
			return e;
		err_free(e);
		TRY(registry_pause(r, attempt, NULL));
	}
}

/* SECURITY: what is meant for a registry is not shown to its mirrors; a file has an entry for each host. */
static struct err *take_access(struct registry *r, const struct access *access)
{
	const struct cred_for who = { r->place->host, r->place->repository, is_cancelled, r };

	if (!r->place->is_mirror) {
		r->cred = access->cred;
		r->http_conf.trust.dir = access->cert_dir;
	}
	if (r->cred || !access->auth_file)
		return NULL;
	TRY(cred_load_file(access->auth_file, &who, &r->own_cred));
	r->cred = &r->own_cred;
	return NULL;
}

struct err *registry_open(const struct registry_conf *conf, struct registry **out_registry)
{
	auto_registry struct registry *r = xnew(struct registry);
	const struct place *place = conf->place;

	(void)pthread_mutex_init(&r->lock, NULL);
	r->report = conf->report;
	r->place = place;
	r->scopes = scopes_of(conf);
	r->retry_ms = conf->patience.retry_ms ? conf->patience.retry_ms : RETRY_MS;
	r->http_conf = (struct http_conf){
		.is_insecure = place->is_insecure,
		.trust = { .host = place->host, .ca = place->ca, .cert = place->cert, .key = place->key },
		.stall_seconds = conf->patience.stall_s,
		.connect_ms = place->connect_ms ? place->connect_ms : conf->patience.connect_ms,
		.is_cancelled = is_cancelled,
		.ctx = r
	};
	if (conf->daemon)
		r->http_conf.proxy = conf->daemon->proxy;
	if (conf->access)
		TRY(take_access(r, conf->access));
	TRY(find_scheme(r));
	*out_registry = TAKE(r);
	return NULL;
}

void registry_close(struct registry *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->idle.n; i++)
		http_free(r->idle.p[i]);
	vec_fini(&r->idle);
	challenge_fini(&r->challenge);
	cred_fini(&r->own_cred);
	free(r->authorization);
	free(r->base);
	text_list_free(r->scopes);
	(void)pthread_mutex_destroy(&r->lock);
	free(r);
}

struct pool {
	struct registry *registry;
	registry_job *job;
	void *ctx;
	size_t n;
	atomic_size_t next;
	pthread_mutex_t lock; /* guards e */
	struct err *e;        /* the first */
};

static void pool_fail(struct pool *p, struct err *e)
{
	(void)pthread_mutex_lock(&p->lock);
	if (p->e)
		err_free(e);
	else
		p->e = e;
	(void)pthread_mutex_unlock(&p->lock);
	atomic_store(&p->registry->is_stopped, true);
}

static void *pool_worker(void *arg)
{
	struct pool *p = arg;
	struct http_client *http = registry_http(p->registry);
	size_t i;

	while ((i = atomic_fetch_add(&p->next, 1)) < p->n && !atomic_load(&p->registry->is_stopped)) {
		struct err *e = p->job(p->ctx, http, i);

		if (e)
			pool_fail(p, e);
	}
	registry_http_done(p->registry, http);
	return NULL;
}

/* A TLS connection costs some round trips and 30 ms for reading the authorities: not for a few small blobs.
 */
static size_t connections_for(const struct registry *r, size_t n, uint64_t n_bytes)
{
	uint64_t worth =
	    strncmp(r->base, "https:", 6) == 0 ? 1 + n_bytes / CONNECTION_BYTES + n / CONNECTION_JOBS : n;

	if (worth > n)
		worth = n;
	return worth < CONNECTIONS ? (size_t)worth : CONNECTIONS;
}

struct err *registry_each(struct registry *r, size_t n, uint64_t n_bytes, registry_job *job, void *ctx)
{
	size_t want = connections_for(r, n, n_bytes);
	struct pool p = { .registry = r, .job = job, .ctx = ctx, .n = n };
	pthread_t threads[CONNECTIONS - 1];
	size_t n_threads = 0;

	(void)pthread_mutex_init(&p.lock, NULL);
	while (n_threads + 1 < want && pthread_create(&threads[n_threads], NULL, pool_worker, &p) == 0)
		n_threads++;
	(void)pool_worker(&p); /* fewer threads than wished is slower, not wrong */
	for (size_t i = 0; i < n_threads; i++)
		(void)pthread_join(threads[i], NULL);
	(void)pthread_mutex_destroy(&p.lock);
	return p.e;
}
