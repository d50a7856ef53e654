#include "image/ref.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/digest.h"
#include <ctype.h>

enum { PATH_MAX_BYTES = 255, TAG_MAX_BYTES = 128 };
static const char default_domain[] = "docker.io";
static const char library[] = "library/";

static bool is_lower_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_word(char c)
{
	return is_lower_alnum(c) || (c >= 'A' && c <= 'Z') || c == '_';
}

/* alnum groups joined by one '.', one or two '_', or any number of '-' */
static bool is_component(struct sv s)
{
	size_t i = 0;

	for (;;) {
		size_t start = i;

		while (i < s.n && is_lower_alnum(s.p[i]))
			i++;
		if (i == start)
			return false;
		if (i == s.n)
			return true;
		if (s.p[i] == '.') {
			i++;
		} else if (s.p[i] == '_') {
			i++;
			if (i < s.n && s.p[i] == '_')
				i++;
		} else if (s.p[i] == '-') {
			while (i < s.n && s.p[i] == '-')
				i++;
		} else {
			return false;
		}
	}
}

static bool is_path(struct sv s)
{
	if (!s.n)
		return false;
	while (s.n) {
		bool more = memchr(s.p, '/', s.n) != NULL;

		if (!is_component(sv_cut(&s, '/')) || (more && !s.n))
			return false;
	}
	return true;
}

static bool is_port(struct sv s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!isdigit((unsigned char)s.p[i]))
			return false;
	return s.n > 0 && s.n <= 5;
}

/* labels of letters, digits and inner dashes, joined by dots; or [ipv6]; then an optional port */
static bool is_domain(struct sv s)
{
	struct sv host;

	if (s.n && s.p[0] == '[') {
		const char *end = memchr(s.p, ']', s.n);

		return end && (end == s.p + s.n - 1 || (end[1] == ':' && is_port(sv_skip(s, (size_t)(end - s.p) + 2))));
	}
	if (memchr(s.p, ':', s.n)) {
		host = sv_cut(&s, ':');
		if (!is_port(s))
			return false;
	} else {
		host = s;
	}
	if (!host.n)
		return false;
	while (host.n) {
		bool more = memchr(host.p, '.', host.n) != NULL;
		struct sv label = sv_cut(&host, '.');

		if (!label.n || label.p[0] == '-' || label.p[label.n - 1] == '-' || (more && !host.n))
			return false;
		for (size_t i = 0; i < label.n; i++)
			if (!isalnum((unsigned char)label.p[i]) && label.p[i] != '-')
				return false;
	}
	return true;
}

bool ref_tag_is_valid(struct sv s)
{
	if (!s.n || s.n > TAG_MAX_BYTES || !is_word(s.p[0]))
		return false;
	for (size_t i = 1; i < s.n; i++)
		if (!is_word(s.p[i]) && s.p[i] != '.' && s.p[i] != '-')
			return false;
	return true;
}

static bool has_upper(struct sv s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] >= 'A' && s.p[i] <= 'Z')
			return true;
	return false;
}

static bool names_domain(struct sv first)
{
	return memchr(first.p, '.', first.n) || memchr(first.p, ':', first.n) || sv_is(first, "localhost") ||
	       has_upper(first);
}

/* Cuts "@digest" and ":tag" off the end of *name. */
static FALLIBLE cut_ends(const char *text, struct sv *name, struct ref *r)
{
	const char *at = memchr(name->p, '@', name->n), *colon;

	if (at) {
		struct sv digest = sv_skip(*name, (size_t)(at - name->p) + 1);

		if (!digest_is_valid(digest))
			return FAIL(ERR_INVALID, "invalid reference format: \"%s\": bad digest", text);
		r->digest = xstrndup(digest.p, digest.n);
		name->n = (size_t)(at - name->p);
	}
	colon = memrchr(name->p, ':', name->n);
	if (colon && !memchr(colon, '/', name->n - (size_t)(colon - name->p))) {
		struct sv tag = sv_skip(*name, (size_t)(colon - name->p) + 1);

		if (!ref_tag_is_valid(tag))
			return FAIL(ERR_INVALID, "invalid reference format: \"%s\": bad tag", text);
		r->tag = xstrndup(tag.p, tag.n);
		name->n = (size_t)(colon - name->p);
	}
	return NULL;
}

static FALLIBLE parse(const char *text, struct ref *r)
{
	struct sv name = sv_of(text), first, path;

	if (name.n == 64 && text_is_hex(name))
		return FAIL(ERR_INVALID, "invalid repository name (%s): cannot be 64 hexadecimal digits", text);
	TRY(cut_ends(text, &name, r));
	path = name;
	first = name.n && memchr(name.p, '/', name.n) ? sv_cut(&path, '/') : (struct sv){ NULL, 0 };
	if (!first.n || !names_domain(first)) {
		first = SV("docker.io");
		path = name;
	} else if (sv_is(first, "index.docker.io")) {
		first = SV("docker.io");
	}
	if (has_upper(path))
		return FAIL(ERR_INVALID, "invalid reference format: repository name (%.*s) must be lowercase", (int)path.n,
			    path.p);
	if (!is_path(path) || !is_domain(first))
		return FAIL(ERR_INVALID, "invalid reference format: \"%s\"", text);
	r->domain = xstrndup(first.p, first.n);
	r->path = sv_is(first, default_domain) && !memchr(path.p, '/', path.n) ?
			  xasprintf("%s%.*s", library, (int)path.n, path.p) :
			  xstrndup(path.p, path.n);
	if (strlen(r->domain) + 1 + strlen(r->path) > PATH_MAX_BYTES)
		return FAIL(ERR_INVALID, "invalid reference format: repository name is longer than %d bytes", PATH_MAX_BYTES);
	if (!r->tag && !r->digest)
		r->tag = xstrdup("latest");
	return NULL;
}

bool ref_is_short(const char *text)
{
	struct sv rest = sv_of(text), first = sv_from(text, 0);

	if (memchr(rest.p, '@', rest.n))
		rest = sv_cut(&rest, '@');
	if (memchr(rest.p, '/', rest.n))
		first = sv_cut(&rest, '/');
	return !first.n || !names_domain(first);
}

FALLIBLE ref_parse(const char *text, struct ref *out_ref)
{
	CLEANUP(ref_fini) struct ref r = { 0 };

	TRY(parse(text, &r));
	*out_ref = r;
	r = (struct ref){ 0 };
	return NULL;
}

void ref_fini(struct ref *r)
{
	free(r->domain);
	free(r->path);
	free(r->tag);
	free(r->digest);
	*r = (struct ref){ 0 };
}

static char *with_ends(const struct ref *r, char *repo)
{
	auto_free char *owned = repo;

	return xasprintf("%s%s%s%s%s", owned, r->tag ? ":" : "", r->tag ? r->tag : "", r->digest ? "@" : "",
			 r->digest ? r->digest : "");
}

char *ref_full(const struct ref *r)
{
	return with_ends(r, xasprintf("%s/%s", r->domain, r->path));
}

char *ref_familiar_repo(const struct ref *r)
{
	if (strcmp(r->domain, default_domain) != 0)
		return xasprintf("%s/%s", r->domain, r->path);
	if (strncmp(r->path, library, sizeof library - 1) == 0 && !strchr(r->path + sizeof library - 1, '/'))
		return xstrdup(r->path + sizeof library - 1);
	return xstrdup(r->path);
}

char *ref_familiar(const struct ref *r)
{
	return with_ends(r, ref_familiar_repo(r));
}
