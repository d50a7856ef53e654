#include "registry/auth.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/enc.h"
#include "codec/json.h"
#include "http/url.h"
#include "registry/fault.h"
#include <strings.h>

#define TOKEN_MAX_BYTES (1u << 20)
#define CLIENT_ID       "hoy"

static bool is_token(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("!#$%&'*+-.^_`|~", c));
}

static struct sv take_token(const char **p)
{
	const char *from = *p;

	while (is_token(**p))
		(*p)++;
	return sv_from(from, (size_t)(*p - from));
}

/* A quoted string or a bare word, at *p; owned. */
static char *take_value(const char **p)
{
	auto_buf struct buf b = BUF(8192);

	if (**p != '"') {
		size_t n = strcspn(*p, ", \t");
		char *word = xstrndup(*p, n);

		*p += n;
		return word;
	}
	for ((*p)++; **p && **p != '"'; (*p)++) {
		if (**p == '\\' && (*p)[1])
			(*p)++;
		buf_ch(&b, **p);
	}
	if (**p == '"')
		(*p)++;
	return buf_take(&b);
}

static void skip(const char **p, const char *set)
{
	*p += strspn(*p, set);
}

static void keep_param(struct challenge *c, struct sv name, char *value)
{
	char **slot = NULL;

	if (name.n == 5 && strncasecmp(name.p, "realm", 5) == 0)
		slot = &c->realm;
	else if (name.n == 7 && strncasecmp(name.p, "service", 7) == 0)
		slot = &c->service;
	else if (name.n == 5 && strncasecmp(name.p, "scope", 5) == 0)
		slot = &c->scope;
	if (slot && !*slot)
		*slot = value;
	else
		free(value);
}

void challenge_parse(const char *header, struct challenge *c)
{
	const char *p = header;
	bool in_bearer = false;

	for (;;) {
		struct sv word;

		skip(&p, ", \t");
		word = take_token(&p);
		if (word.n == 0)
			return;
		skip(&p, " \t");
		if (*p == '=') { /* a parameter of the scheme before it */
			char *value;

			p++;
			skip(&p, " \t");
			value = take_value(&p);
			if (in_bearer)
				keep_param(c, word, value);
			else
				free(value);
			continue;
		}
		in_bearer = word.n == 6 && strncasecmp(word.p, "Bearer", 6) == 0 && !c->has_bearer;
		c->has_bearer = c->has_bearer || in_bearer;
		c->has_basic = c->has_basic || (word.n == 5 && strncasecmp(word.p, "Basic", 5) == 0);
	}
}

void challenge_fini(struct challenge *c)
{
	free(c->realm);
	free(c->service);
	free(c->scope);
	*c = (struct challenge){ 0 };
}

static char *basic(const struct cred *c)
{
	auto_buf struct buf plain = BUF(64u << 10), out = BUF(128u << 10);

	buf_fmt(&plain, "%s:%s", c->user, c->password ? c->password : "");
	buf_str(&out, "Basic ");
	enc_base64(plain.data, plain.n, &out);
	explicit_bzero(plain.data, plain.n);
	return buf_take(&out);
}

/* *out_may: whether secrets may be shown to the token server at realm. */
static struct err *judge_realm(const struct auth_ask *ask, bool *out_may)
{
	auto_url struct url realm = { 0 }, registry = { 0 };
	bool is_verified, is_same_host;
	struct err *e;

	if (!ask->challenge->realm)
		return FAIL(ERR_INVALID, "the registry asks for a token and does not say where to get it");
	e = url_parse(ask->challenge->realm, &realm);
	if (e)
		return err_ctx(e, "token server");
	TRY(url_parse(ask->registry_url, &registry));
	is_verified = strcmp(registry.scheme, "https") == 0 && !ask->is_insecure;
	is_same_host = strcasecmp(registry.host, realm.host) == 0;
	if (strcmp(realm.scheme, "https") != 0 && strcmp(registry.scheme, "https") == 0 && !ask->is_insecure)
		return FAIL(ERR_INVALID, "refused the token server of %s: it is not https", registry.host);
	*out_may = is_verified || is_same_host;
	return NULL;
}

static void add_field(struct buf *b, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	buf_fmt(b, "%s%s=", b->n ? "&" : "", name);
	enc_percent(sv_of(value), b);
}

/* distribution auth/token.md: GET with the query, Basic when we have a password. */
static struct err *get_token(struct http_client *http, const struct auth_ask *ask, bool may,
			     struct http_response *out)
{
	const struct challenge *c = ask->challenge;
	auto_buf struct buf query = BUF(64u << 10);
	auto_free char *url = NULL, *authorization = NULL;
	bool has_user = may && ask->cred->user;

	add_field(&query, "service", c->service);
	for (size_t i = 0; ask->scopes && ask->scopes[i]; i++)
		add_field(&query, "scope", ask->scopes[i]);
	add_field(&query, "client_id", CLIENT_ID);
	if (has_user) {
		add_field(&query, "account", ask->cred->user);
		authorization = basic(ask->cred);
	}
	url = xasprintf("%s%s%s", c->realm, strchr(c->realm, '?') ? "&" : "?", buf_text(&query));
	return http_call(http,
			 &(struct http_request){ .method = "GET",
						 .url = url,
						 .authorization = authorization,
						 .redirects = 5,
						 .max_body = TOKEN_MAX_BYTES },
			 out);
}

/* distribution auth/oauth.md: POST of a form with the refresh token. */
static struct err *post_token(struct http_client *http, const struct auth_ask *ask, struct http_response *out)
{
	static const char *const headers[] = { "Content-Type: application/x-www-form-urlencoded", NULL };
	auto_buf struct buf form = BUF(64u << 10), scopes = BUF(8192);

	add_field(&form, "grant_type", "refresh_token");
	add_field(&form, "service", ask->challenge->service);
	add_field(&form, "client_id", CLIENT_ID);
	for (size_t i = 0; ask->scopes && ask->scopes[i];
	     i++) /* oauth.md: one parameter, separated by spaces */
		buf_fmt(&scopes, "%s%s", i ? " " : "", ask->scopes[i]);
	add_field(&form, "scope", buf_text(&scopes));
	add_field(&form, "refresh_token", ask->cred->identity_token);
	return http_call(http,
			 &(struct http_request){ .method = "POST",
						 .url = ask->challenge->realm,
						 .headers = headers,
						 .has_body = true,
						 .bytes = form.data,
						 .body_size = form.n,
						 .max_body = TOKEN_MAX_BYTES },
			 out);
}

static bool is_header_text(const char *s)
{
	for (; *s; s++)
		if (*s <= ' ' || *s > '~')
			return false;
	return true;
}

static struct err *read_token(const struct http_response *r, const char *realm, char **out_value,
			      unsigned *out_seconds)
{
	auto_free char *at = url_display(realm);
	auto_json json_t *doc = NULL;
	const char *token;
	int64_t seconds;
	struct err *e;

	if (r->status != 200)
		return err_ctx(fault_of(r), "token server %s", at);
	e = json_parse(sv_from(buf_text(&r->body), r->body.n), "answer", TOKEN_MAX_BYTES, &doc);
	if (e)
		return err_ctx(e, "token server %s", at);
	token = json_str_at(doc, "token", "");
	if (!*token)
		token = json_str_at(doc, "access_token", "");
	if (!*token || !is_header_text(token))
		return FAIL(ERR_INVALID, "token server %s: the answer has no token", at);
	seconds = json_int_at(doc, "expires_in", 60);
	*out_seconds = seconds < 60 ? 60 : seconds > 86400 ? 86400 : (unsigned)seconds;
	*out_value = xasprintf("Bearer %s", token);
	return NULL;
}

struct err *auth_obtain(struct http_client *http, const struct auth_ask *ask, struct http_response *out_answer,
			char **out_value, unsigned *out_seconds)
{
	bool may = false;

	*out_value = NULL;
	*out_seconds = 86400;
	if (ask->cred->registry_token) {
		*out_value = xasprintf("Bearer %s", ask->cred->registry_token);
		return NULL;
	}
	if (!ask->challenge->has_bearer) {
		if (ask->challenge->has_basic && ask->cred->user)
			*out_value = basic(ask->cred);
		return NULL;
	}
	TRY(judge_realm(ask, &may));
	if (may && ask->cred->identity_token)
		TRY(post_token(http, ask, out_answer));
	else
		TRY(get_token(http, ask, may, out_answer));
	return read_token(out_answer, ask->challenge->realm, out_value, out_seconds);
}
