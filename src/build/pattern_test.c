#include "build/pattern.h"
#include "base/own.h"
#include "harness/t.h"

TEST(source_patterns_are_those_of_go)
{
	static const struct {
		const char *pattern, *name;
		bool want;
	} t[] = {
		{ "*.c", "a.c", true },	       { "*.c", "a.h", false },	      { "a*", "a", true },	{ "?", "ab", false },
		{ "[a-c]x", "bx", true },      { "[^a-c]x", "bx", false },    { "[[]x", "[x", true },	{ "\\*", "*", true },
		{ "\\*", "a", false },	       { "*", "a/b", false },	      { "[a", "a", false },	{ "a[]x", "a]", false },
		{ "[]a]", "]", true },	       { "h*llo*", "hellooo", true }, { "**", "ab", true },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		CHECK(pattern_match(t[i].pattern, t[i].name) == t[i].want);
}

TEST(dockerignore_table)
{
	static const struct {
		const char *text, *path;
		bool want;
	} t[] = {
		{ "*.log", "a.log", true },
		{ "*.log", "d/a.log", false },
		{ "**/*.log", "a.log", true },
		{ "**/*.log", "d/e/a.log", true },
		{ "*/temp*", "d/temporary.txt", true },
		{ "*/temp*", "temp", false },
		{ "temp?", "tempa", true },
		{ "temp?", "temp", false },
		{ "node_modules", "node_modules/x/y", true },
		{ "/node_modules/", "node_modules/x", true },
		{ "node_modules", "a/node_modules", false },
		{ "**/node_modules", "a/b/node_modules/c", true },
		{ "*\n!keep", "keep", false },
		{ "*\n!keep", "keep/inside", false },
		{ "*\n!keep", "drop", true },
		{ "*.md\n!README*.md\nREADME-secret.md", "README-secret.md", true },
		{ "*.md\nREADME-secret.md\n!README*.md", "README-secret.md", false },
		{ "d\n!d/f", "d/f", false },
		{ "d\n!d/f", "d/g", true },
		{ "# c\n #x", "#x", true },
		{ "# c", "# c", false },
		{ "a/../b", "b", true },
		{ "../x", "x", true },
		{ "d/**", "d/a/b", true },
		{ "d/**", "d", false },
		{ "**", "anything/at/all", true },
		{ "a/**/z", "a/z", true },
		{ "a/**/z", "a/b/c/z", true },
		{ "a**z", "a/b/z", true },
		{ "[a-b]\r\n", "a", true },
		{ ".", "a", false },
		{ "\xef\xbb\xbf" "a", "a", true },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct ignore g = { 0 };

		CHECK_OK(ignore_parse(sv_of(t[i].text), &g));
		if (ignore_excludes(&g, t[i].path) != t[i].want)
			t_fail(__FILE__, __LINE__, "\"%s\" and %s", t[i].text, t[i].path);
		ignore_fini(&g);
	}
}

TEST(excluded_directories_are_entered_only_when_it_can_matter)
{
	struct ignore g = { 0 };

	CHECK_OK(ignore_parse(SV("*\n!src/main\n!docs/*.md"), &g));
	CHECK(ignore_may_include_below(&g, "src"));
	CHECK(!ignore_may_include_below(&g, "node_modules"));
	CHECK(ignore_may_include_below(&g, "docs"));
	CHECK(!ignore_may_include_below(&g, "src/mai"));
	ignore_fini(&g);
	CHECK_OK(ignore_parse(SV("*\n!**/x"), &g));
	CHECK(ignore_may_include_below(&g, "any"));
	ignore_fini(&g);
	CHECK_ERR(ERR_INVALID, ignore_parse(SV("a\n!\n"), &g));
}

TEST(paths_cannot_leave_the_root)
{
	static const char *const t[][2] = { { "a/b", "/a/b" },	 { "../../x", "/x" }, { "/a/./b/../c/", "/a/c" }, { "", "/" },
					    { "..", "/" }, { "a//b", "/a/b" }, { "a/../..", "/" } };

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		auto_free char *p = path_clean(sv_of(t[i][0]));

		CHECK_STR(p, t[i][1]);
	}
	auto_free char *j = path_join("/srv", "x/../y"), *k = path_join("/srv", "/abs");

	CHECK_STR(j, "/srv/y");
	CHECK_STR(k, "/abs");
}
