#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "harness/t.h"
#include "registry/fault.h"
#include <stdio.h>
#include <string.h>
#include <time.h>

static struct http_response make(int status, const char *header, const char *body)
{
	struct http_response r = { .status = status, .body = BUF(1 << 16) };

	if (header)
		text_list_add(&r.headers, header);
	buf_str(&r.body, body);
	return r;
}

static void check(int status, const char *body, enum err_kind kind, const char *text)
{
	auto_response struct http_response r = make(status, NULL, body);
	auto_err struct err *e = fault_of(&r);

	CHECK_INT(e->kind, kind);
	CHECK_STR(e->msg, text);
}

TEST(faults_in_words)
{
	check(401,
	      "{\"errors\":[{\"code\":\"UNAUTHORIZED\",\"message\":\"authentication "
	      "required\",\"detail\":null}]}",
	      ERR_DENIED, "unauthorized: authentication required");
	check(404, "{\"errors\":[{\"code\":\"MANIFEST_UNKNOWN\"}]}", ERR_NOT_FOUND, "manifest unknown");
	check(502, "<html>", ERR_UNAVAILABLE, "unexpected HTTP status: 502 Bad Gateway");
	check(299, "", ERR_INVALID, "unexpected HTTP status: 299");
	check(429, "{\"errors\":[]}", ERR_LIMIT, "unexpected HTTP status: 429 Too Many Requests");
	check(400, "{\"errors\":{\"code\":7}}", ERR_INVALID, "unexpected HTTP status: 400 Bad Request");
	check(400, "[1,2]", ERR_INVALID, "unexpected HTTP status: 400 Bad Request");
}

TEST(codes_are_read)
{
	auto_response struct http_response r = make(404, NULL, "{\"errors\":[{\"code\":\"NAME_UNKNOWN\"}]}"),
					   none = make(404, NULL, "x");
	auto_free char *code = fault_code(&r), *empty = fault_code(&none);

	CHECK_STR(code, "NAME_UNKNOWN");
	CHECK_STR(empty, "");
}

TEST(retry_after_is_seconds_or_a_date_and_bounded)
{
	static const struct {
		const char *header;
		unsigned want;
	} cases[] = { { "Retry-After: 7", 7 },
		      { "retry-after: 0", 0 },
		      { "Retry-After: 999999", 86400 },
		      { "Retry-After: -5", 0 },
		      { "Retry-After: soon", 0 },
		      { "Retry-After: 99999999999999999999", 0 },
		      { "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0 },
		      { "Retry-After: Wed, 21 Oct 2199 07:28:00 GMT", 86400 },
		      { NULL, 0 } };
	char line[64];
	time_t soon = time(NULL) + 30;
	struct tm tm;

	for (size_t i = 0; i < LEN(cases); i++) {
		auto_response struct http_response r = make(429, cases[i].header, "");

		CHECK_INT(fault_retry_after(&r), cases[i].want);
	}
	CHECK(gmtime_r(&soon, &tm) &&
	      strftime(line, sizeof line, "Retry-After: %a, %d %b %Y %H:%M:%S GMT", &tm));
	auto_response struct http_response r = make(429, line, "");
	CHECK(fault_retry_after(&r) >= 28 && fault_retry_after(&r) <= 30);
}

TEST(passing_faults)
{
	static const struct {
		int status;
		const char *header;
		bool want;
	} cases[] = { { 429, NULL, true },  { 500, NULL, true },  { 503, "Retry-After: 60", true },
		      { 408, NULL, true },  { 401, NULL, false }, { 404, NULL, false },
		      { 501, NULL, false }, { 200, NULL, false }, { 429, "Retry-After: 61", false } };

	for (size_t i = 0; i < LEN(cases); i++) {
		auto_response struct http_response r = make(cases[i].status, cases[i].header, "");

		CHECK(fault_is_passing(&r) == cases[i].want);
	}
}

TEST(limits_are_told)
{
	auto_response struct http_response r = make(429, "ratelimit-limit: 100;w=21600", ""), junk;
	auto_free char *text = NULL, *none = NULL;
	auto_err struct err *e = NULL;

	text_list_add(&r.headers, "RateLimit-Remaining: 0;w=21600");
	text_list_add(&r.headers, "Retry-After: 900");
	text = fault_limits(&r);
	CHECK_STR(text, "100 in 21600 s, 0 left");
	e = fault_of(&r);
	CHECK_STR(
	    e->msg,
	    "unexpected HTTP status: 429 Too Many Requests (limit: 100 in 21600 s, 0 left); it wants to be "
	    "asked again after 900 s");
	junk = make(429, "RateLimit-Limit: many;w=x", "");
	none = fault_limits(&junk);
	CHECK_STR(none, "");
	http_response_fini(&junk);
}
