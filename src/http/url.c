#include "http/url.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sv.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <strings.h>

OWN_DEFINE(CURLU *, curlu, curl_url_cleanup)
#define auto_curlu __attribute__((cleanup(own_curlu)))

static CURLU *new_curlu(void)
{
	CURLU *u = curl_url();

	if (!u)
		abort(); /* no memory, as xmalloc */
	return u;
}

/* A part as our own string, or NULL when it is absent. */
static char *part(CURLU *u, CURLUPart what, unsigned flags)
{
	char *text = NULL, *copy;

	if (curl_url_get(u, what, &text, flags) != CURLUE_OK)
		return NULL;
	copy = xstrdup(text);
	curl_free(text);
	return copy;
}

struct err *url_parse(const char *text, struct url *out_url)
{
	auto_curlu CURLU *u = new_curlu();
	auto_free char *user = NULL, *password = NULL, *explicit = NULL, *shown = NULL;
	auto_url struct url url = { 0 };

	shown = url_display(text);
	if (curl_url_set(u, CURLUPART_URL, text, 0) != CURLUE_OK)
		return FAIL(ERR_INVALID, "bad URL \"%s\"", shown);
	url.scheme = part(u, CURLUPART_SCHEME, 0);
	url.host = part(u, CURLUPART_HOST, 0);
	url.port = part(u, CURLUPART_PORT, CURLU_DEFAULT_PORT);
	explicit = part(u, CURLUPART_PORT, 0);
	url.has_port = explicit != NULL;
	user = part(u, CURLUPART_USER, 0);
	password = part(u, CURLUPART_PASSWORD, 0);
	if (!url.scheme || !url.host || !url.port ||
	    (strcmp(url.scheme, "http") && strcmp(url.scheme, "https")))
		return FAIL(ERR_INVALID, "bad URL \"%s\": wanted http:// or https://", shown);
	if (user || password)
		return FAIL(ERR_INVALID, "bad URL: it has a user or password inside");
	*out_url = url;
	url = (struct url){ 0 };
	return NULL;
}

void url_fini(struct url *u)
{
	free(u->scheme);
	free(u->host);
	free(u->port);
	*u = (struct url){ 0 };
}

bool url_same_origin(const struct url *a, const struct url *b)
{
	return strcmp(a->scheme, b->scheme) == 0 && strcasecmp(a->host, b->host) == 0 &&
	       strcmp(a->port, b->port) == 0;
}

struct err *url_resolve(const char *base, const char *reference, char **out_url)
{
	auto_curlu CURLU *u = new_curlu();
	auto_free char *shown = NULL, *text = NULL;
	auto_url struct url check = { 0 };

	/* setting a relative reference over a whole URL resolves it; spaces are not ours to mend */
	if (curl_url_set(u, CURLUPART_URL, base, 0) != CURLUE_OK ||
	    curl_url_set(u, CURLUPART_URL, reference, 0) != CURLUE_OK ||
	    !(text = part(u, CURLUPART_URL, 0))) {
		shown = url_display(reference);
		return FAIL(ERR_INVALID, "bad Location \"%s\"", shown);
	}
	TRY(url_parse(text, &check));
	*out_url = TAKE(text);
	return NULL;
}

bool url_host_is_loopback(const char *host)
{
	struct sv h = sv_of(host);
	unsigned char ip[16];
	char plain[64];

	if (h.n >= 2 && h.p[0] == '[' && h.p[h.n - 1] == ']')
		h = sv_from(h.p + 1, h.n - 2);
	if (h.n >= sizeof plain)
		return false;
	memcpy(plain, h.p, h.n);
	plain[h.n] = '\0';
	if (strcasecmp(plain, "localhost") == 0)
		return true;
	if (inet_pton(AF_INET, plain, ip) == 1)
		return ip[0] == 127;
	return inet_pton(AF_INET6, plain, ip) == 1 && memcmp(ip, (const char[15]){ 0 }, 15) == 0 &&
	       ip[15] == 1;
}

char *url_display(const char *text)
{
	size_t n = strcspn(text, "?#");
	const char *scheme_end = strstr(text, "://"), *user_end = NULL;
	auto_free char *plain = xstrndup(text, n);
	char *shown;

	/* whoever wrote a password there does not want to see it again */
	if (scheme_end && scheme_end < text + n)
		user_end = strchr(plain + (scheme_end - text), '@');
	shown = user_end ? xasprintf("%.*s://...%.180s", (int)(scheme_end - text), text, user_end)
			 : xasprintf("%.200s", plain);
	for (char *p = shown; *p; p++)
		if ((unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
			*p = '?';
	return shown;
}
