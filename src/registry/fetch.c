#include "registry/fetch.h"
#include "base/mem.h"
#include "base/own.h"
#include "http/url.h"
#include "registry/fault.h"
#include "sys/sys.h"
#include <stdio.h>

#define ATTEMPTS  5u /* in a row that bring nothing */
#define RETRY_MS  500u
#define REDIRECTS 10u

struct fetch {
	const struct fetch_conf *conf;
	uint64_t bytes;  /* written */
	char *validator; /* of the file that they are of; NULL: nothing tells whether it is the same */
	bool is_checked; /* of the answer at hand it is known that it goes on where we are */
};

static void fetch_fini(struct fetch *f)
{
	free(f->validator);
}

/* What If-Range may carry; owned, or NULL. */
static char *validator_of(const struct http_response *r)
{
	const char *tag = http_header(r, "ETag", 0), *date = http_header(r, "Last-Modified", 0);

	if (tag && *tag == '"')
		return xstrdup(tag);
	return date && *date ? xstrdup(date) : NULL;
}

static struct err *check(struct fetch *f, const struct http_response *r)
{
	if (f->bytes == 0 && r->status != 200)
		return FAIL(ERR_INVALID, "unexpected HTTP status: %d", r->status);
	if (f->bytes && !http_range_starts_at(r, f->bytes))
		return FAIL(ERR_UNAVAILABLE, "the connection was cut after %llu bytes, and the server does not go on from there",
			    (unsigned long long)f->bytes);
	if (f->bytes == 0)
		f->validator = validator_of(r);
	f->is_checked = true;
	return NULL;
}

static struct err *write_body(void *ctx, const struct http_response *r, const void *p, size_t n)
{
	struct fetch *f = ctx;
	int e;

	if (!f->is_checked)
		TRY(check(f, r));
	e = sys_write_all(f->conf->out_fd, p, n);
	f->bytes += n;
	return e < 0 ? FAIL_OS(-e, "hand on what came") : NULL;
}

static struct err *ask(struct fetch *f, struct http_client *http, struct http_response *out)
{
	auto_free char *range = xasprintf("Range: bytes=%llu-", (unsigned long long)f->bytes),
		       *same = xasprintf("If-Range: %s", f->validator ? f->validator : "");
	const char *const headers[] = { range, same, NULL };

	f->is_checked = false;
	return http_call(http,
			 &(struct http_request){ .method = "GET",
						 .url = f->conf->url,
						 .headers = f->bytes ? headers : NULL,
						 .redirects = REDIRECTS,
						 .sink = write_body,
						 .ctx = f },
			 out);
}

struct err *fetch_url(const struct fetch_conf *conf)
{
	unsigned retry_ms = conf->patience.retry_ms ? conf->patience.retry_ms : RETRY_MS;
	auto_http struct http_client *http = http_new(&(struct http_conf){ .proxy = conf->daemon->proxy,
									   .stall_seconds = conf->patience.stall_s,
									   .connect_ms = conf->patience.connect_ms,
									   .is_cancelled = report_ctx_is_cancelled,
									   .ctx = conf->report });
	CLEANUP(fetch_fini) struct fetch f = { .conf = conf };
	auto_free char *shown = url_display(conf->url);

	for (unsigned failures = 0;;) {
		auto_response struct http_response answer = { 0 };
		uint64_t before = f.bytes;
		struct err *e = ask(&f, http, &answer);
		bool may_help = e ? answer.cause == HTTP_CUT || (answer.cause == HTTP_CONNECT && f.bytes)
				  : fault_is_passing(&answer);

		if (!e && answer.status / 100 == 2)
			return f.is_checked ? NULL : check(&f, &answer);
		failures = f.bytes > before ? 1 : failures + 1;
		if (!may_help || failures == ATTEMPTS || (f.bytes && !f.validator))
			return e ? e : err_ctx(fault_of(&answer), "%s", shown);
		err_free(e);
		if (report_sleep(conf->report, ((int64_t)retry_ms << failures) * 1000000))
			return FAIL(ERR_CANCELLED, "cancelled");
	}
}
