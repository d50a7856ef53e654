/* sv.h - a borrowed string: pointer and length, passed by value, not terminated. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct sv {
	const char *p;
	size_t n;
};

#define SV(literal) ((struct sv){ "" literal, sizeof(literal) - 1 })
#define SV_FMT	    "%.*s"
#define SV_ARG(s)   (int)(s).n, (s).p

static inline struct sv sv_of(const char *s)
{
	return (struct sv){ s, s ? strlen(s) : 0 };
}
static inline struct sv sv_from(const char *p, size_t n)
{
	return (struct sv){ p, n };
}
static inline bool sv_eq(struct sv a, struct sv b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool sv_is(struct sv a, const char *s)
{
	return sv_eq(a, sv_of(s));
}
static inline bool sv_starts(struct sv a, struct sv prefix)
{
	return a.n >= prefix.n && (prefix.n == 0 || memcmp(a.p, prefix.p, prefix.n) == 0);
}
static inline bool sv_ends(struct sv a, struct sv suffix)
{
	return a.n >= suffix.n && (suffix.n == 0 || memcmp(a.p + a.n - suffix.n, suffix.p, suffix.n) == 0);
}
/* Everything from byte `at` on; empty beyond the end. */
static inline struct sv sv_skip(struct sv a, size_t at)
{
	return at >= a.n ? (struct sv){ a.p + a.n, 0 } : (struct sv){ a.p + at, a.n - at };
}
/* Cuts *rest at the first c: returns what stands before it and leaves what follows; without c, takes all. */
static inline struct sv sv_cut(struct sv *rest, char c)
{
	const char *at = rest->n ? memchr(rest->p, c, rest->n) : NULL;
	struct sv head = *rest;

	if (!at) {
		*rest = (struct sv){ rest->p + rest->n, 0 };
		return head;
	}
	head.n = (size_t)(at - rest->p);
	*rest = sv_skip(*rest, head.n + 1);
	return head;
}
static inline struct sv sv_trim(struct sv a)
{
	while (a.n && (a.p[0] == ' ' || a.p[0] == '\t' || a.p[0] == '\n' || a.p[0] == '\r'))
		a = sv_skip(a, 1);
	while (a.n && (a.p[a.n - 1] == ' ' || a.p[a.n - 1] == '\t' || a.p[a.n - 1] == '\n' || a.p[a.n - 1] == '\r'))
		a.n--;
	return a;
}
