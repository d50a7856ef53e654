/*
 * expand.h - variables and quotes in words of a Dockerfile, as the shell has them.
 *
 * $x ${x} ${x:-w} ${x-w} ${x:+w} ${x+w} ${x:?m} ${x?m} ${x#p} ${x##p} ${x%p} ${x%%p} ${x/p/r} ${x//p/r}; w, p, r are expanded
 * themselves; patterns know * and ?. Unset is empty.
 * Layer: build.  Pure.  Limits: the buffer's; depth 32.  Errors: ERR_INVALID without place.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/sv.h"

struct expand {
	char escape; /* '\\' or '`' */
	const char *(*get)(void *ctx, const char *name); /* NULL: unset; borrowed until the next call */
	void *ctx;
	bool keep_quotes; /* heredoc text: only variables and escaped dollars are special */
};
FALLIBLE expand_word(const struct expand *x, struct sv word, struct buf *out);
