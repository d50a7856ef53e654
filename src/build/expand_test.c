/* The table of the Dockerfile reference and of POSIX parameter expansion. */
#include "build/expand.h"
#include "harness/t.h"
#include <string.h>

static const char *get(void *ctx, const char *name)
{
	static const char *const vars[][2] = { { "HOME", "/root" }, { "EMPTY", "" }, { "P", "/a/b/c.tar.gz" }, { "W", "hello" },
					       { "N", "foofoo" },   { "GLOB", "*" } };

	(void)ctx;
	for (size_t i = 0; i < sizeof vars / sizeof *vars; i++)
		if (strcmp(vars[i][0], name) == 0)
			return vars[i][1];
	return NULL;
}

static const struct {
	const char *in, *want; /* want NULL: an error */
} table[] = {
	{ "plain", "plain" },
	{ "$W", "hello" },
	{ "a$W-b", "ahello-b" },
	{ "${W}x", "hellox" },
	{ "$UNSET.", "." },
	{ "'$W'", "$W" },
	{ "\"$W\"", "hello" },
	{ "\\$W", "$W" },
	{ "\"\\$W\"", "$W" },
	{ "\"a\\b\"", "a\\b" },
	{ "a\\b", "ab" },
	{ "a\\ b", "a b" },
	{ "$", "$" },
	{ "$$", "" },
	{ "$1a", "a" },
	{ "$@x", "x" },
	{ "a$.b", "a$.b" },
	{ "${UNSET:-d}", "d" },
	{ "${EMPTY:-d}", "d" },
	{ "${EMPTY-d}", "" },
	{ "${UNSET-d}", "d" },
	{ "${W:-d}", "hello" },
	{ "${W:+y}", "y" },
	{ "${EMPTY:+y}", "" },
	{ "${EMPTY+y}", "y" },
	{ "${UNSET+y}", "" },
	{ "${UNSET:-${W}}", "hello" },
	{ "${UNSET:-$W/x}", "hello/x" },
	{ "${UNSET:-${UNSET:-deep}}", "deep" },
	{ "${UNSET:-\"a b\"}", "a b" },
	{ "${UNSET:-'}'}", "}" },
	{ "${W:?no}", "hello" },
	{ "${EMPTY?no}", "" },
	{ "${P#/}", "a/b/c.tar.gz" },
	{ "${P#*/}", "a/b/c.tar.gz" },
	{ "${P##*/}", "c.tar.gz" },
	{ "${P%.*}", "/a/b/c.tar" },
	{ "${P%%.*}", "/a/b/c" },
	{ "${P%x}", "/a/b/c.tar.gz" },
	{ "${P#?a}", "/b/c.tar.gz" },
	{ "${W#\\*}", "hello" },
	{ "${GLOB#\\*}", "" },
	{ "${N/o/0}", "f0ofoo" },
	{ "${N//o/0}", "f00f00" },
	{ "${N/foo/}", "foo" },
	{ "${N//foo/$W}", "hellohello" },
	{ "${N/f*f/x}", "xoo" },
	{ "${UNSET/a/b}", "" },
	{ "${", NULL },
	{ "${}", NULL },
	{ "${:x}", NULL },
	{ "${W", NULL },
	{ "${W:", NULL },
	{ "${W:x}", NULL },
	{ "${W:-", NULL },
	{ "${UNSET:?}", NULL },
	{ "${UNSET?gone}", NULL },
	{ "${EMPTY:?gone}", NULL },
	{ "'open", NULL },
	{ "\"open", NULL },
	{ "\"open\\", NULL },
};

TEST(expansion_table)
{
	struct expand x = { .escape = '\\', .get = get };

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct buf out = BUF(4096);

		if (table[i].want) {
			CHECK_OK(expand_word(&x, sv_of(table[i].in), &out));
			CHECK_STR(buf_text(&out), table[i].want);
		} else {
			CHECK_ERR(ERR_INVALID, expand_word(&x, sv_of(table[i].in), &out));
		}
		buf_fini(&out);
	}
}

TEST(an_error_says_what_was_missing)
{
	struct expand x = { .escape = '\\', .get = get };
	struct buf out = BUF(4096);
	struct err *e = expand_word(&x, SV("${UNSET:?set me}"), &out);

	CHECK_STR(e->msg, "UNSET: set me");
	err_free(e);
	e = expand_word(&x, SV("${UNSET?}"), &out);
	CHECK_STR(e->msg, "UNSET: not allowed to be unset");
	err_free(e);
	buf_fini(&out);
}

TEST(the_escape_character_can_be_a_backtick)
{
	struct expand x = { .escape = '`', .get = get };
	struct buf out = BUF(4096);

	CHECK_OK(expand_word(&x, SV("C:\\x\\$W`$W"), &out));
	CHECK_STR(buf_text(&out), "C:\\x\\hello$W");
	buf_fini(&out);
}

TEST(heredoc_text_keeps_quotes)
{
	struct expand x = { .escape = '\\', .get = get, .keep_quotes = true };
	struct buf out = BUF(4096);

	CHECK_OK(expand_word(&x, SV("it's \"$W\" \\$W \\n\n"), &out));
	CHECK_STR(buf_text(&out), "it's \"hello\" $W \\n\n");
	buf_fini(&out);
}

TEST(depth_and_size_are_limited)
{
	struct expand x = { .escape = '\\', .get = get };
	struct buf out = BUF(4), deep = BUF(4096), big = BUF(4096);

	CHECK_ERR(ERR_LIMIT, expand_word(&x, SV("$W"), &out));
	for (int i = 0; i < 40; i++)
		buf_str(&deep, "${U:-");
	CHECK_ERR(ERR_LIMIT, expand_word(&x, sv_of(buf_text(&deep)), &big));
	buf_fini(&out);
	buf_fini(&deep);
	buf_fini(&big);
}
