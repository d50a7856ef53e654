#include "registry/fault.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/time.h"
#include "codec/json.h"
#include <ctype.h>
#include <time.h>

#define RETRY_AFTER_MAX 86400u

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} table[] = { { 400, "400 Bad Request" },         { 401, "401 Unauthorized" },
		      { 403, "403 Forbidden" },           { 404, "404 Not Found" },
		      { 405, "405 Method Not Allowed" },  { 408, "408 Request Timeout" },
		      { 413, "413 Payload Too Large" },   { 416, "416 Range Not Satisfiable" },
		      { 429, "429 Too Many Requests" },   { 500, "500 Internal Server Error" },
		      { 501, "501 Not Implemented" },     { 502, "502 Bad Gateway" },
		      { 503, "503 Service Unavailable" }, { 504, "504 Gateway Timeout" } };

	for (size_t i = 0; i < LEN(table); i++)
		if (table[i].status == status)
			return table[i].text;
	return NULL;
}

static enum err_kind kind_of(int status)
{
	if (status == 401 || status == 403)
		return ERR_DENIED;
	if (status == 404)
		return ERR_NOT_FOUND;
	if (status == 429 || status == 413)
		return ERR_LIMIT;
	if (status == 408)
		return ERR_TIMEOUT;
	return status >= 500 ? ERR_UNAVAILABLE : ERR_INVALID;
}

/* The first error object of the body, or NULL. Its text is data of the other side. */
static json_t *first_error(const struct http_response *r, json_t **out_doc)
{
	struct err *e = json_parse(sv_from(buf_text(&r->body), r->body.n), "error", 64u << 10, out_doc);

	if (e) {
		err_free(e);
		return NULL;
	}
	return json_array_get(json_object_get(*out_doc, "errors"), 0);
}

static void add_clean(struct buf *b, const char *text)
{
	for (size_t i = 0; i < 300 && text[i]; i++)
		buf_ch(b, (unsigned char)text[i] < 0x20 || (unsigned char)text[i] >= 0x7f ? ' ' : text[i]);
}

char *fault_code(const struct http_response *r)
{
	auto_json json_t *doc = NULL;
	json_t *first = first_error(r, &doc);

	return xstrndup(first ? json_str_at(first, "code", "") : "", 64);
}

/* The number that "100;w=21600" begins with, and w (0 when absent). */
static bool read_limit(const char *value, uint64_t *out_n, uint64_t *out_seconds)
{
	struct sv rest = sv_of(value ? value : ""), first = sv_trim(sv_cut(&rest, ';'));
	struct err *e = num_parse(first, 10, 0, UINT32_MAX, out_n);

	*out_seconds = 0;
	if (!e && sv_starts(sv_trim(rest), SV("w=")))
		err_free(num_parse(sv_skip(sv_trim(rest), 2), 10, 0, UINT32_MAX, out_seconds));
	err_free(e);
	return !e;
}

char *fault_limits(const struct http_response *r)
{
	auto_buf struct buf text = BUF(256);
	uint64_t n, seconds;

	if (read_limit(http_header(r, "RateLimit-Limit", 0), &n, &seconds)) {
		buf_fmt(&text, "%llu", (unsigned long long)n);
		if (seconds)
			buf_fmt(&text, " in %llu s", (unsigned long long)seconds);
	}
	if (read_limit(http_header(r, "RateLimit-Remaining", 0), &n, &seconds))
		buf_fmt(&text, "%s%llu left", text.n ? ", " : "", (unsigned long long)n);
	return buf_take(&text);
}

/* To text, of 429: what the limit is, and when it is over. */
static void add_limits(struct buf *text, const struct http_response *r)
{
	auto_free char *limits = fault_limits(r);
	unsigned seconds = fault_retry_after(r);

	if (*limits)
		buf_fmt(text, " (limit: %s)", limits);
	if (seconds)
		buf_fmt(text, "; it wants to be asked again after %u s", seconds);
}

struct err *fault_of(const struct http_response *r)
{
	auto_json json_t *doc = NULL;
	auto_buf struct buf text = BUF(2048);
	json_t *first = first_error(r, &doc);
	const char *code = first ? json_str_at(first, "code", "") : "", *known = reason(r->status);

	if (*code) {
		/* as docker words them: MANIFEST_UNKNOWN is "manifest unknown" */
		for (size_t i = 0; i < 64 && code[i]; i++)
			buf_ch(&text, code[i] == '_' ? ' '
				      : isalnum((unsigned char)code[i])
					  ? (char)tolower((unsigned char)code[i])
					  : ' ');
		if (*json_str_at(first, "message", "")) {
			buf_str(&text, ": ");
			add_clean(&text, json_str_at(first, "message", ""));
		}
	} else if (known) {
		buf_fmt(&text, "unexpected HTTP status: %s", known);
	} else {
		buf_fmt(&text, "unexpected HTTP status: %d", r->status);
	}
	if (r->status == 429 || r->status == 503)
		add_limits(&text, r);
	return FAIL(kind_of(r->status), "%s", buf_text(&text));
}

bool fault_is_passing(const struct http_response *r)
{
	int status = r->status;
	bool may_pass = status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);

	return may_pass && fault_retry_after(r) <= FAULT_WAIT_MAX;
}

unsigned fault_retry_after(const struct http_response *r)
{
	const char *value = http_header(r, "Retry-After", 0);
	struct tm tm = { 0 };
	uint64_t seconds = 0;
	struct err *e;
	int64_t left;

	if (!value)
		return 0;
	e = num_parse(sv_of(value), 10, 0, UINT32_MAX, &seconds);
	if (!e)
		return seconds > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (unsigned)seconds;
	err_free(e);
	if (!strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm)) /* RFC 9110 10.2.3: or a date */
		return 0;
	left = (int64_t)timegm(&tm) - time_now_ns() / 1000000000;
	return left <= 0 ? 0 : left > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : (unsigned)left;
}
