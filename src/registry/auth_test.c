#include "harness/t.h"
#include "registry/auth.h"
#include <stdlib.h>
#include <string.h>

TEST(a_bearer_challenge_has_realm_service_and_scope)
{
	auto_challenge struct challenge c = { 0 };

	challenge_parse("Bearer realm=\"https://a.example/token?x=1,2\",service=\"reg\" , "
			"scope=\"repository:x:pull,push\"",
			&c);
	CHECK(c.has_bearer && !c.has_basic);
	CHECK_STR(c.realm, "https://a.example/token?x=1,2");
	CHECK_STR(c.service, "reg");
	CHECK_STR(c.scope, "repository:x:pull,push");
}

TEST(several_schemes_in_one_header_and_in_several)
{
	auto_challenge struct challenge c = { 0 }, d = { 0 };

	challenge_parse("Basic realm=\"r, Bearer realm=evil\", Negotiate, bearer realm=https://t/", &c);
	CHECK(c.has_basic && c.has_bearer);
	CHECK_STR(c.realm, "https://t/");
	challenge_parse("Digest realm=\"x\"", &d);
	CHECK(!d.has_basic && !d.has_bearer && !d.realm);
	challenge_parse("BASIC realm=\"x\"", &d);
	CHECK(d.has_basic && !d.realm);
}

TEST(broken_headers_end_quietly)
{
	static const char *const bad[] = { "",
					   ",,,",
					   "Bearer",
					   "Bearer realm",
					   "Bearer realm=",
					   "Bearer realm=\"",
					   "Bearer realm=\"a\\",
					   "=",
					   "Bearer =x",
					   "Bearer realm=\"a\"service=\"b\"",
					   "\x01\x02",
					   "Bearer realm=\"a\" \"b\"" };

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		auto_challenge struct challenge c = { 0 };

		challenge_parse(bad[i], &c);
	}
}

TEST(escapes_in_quotes)
{
	auto_challenge struct challenge c = { 0 };

	challenge_parse("Bearer realm=\"https://a/\\\"b\"", &c);
	CHECK_STR(c.realm, "https://a/\"b");
}

static void check_offer(struct challenge *c, struct cred *cred, const char *want)
{
	struct http_client *http = http_new(&(struct http_conf){ 0 });
	struct auth_ask ask = { .challenge = c, .cred = cred, .registry_url = "https://r" };
	auto_response struct http_response answer = { 0 };
	unsigned seconds = 0;
	char *value = NULL;

	CHECK_OK(auth_obtain(http, &ask, &answer, &value, &seconds));
	if (want)
		CHECK_STR(value, want);
	else
		CHECK(!value);
	free(value);
	http_free(http);
}

TEST(basic_is_offered_when_asked_for)
{
	struct challenge basic = { .has_basic = true }, none = { 0 };
	struct cred user = { .user = (char[]){ "Aladdin" }, .password = (char[]){ "open sesame" } },
		    nobody = { 0 };

	check_offer(&basic, &user, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
	check_offer(&basic, &nobody, NULL);
	check_offer(&none, &user, NULL);
}

TEST(a_token_server_must_be_https_and_a_url)
{
	static const char *const bad[] = { "http://t/token", "file:///etc/shadow", "https://u:p@t/",
					   "nonsense" };
	struct http_client *http = http_new(&(struct http_conf){ 0 });

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct challenge c = { .has_bearer = true, .realm = strdup(bad[i]) };
		struct cred nobody = { 0 };
		struct auth_ask ask = { .challenge = &c, .cred = &nobody, .registry_url = "https://r" };
		auto_response struct http_response answer = { 0 };
		unsigned seconds = 0;
		char *value = NULL;

		CHECK_ERR(ERR_INVALID, auth_obtain(http, &ask, &answer, &value, &seconds));
		challenge_fini(&c);
	}
	http_free(http);
}
