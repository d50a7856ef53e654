/*
 * pattern.h - file name patterns: those of COPY sources (Go's filepath.Match) and those of .dockerignore.
 *
 * Layer: build.  Pure.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include <stdbool.h>
#include <stddef.h>

/* Go's filepath.Match: * and ? within a component, [a-z] [^a-z], backslash escapes. A malformed pattern matches nothing. */
bool pattern_match(const char *pattern, const char *name);
bool pattern_is_literal(const char *pattern);

/* .dockerignore and --exclude: the last pattern that matches a path or a parent of it decides. */
struct ignore {
	struct ignore_rule {
		char *pattern; /* cleaned, without "!" */
		bool is_negative;
	} * rules;
	size_t n, cap;
};
/* Text of a .dockerignore: one pattern a line, # comments in column 0. ERR_INVALID names the pattern. */
FALLIBLE ignore_parse(struct sv text, struct ignore *out_rules);
FALLIBLE ignore_add(struct ignore *g, struct sv pattern);
void ignore_fini(struct ignore *g);
/* path: relative, clean, without leading slash. */
bool ignore_excludes(const struct ignore *g, const char *path);
/* Whether an excluded directory has to be looked into, as a negative pattern may match below it. */
bool ignore_may_include_below(const struct ignore *g, const char *dir);

/* path as Go's filepath.Clean has it after joining it to "/": absolute, no "." nor ".."; owned. */
char *path_clean(struct sv path);
/* base + "/" + path, unless path is absolute; clean, owned. */
char *path_join(const char *base, const char *path);
