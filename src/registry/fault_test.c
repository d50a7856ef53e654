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
		      { "Retry-After: 999999", 60 },
		      { "Retry-After: -5", 0 },
		      { "Retry-After: soon", 0 },
		      { "Retry-After: 99999999999999999999", 0 },
		      { "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT", 0 },
		      { "Retry-After: Wed, 21 Oct 2199 07:28:00 GMT", 60 },
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
	CHECK(fault_is_passing(429) && fault_is_passing(500) && fault_is_passing(503) &&
	      fault_is_passing(408));
	CHECK(!fault_is_passing(401) && !fault_is_passing(404) && !fault_is_passing(501) &&
	      !fault_is_passing(200));
}
