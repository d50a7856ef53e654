/*
 * client.c - one curl easy handle per client: its connection cache is our reuse. Redirects are a loop of our
 * own around it, because who may see the authorization is our decision, not the library's. Collected bodies
 * are bounded in size and time; streamed ones only by the stall limit.
 */
#include "http/client.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "http/trust.h"
#include "http/url.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <strings.h>

#define HEADERS_MAX     (64u << 10)
#define ERROR_BODY_MAX  (64u << 10)
#define CONNECT_MS      30000u
#define COLLECT_SECONDS 120L
#define STALL_SECONDS   60u
#define CANCEL_EVERY_NS 50000000

struct http_client {
	CURL *curl;
	struct http_conf conf;
	struct trust *trust;
	bool has_tls_proxy; /* of the last request */
	int64_t asked_ns; /* when is_cancelled was asked last */
};

struct call { /* one request on the wire */
	struct http_client *client;
	const struct http_request *q;
	struct http_response *out;
	struct err *e;       /* why a callback ended it */
	bool is_enough;      /* ended by us without being an error */
	bool is_stuck;       /* ended by us: handshake_ms have passed */
	int64_t stands_ns;   /* since when, about, there is a connection */
	uint64_t sent_bytes; /* of the body */
	char detail[CURL_ERROR_SIZE];
};

OWN_DEFINE(struct curl_slist *, slist, curl_slist_free_all)
#define auto_slist __attribute__((cleanup(own_slist)))

void http_init(void)
{
	if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
		abort(); /* no memory, as xmalloc */
}

struct http_client *http_new(const struct http_conf *conf)
{
	struct http_client *c = xnew(struct http_client);

	c->conf = *conf;
	c->trust = trust_new(conf);
	c->curl = curl_easy_init();
	if (!c->curl)
		abort();
	return c;
}

void http_free(struct http_client *c)
{
	if (!c)
		return;
	curl_easy_cleanup(c->curl);
	trust_free(c->trust);
	free(c);
}

static void response_reset(struct http_response *r, size_t max_body)
{
	http_response_fini(r);
	*r = (struct http_response){ .body = BUF(max_body) };
}

void http_response_fini(struct http_response *r)
{
	text_list_free(r->headers);
	buf_fini(&r->body);
	*r = (struct http_response){ 0 };
}

const char *http_header(const struct http_response *r, const char *name, size_t nth)
{
	size_t n = strlen(name);

	for (char **h = r->headers; h && *h; h++)
		if (strncasecmp(*h, name, n) == 0 && (*h)[n] == ':' && nth-- == 0)
			return *h + n + 1 + strspn(*h + n + 1, " \t");
	return NULL;
}

bool http_range_starts_at(const struct http_response *r, uint64_t want_at)
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

static size_t on_header(char *p, size_t one, size_t n, void *arg)
{
	struct call *call = arg;
	struct http_response *r = call->out;
	struct sv line = sv_trim(sv_from(p, n * one));
	auto_free char *copy = NULL;

	if (sv_starts(line, SV("HTTP/"))) { /* a new answer: after 100-continue or a proxy's */
		text_list_free(r->headers);
		r->headers = NULL;
		return n;
	}
	r->header_bytes += n;
	if (r->header_bytes > HEADERS_MAX) {
		call->e = FAIL(ERR_LIMIT, "the answer has more than %u bytes of headers", HEADERS_MAX);
		return 0;
	}
	if (line.n == 0)
		return n;
	copy = xstrndup(line.p, line.n);
	text_list_add(&r->headers, copy);
	return n;
}

static size_t on_body(char *p, size_t one, size_t n, void *arg)
{
	struct call *call = arg;
	struct http_response *r = call->out;
	long status = 0;

	n *= one;
	(void)curl_easy_getinfo(call->client->curl, CURLINFO_RESPONSE_CODE, &status);
	r->status = (int)status;
	if (status < 200 || status >= 300) {
		size_t room = ERROR_BODY_MAX - (r->body.n < ERROR_BODY_MAX ? r->body.n : ERROR_BODY_MAX);

		r->body.max = ERROR_BODY_MAX + 1;
		buf_add(&r->body, p, n < room ? n : room);
		call->is_enough = n > room;
		return call->is_enough ? 0 : n;
	}
	if (call->q->sink) {
		call->e = call->q->sink(call->q->ctx, r, p, n);
		return call->e ? 0 : n;
	}
	buf_add(&r->body, p, n);
	if (r->body.failed) {
		call->e = FAIL(ERR_LIMIT, "the answer is larger than %zu bytes", call->q->max_body);
		return 0;
	}
	return n;
}

static size_t on_send(char *p, size_t one, size_t n, void *arg)
{
	struct call *call = arg;
	const struct http_request *q = call->q;
	uint64_t left = q->body_size - call->sent_bytes;
	ssize_t got;

	n *= one;
	if (n > left)
		n = (size_t)left;
	if (q->bytes) {
		memcpy(p, (const char *)q->bytes + call->sent_bytes, n);
		got = (ssize_t)n;
	} else {
		got = n ? sys_pread(q->body_fd, p, n, (off_t)(q->body_at + call->sent_bytes)) : 0;
	}
	if (got < 0 || (got == 0 && left)) {
		call->e = got < 0 ? FAIL_OS((int)-got, "read what is to be sent")
				  : FAIL(ERR_CORRUPT, "what is to be sent ends too early");
		return CURL_READFUNC_ABORT;
	}
	call->sent_bytes += (uint64_t)got;
	if (q->on_sent)
		q->on_sent(q->ctx, call->sent_bytes);
	return (size_t)got;
}

/* curl sends a request again when the connection it reused was dead. What comes from a file may have reached the other
 * side in part: whoever called decides how to go on. */
static int on_seek(void *arg, curl_off_t at, int whence)
{
	struct call *call = arg;

	if (whence != SEEK_SET || at < 0 || (uint64_t)at > call->q->body_size || !call->q->bytes)
		return CURL_SEEKFUNC_FAIL;
	call->sent_bytes = (uint64_t)at;
	return CURL_SEEKFUNC_OK;
}

/* The connection stands, and TLS does not. The address is known as soon as it stands; CURLINFO_CONNECT_TIME, with curl 7.88, only after TLS. */
static bool is_stuck(struct call *call, int64_t now_ns)
{
	curl_off_t tls_us = 0;
	char *ip = NULL;

	(void)curl_easy_getinfo(call->client->curl, CURLINFO_PRIMARY_IP, &ip);
	(void)curl_easy_getinfo(call->client->curl, CURLINFO_APPCONNECT_TIME_T, &tls_us);
	if (!ip || !*ip || tls_us)
		return false;
	if (!call->stands_ns)
		call->stands_ns = now_ns;
	return now_ns - call->stands_ns > (int64_t)call->q->handshake_ms * 1000000;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t x, curl_off_t y)
{
	struct call *call = arg;
	struct http_client *c = call->client;
	int64_t now = time_monotonic_ns();

	(void)a, (void)b, (void)x, (void)y;
	call->is_stuck = call->q->handshake_ms && is_stuck(call, now);
	if (call->is_stuck)
		return 1;
	if (!c->conf.is_cancelled || now - c->asked_ns < CANCEL_EVERY_NS)
		return 0;
	c->asked_ns = now;
	return c->conf.is_cancelled(c->conf.ctx);
}

/* curl itself takes HTTP_PROXY in lower case only; docker in both. */
static const char *env_of(const char *lower, const char *upper)
{
	const char *value = getenv(lower);

	if (!value || !*value)
		value = getenv(upper);
	return value && *value ? value : NULL;
}

/* As Go and so docker have it, an entry of NO_PROXY may have a port, and "*.x" is ".x"; the others are curl's. */
static bool is_spared(const char *list, const struct url *u)
{
	size_t n_host = strlen(u->host);
	struct sv rest = sv_of(list ? list : "");

	while (rest.n) {
		struct sv entry = sv_trim(sv_cut(&rest, ',')), host = entry, port = { 0 };
		size_t colon = entry.n;

		while (colon && entry.p[colon - 1] != ':' && entry.p[colon - 1] != ']')
			colon--;
		if (colon > 1 && entry.p[colon - 1] == ':' && (entry.p[0] == '[' || !memchr(entry.p, ':', colon - 1))) {
			host = sv_from(entry.p, colon - 1);
			port = sv_skip(entry, colon);
		}
		if ((!port.n && !sv_starts(host, SV("*."))) || (port.n && !sv_is(port, u->port)))
			continue;
		if (sv_starts(host, SV("*.")))
			host = sv_skip(host, 1);
		if (sv_starts(host, SV(".")))
			host = sv_skip(host, 1);
		if (host.n && host.n <= n_host && strncasecmp(u->host + n_host - host.n, host.p, host.n) == 0 &&
		    (host.n == n_host || u->host[n_host - host.n - 1] == '.'))
			return true;
	}
	return false;
}

static void set_proxy(struct http_client *c, const struct url *u)
{
	bool is_plain = strcmp(u->scheme, "http") == 0;
	const char *proxy =
	    is_plain ? env_of("http_proxy", "HTTP_PROXY") : env_of("https_proxy", "HTTPS_PROXY");
	const char *no = env_of("no_proxy", "NO_PROXY");

	if (!proxy)
		proxy = env_of("all_proxy", "ALL_PROXY");
	if (!proxy)
		proxy = is_plain ? c->conf.proxy.http : c->conf.proxy.https;
	if (!no)
		no = c->conf.proxy.no;
	if (url_host_is_loopback(u->host) || is_spared(no, u))
		proxy = NULL;
	c->has_tls_proxy = proxy && strncasecmp(proxy, "https://", 8) == 0;
	(void)curl_easy_setopt(c->curl, CURLOPT_PROXY, proxy ? proxy : "");
	(void)curl_easy_setopt(c->curl, CURLOPT_NOPROXY, no ? no : "");
}

static void set_limits(struct http_client *c, const struct http_request *q)
{
	(void)curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT_MS,
			       (long)(c->conf.connect_ms ? c->conf.connect_ms : CONNECT_MS));
	(void)curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME,
			       (long)(c->conf.stall_seconds ? c->conf.stall_seconds : STALL_SECONDS));
	if (!q->sink && !(q->has_body && q->body_size > ERROR_BODY_MAX))
		(void)curl_easy_setopt(c->curl, CURLOPT_TIMEOUT, COLLECT_SECONDS);
	(void)curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
	(void)curl_easy_setopt(c->curl, CURLOPT_BUFFERSIZE, 512L << 10);
	(void)curl_easy_setopt(c->curl, CURLOPT_UPLOAD_BUFFERSIZE, 512L << 10);
	(void)curl_easy_setopt(c->curl, CURLOPT_TCP_KEEPALIVE, 1L);
}

static void set_method(struct http_client *c, struct call *call)
{
	const struct http_request *q = call->q;

	if (strcmp(q->method, "HEAD") == 0) {
		(void)curl_easy_setopt(c->curl, CURLOPT_NOBODY, 1L);
		return;
	}
	if (q->has_body) {
		(void)curl_easy_setopt(c->curl, CURLOPT_UPLOAD, 1L);
		(void)curl_easy_setopt(c->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)q->body_size);
		(void)curl_easy_setopt(c->curl, CURLOPT_READFUNCTION, on_send);
		(void)curl_easy_setopt(c->curl, CURLOPT_READDATA, call);
		(void)curl_easy_setopt(c->curl, CURLOPT_SEEKFUNCTION, on_seek);
		(void)curl_easy_setopt(c->curl, CURLOPT_SEEKDATA, call);
	}
	(void)curl_easy_setopt(c->curl, CURLOPT_CUSTOMREQUEST, q->method);
}

static void set_callbacks(struct http_client *c, struct call *call)
{
	(void)curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
	(void)curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, call);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
	(void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, call);
	(void)curl_easy_setopt(c->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	(void)curl_easy_setopt(c->curl, CURLOPT_XFERINFODATA, call);
	(void)curl_easy_setopt(c->curl, CURLOPT_NOPROGRESS, 0L);
	(void)curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, call->detail);
}

static void add_header(struct curl_slist **list, const char *line)
{
	struct curl_slist *more = curl_slist_append(*list, line);

	if (!more)
		abort();
	*list = more;
}

/* As docker's messages have it: Get "https://...": ... */
static const char *verb_of(const struct http_request *q)
{
	static const char *const verbs[][2] = {
		{ "GET", "Get" }, { "HEAD", "Head" }, { "POST", "Post" }, { "PUT", "Put" }
	};

	for (size_t i = 0; i < LEN(verbs); i++)
		if (strcmp(q->method, verbs[i][0]) == 0)
			return verbs[i][1];
	return q->method;
}

static struct err *could_not_connect(const struct call *call, const char *at, const struct url *u, int os)
{
	const char *reason = os == ECONNREFUSED ? "connection refused" : os ? strerror(os) : call->detail;

	/* "Failed to connect to HOST port N": of somebody else when a proxy stands between */
	if (strstr(call->detail, "Failed to connect to ") && !strstr(call->detail, u->host))
		return FAIL(ERR_UNAVAILABLE, "%s \"%s\": proxy: %s: %s (see HTTPS_PROXY and NO_PROXY)",
			    verb_of(call->q), at, call->detail, reason);
	return FAIL(ERR_UNAVAILABLE, "%s \"%s\": connect to %s port %s: %s", verb_of(call->q), at, u->host,
		    u->port, reason);
}

/* A proxy that makes no tunnel, or that nobody finds; NULL: it is not that. */
static struct err *proxy_fault(const struct call *call, CURLcode code, const char *at)
{
	long status = 0, tunnel = 0;
	bool is_tls = code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CONNECT_ERROR;

	(void)curl_easy_getinfo(call->client->curl, CURLINFO_RESPONSE_CODE, &status);
	(void)curl_easy_getinfo(call->client->curl, CURLINFO_HTTP_CONNECTCODE, &tunnel);
	if (status != 407)
		status = tunnel;
	if (call->client->has_tls_proxy && is_tls && !tunnel) {
		call->out->cause = HTTP_TLS;
		return FAIL(ERR_UNAVAILABLE, "%s \"%s\": proxy: tls: %s (its authority's certificate: SSL_CERT_FILE)",
			    verb_of(call->q), at, call->detail);
	}
	if (status == 407)
		return FAIL(ERR_DENIED, "%s \"%s\": proxy: it wants a name and a password (HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT)",
			    verb_of(call->q), at);
	if (status < 300 && code != CURLE_COULDNT_RESOLVE_PROXY)
		return NULL;
	call->out->cause = HTTP_CUT;
	return FAIL(ERR_UNAVAILABLE, "%s \"%s\": proxy: %s (see HTTPS_PROXY and NO_PROXY)", verb_of(call->q), at, call->detail);
}

/* A connection that ended. Of TLS 1.3 the server tells only after the handshake that it misses a client's certificate. */
static struct err *cut_off(const struct call *call, const char *at, const struct url *u)
{
	const char *detail = strstr(call->detail, "getpeername") ? "closed by the server" : call->detail;
	auto_free char *place = NULL;
	long fresh = 0;

	(void)curl_easy_getinfo(call->client->curl, CURLINFO_NUM_CONNECTS, &fresh);
	if (!fresh || call->out->status || strcmp(u->scheme, "https") != 0)
		return FAIL(ERR_UNAVAILABLE, "%s \"%s\": unexpected end of the connection: %s", verb_of(call->q), at, detail);
	place = trust_place(call->client->trust, u);
	return FAIL(ERR_UNAVAILABLE,
		    "%s \"%s\": unexpected end of the connection: %s (if the server wants a client certificate: client.cert and client.key in %s)",
		    verb_of(call->q), at, detail, place);
}

/* What curl's result means. at: the URL for messages. */
static struct err *judge(struct call *call, CURLcode code, const char *at, const struct url *u)
{
	const char *method = verb_of(call->q);
	auto_free char *place = NULL;
	long os = 0;

	if (call->e) {
		call->out->cause = HTTP_OTHER;
		return err_ctx(TAKE(call->e), "%s \"%s\"", method, at);
	}
	if ((code == CURLE_OK || call->is_enough) && call->out->status != 407)
		return NULL;
	call->out->cause = HTTP_OTHER;
	TRY(proxy_fault(call, code, at));
	(void)curl_easy_getinfo(call->client->curl, CURLINFO_OS_ERRNO, &os);
	switch ((int)code) {
	case CURLE_ABORTED_BY_CALLBACK:
		if (call->is_stuck) {
			call->out->cause = HTTP_TLS;
			return FAIL(ERR_TIMEOUT, "%s \"%s\": tls: no handshake within %u ms", method, at,
				    call->q->handshake_ms);
		}
		return FAIL(ERR_CANCELLED, "%s \"%s\": cancelled", method, at);
	case CURLE_COULDNT_RESOLVE_HOST:
		call->out->cause = HTTP_CONNECT;
		return FAIL(ERR_UNAVAILABLE,
			    "%s \"%s\": lookup %s: no such host (check the name and the DNS setup)", method,
			    at, u->host);
	case CURLE_COULDNT_CONNECT:
		call->out->cause = HTTP_CONNECT;
		return could_not_connect(call, at, u, (int)os);
	case CURLE_OPERATION_TIMEDOUT:
		call->out->cause = HTTP_STALL;
		return FAIL(ERR_TIMEOUT, "%s \"%s\": timeout: %s", method, at, call->detail);
	case CURLE_PEER_FAILED_VERIFICATION:
		call->out->cause = HTTP_TLS;
		place = trust_place(call->client->trust, u);
		return FAIL(ERR_UNAVAILABLE,
			    "%s \"%s\": tls: failed to verify certificate: %s (put the authority's "
			    "certificate into %s/ca.crt)",
			    method, at, call->detail, place);
	case CURLE_SSL_CONNECT_ERROR:
		call->out->cause = HTTP_TLS;
		if (strstr(call->detail, "unexpected TLS packet"))
			return FAIL(
			    ERR_UNAVAILABLE,
			    "%s \"%s\": the server does not speak TLS (for a registry over plain HTTP: "
			    "--insecure)",
			    method, at);
		return FAIL(ERR_UNAVAILABLE, "%s \"%s\": tls: %s", method, at, call->detail);
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
		call->out->cause = HTTP_TLS;
		return FAIL(ERR_UNAVAILABLE, "%s \"%s\": tls: %s", method, at, call->detail);
	case CURLE_PARTIAL_FILE:
	case CURLE_GOT_NOTHING:
	case CURLE_RECV_ERROR:
	case CURLE_SEND_ERROR:
	case CURLE_SEND_FAIL_REWIND:
		call->out->cause = HTTP_CUT;
		return cut_off(call, at, u);
	default:
		return FAIL(ERR_UNAVAILABLE, "%s \"%s\": %s", method, at,
			    call->detail[0] ? call->detail : curl_easy_strerror(code));
	}
}

static struct err *perform(struct http_client *c, const struct http_request *q, const char *target,
			   bool is_trusted, struct http_response *out)
{
	auto_free char *shown = url_display(target), *auth = NULL;
	struct call call = { .client = c, .q = q, .out = out };
	auto_slist struct curl_slist *list = NULL;
	auto_url struct url u = { 0 };
	long status = 0;
	CURLcode code;

	TRY(url_parse(target, &u));
	response_reset(out, q->max_body ? q->max_body : ERROR_BODY_MAX);
	curl_easy_reset(c->curl); /* options only: connections stay */
	for (const char *const *h = q->headers; h && *h; h++)
		add_header(&list, *h);
	add_header(&list, "Expect:"); /* a second of waiting per upload otherwise */
	for (const char *const *h = q->origin_headers; is_trusted && h && *h; h++)
		add_header(&list, *h);
	if (is_trusted && q->authorization) {
		auth = xasprintf("Authorization: %s", q->authorization);
		add_header(&list, auth);
	}
	(void)curl_easy_setopt(c->curl, CURLOPT_URL, target);
	(void)curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
	(void)curl_easy_setopt(c->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	(void)curl_easy_setopt(c->curl, CURLOPT_USERAGENT, "hoy/" HOY_VERSION);
	(void)curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, list);
	set_proxy(c, &u);
	TRY(trust_apply(c->trust, c->curl, &u));
	set_limits(c, q);
	set_callbacks(c, &call);
	set_method(c, &call);
	code = curl_easy_perform(c->curl);
	(void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
	out->status = (int)status;
	return judge(&call, code, shown, &u);
}

static bool is_redirect(int status)
{
	return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Where a redirect leads. *is_trusted stays true only as long as the origin is that of the first request. */
static struct err *follow(const char *first, char **target, const char *location, bool *is_trusted)
{
	auto_url struct url from = { 0 }, here = { 0 }, there = { 0 };
	auto_free char *next = NULL, *shown = NULL;

	TRY(url_resolve(*target, location, &next));
	TRY(url_parse(first, &from));
	TRY(url_parse(*target, &here));
	TRY(url_parse(next, &there));
	shown = url_display(next);
	if (strcmp(here.scheme, "https") == 0 && strcmp(there.scheme, "https") != 0)
		return FAIL(ERR_INVALID, "refused a redirect from https to \"%s\"", shown);
	*is_trusted = *is_trusted && url_same_origin(&from, &there);
	free(*target);
	*target = TAKE(next);
	return NULL;
}

struct err *http_call(struct http_client *c, const struct http_request *q, struct http_response *out)
{
	bool may_follow = strcmp(q->method, "GET") == 0 || strcmp(q->method, "HEAD") == 0;
	auto_free char *target = xstrdup(q->url), *shown = url_display(q->url);
	bool is_trusted = true;

	for (unsigned hops = 0;; hops++) {
		const char *location;

		TRY(perform(c, q, target, is_trusted, out));
		location = http_header(out, "Location", 0);
		if (!may_follow || q->redirects == 0 || !is_redirect(out->status) || !location)
			return NULL;
		if (hops == q->redirects) {
			out->cause = HTTP_OTHER;
			return FAIL(ERR_INVALID, "%s \"%s\": stopped after %u redirects", verb_of(q), shown,
				    hops);
		}
		struct err *e = follow(q->url, &target, location, &is_trusted);
		if (e) {
			out->cause = HTTP_OTHER;
			return err_ctx(e, "%s \"%s\"", verb_of(q), shown);
		}
	}
}
