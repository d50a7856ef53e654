/* pattern.c - patterns of file names; see pattern.h. */
#include "build/pattern.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/vec.h"

enum { PATTERN_MAX = 4096 };

/* One class "[…]" at *p against c; *p behind it. -1: malformed. */
static int class_matches(const char **p, char c)
{
	const char *s = *p + 1;
	bool negated = *s == '^', hit = false;

	if (negated)
		s++;
	for (bool first = true; *s && (*s != ']' || first); first = false) {
		char low, high;

		if (*s == '\\' && s[1])
			s++;
		low = high = *s++;
		if (*s == '-' && s[1] && s[1] != ']') {
			s++;
			if (*s == '\\' && s[1])
				s++;
			high = *s++;
		}
		hit = hit || (low <= c && c <= high);
	}
	if (*s != ']')
		return -1;
	*p = s + 1;
	return hit != negated;
}

/* deep: ** crosses slashes, as .dockerignore has it. */
static bool match(const char *p, const char *s, bool deep)
{
	while (*p) {
		if (deep && p[0] == '*' && p[1] == '*') {
			while (*p == '*')
				p++;
			if (*p == '/') { /* any number of directories, also none */
				for (const char *at = s; at; at = strchr(at, '/') ? strchr(at, '/') + 1 : NULL)
					if (match(p + 1, at, deep))
						return true;
				return false;
			}
			do
				if (match(p, s, deep))
					return true;
			while (*s++);
			return false;
		}
		if (*p == '*') {
			do
				if (match(p + 1, s, deep))
					return true;
			while (*s && *s++ != '/');
			return false;
		}
		if (!*s)
			return false;
		if (*p == '[') {
			if (*s == '/' || class_matches(&p, *s) != 1)
				return false;
			s++;
			continue;
		}
		if (*p == '?') {
			if (*s == '/')
				return false;
		} else {
			if (*p == '\\' && p[1])
				p++;
			if (*p != *s)
				return false;
		}
		p++;
		s++;
	}
	return !*s;
}

bool pattern_match(const char *pattern, const char *name)
{
	return match(pattern, name, false);
}

bool pattern_is_literal(const char *pattern)
{
	return !strpbrk(pattern, "*?[\\");
}

/* ---- paths ---- */

char *path_clean(struct sv path)
{
	auto_buf struct buf b = BUF(1u << 20);

	while (path.n) {
		struct sv part = sv_cut(&path, '/');

		if (!part.n || sv_is(part, "."))
			continue;
		if (sv_is(part, "..")) {
			while (b.n && b.data[--b.n] != '/')
				;
			continue;
		}
		buf_ch(&b, '/');
		buf_sv(&b, part);
	}
	if (!b.n)
		buf_ch(&b, '/');
	else
		b.data[b.n] = 0;
	return buf_take(&b);
}

char *path_join(const char *base, const char *path)
{
	auto_free char *joined = path[0] == '/' ? xstrdup(path) : xasprintf("%s/%s", base, path);

	return path_clean(sv_of(joined));
}

/* ---- .dockerignore ---- */

FALLIBLE ignore_add(struct ignore *g, struct sv pattern)
{
	struct {
		struct ignore_rule *p;
		size_t n, cap;
	} v = { g->rules, g->n, g->cap };
	auto_free char *clean = NULL;
	struct ignore_rule *rule;
	bool negative;

	pattern = sv_trim(pattern);
	negative = pattern.n && pattern.p[0] == '!';
	if (negative)
		pattern = sv_trim(sv_skip(pattern, 1));
	if (!pattern.n)
		return negative ? FAIL(ERR_INVALID, "illegal exclusion pattern: \"!\"") : NULL;
	if (pattern.n > PATTERN_MAX)
		return FAIL(ERR_LIMIT, "exclusion pattern longer than %d bytes", PATTERN_MAX);
	clean = path_clean(pattern);
	if (strcmp(clean, "/") == 0)
		return NULL; /* "." and "/" name the root itself, which nobody means to exclude */
	rule = vec_push(&v);
	rule->pattern = xstrdup(clean + 1);
	rule->is_negative = negative;
	g->rules = v.p;
	g->n = v.n;
	g->cap = v.cap;
	return NULL;
}

FALLIBLE ignore_parse(struct sv text, struct ignore *out_rules)
{
	CLEANUP(ignore_fini) struct ignore g = { 0 };

	if (sv_starts(text, SV("\xef\xbb\xbf")))
		text = sv_skip(text, 3);
	while (text.n) {
		struct sv line = sv_cut(&text, '\n');

		if (line.n && line.p[0] == '#')
			continue;
		TRY(ignore_add(&g, line));
	}
	*out_rules = g;
	g = (struct ignore){ 0 };
	return NULL;
}

void ignore_fini(struct ignore *g)
{
	for (size_t i = 0; i < g->n; i++)
		free(g->rules[i].pattern);
	free(g->rules);
	*g = (struct ignore){ 0 };
}

static bool rule_matches(const struct ignore_rule *r, const char *path)
{
	char parent[PATTERN_MAX * 2];
	size_t n = strlen(path);

	if (match(r->pattern, path, true))
		return true;
	if (n >= sizeof parent)
		return false;
	memcpy(parent, path, n + 1);
	while (n-- > 0) {
		if (parent[n] != '/')
			continue;
		parent[n] = 0;
		if (match(r->pattern, parent, true))
			return true;
	}
	return false;
}

bool ignore_excludes(const struct ignore *g, const char *path)
{
	bool excluded = false;

	for (size_t i = 0; i < g->n; i++)
		if (g->rules[i].is_negative == excluded && rule_matches(&g->rules[i], path))
			excluded = !excluded;
	return excluded;
}

bool ignore_may_include_below(const struct ignore *g, const char *dir)
{
	size_t n = strlen(dir);

	for (size_t i = 0; i < g->n; i++) {
		const char *p = g->rules[i].pattern;
		size_t literal = strcspn(p, "*?[\\"), common = literal < n ? literal : n;

		if (!g->rules[i].is_negative || strncmp(p, dir, common) != 0)
			continue;
		if (p[literal] || (literal > n && p[n] == '/')) /* a wildcard from here on, or a name below */
			return true;
	}
	return false;
}
