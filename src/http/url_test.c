#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "http/url.h"

TEST(urls_have_scheme_host_and_port)
{
	auto_url struct url u = { 0 }, v6 = { 0 };

	CHECK_OK(url_parse("https://example.org/v2/?a=b", &u));
	CHECK_STR(u.scheme, "https");
	CHECK_STR(u.host, "example.org");
	CHECK_STR(u.port, "443");
	CHECK(!u.has_port);
	CHECK_OK(url_parse("http://[::1]:5000/", &v6));
	CHECK_STR(v6.host, "[::1]");
	CHECK_STR(v6.port, "5000");
	CHECK(v6.has_port);
}

TEST(other_schemes_and_users_are_refused)
{
	static const char *const bad[] = { "",
					   "x",
					   "file:///etc/passwd",
					   "ftp://a/",
					   "gopher://a/",
					   "https://u:p@a/",
					   "https://u@a/",
					   "https://a:99999/",
					   "http://a b/" };

	for (size_t i = 0; i < LEN(bad); i++) {
		struct url u;

		CHECK_ERR(ERR_INVALID, url_parse(bad[i], &u));
	}
}

TEST(locations_are_resolved_against_the_request)
{
	static const char *const cases[][3] = {
		{ "https://a:5000/v2/x/blobs/uploads/", "/v2/x/blobs/uploads/1?s=2",
		  "https://a:5000/v2/x/blobs/uploads/1?s=2" },
		{ "https://a/v2/x/blobs/uploads/", "uuid?_state=A%3D",
		  "https://a/v2/x/blobs/uploads/uuid?_state=A%3D" },
		{ "https://a/v2/", "http://b/c", "http://b/c" },
		{ "http://a/v2/x", "//b:1/c", "http://b:1/c" },
		{ "https://a/v2/x/y", "../z", "https://a/v2/z" },
	};

	for (size_t i = 0; i < LEN(cases); i++) {
		auto_free char *got = NULL;

		CHECK_OK(url_resolve(cases[i][0], cases[i][1], &got));
		CHECK_STR(got, cases[i][2]);
	}
}

TEST(locations_cannot_leave_http)
{
	static const char *const bad[] = { "file:///etc/passwd", "ldap://x/", "https://user:pw@a/",
					   "http://" };

	for (size_t i = 0; i < LEN(bad); i++) {
		char *got = NULL;

		CHECK_ERR(ERR_INVALID, url_resolve("https://a/v2/", bad[i], &got));
		CHECK(!got);
	}
}

TEST(origins_differ_by_scheme_host_and_port)
{
	static const char *const other[] = { "http://a/x", "https://b/x", "https://a:444/x",
					     "https://a.b/x" };
	auto_url struct url a = { 0 }, same = { 0 };

	CHECK_OK(url_parse("https://a/", &a));
	CHECK_OK(url_parse("https://A:443/y", &same));
	CHECK(url_same_origin(&a, &same));
	for (size_t i = 0; i < LEN(other); i++) {
		auto_url struct url u = { 0 };

		CHECK_OK(url_parse(other[i], &u));
		CHECK(!url_same_origin(&a, &u));
	}
}

TEST(loopback_hosts)
{
	CHECK(url_host_is_loopback("localhost") && url_host_is_loopback("127.9.9.9") &&
	      url_host_is_loopback("[::1]"));
	CHECK(!url_host_is_loopback("128.0.0.1") && !url_host_is_loopback("localhost.evil") &&
	      !url_host_is_loopback("[::2]") && !url_host_is_loopback("127.0.0.1.evil") &&
	      !url_host_is_loopback(""));
}

TEST(display_hides_queries_and_passwords)
{
	auto_free char *a = url_display("https://h/p?token=secret"), *b = url_display("https://u:secret@h/p"),
		       *c = url_display("https://h/\033[31m"), *d = url_display("/x@y");

	CHECK_STR(a, "https://h/p");
	CHECK_STR(b, "https://...@h/p");
	CHECK_STR(c, "https://h/?[31m");
	CHECK_STR(d, "/x@y");
}
