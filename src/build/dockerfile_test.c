#include "build/dockerfile.h"
#include "base/buf.h"
#include "base/own.h"
#include "harness/t.h"

static void parsed(const char *text, const char *want)
{
	struct dockerfile d;
	auto_buf struct buf b = BUF(1u << 20);

	CHECK_OK(dockerfile_parse("Dockerfile", sv_of(text), &d));
	dockerfile_print(&d, &b);
	CHECK_STR(buf_text(&b), want);
	dockerfile_fini(&d);
}

TEST(lines_join_and_comments_go)
{
	parsed("# c\n\nFROM a\nRUN x \\\n# inside\n\n  y\n", "3-3 FROM (a)\n4-7 RUN (x   y)\n");
	parsed("from a as b\r\nrun x \\\r\n y\r\n", "1-1 FROM (a) (as) (b)\n2-3 RUN (x  y)\n");
	parsed("\xef\xbb\xbf# escape=`\nFROM a\nRUN x `\n y\n", "2-2 FROM (a)\n3-4 RUN (x  y)\n");
	parsed("FROM a\nRUN x \\\\\nRUN y", "1-1 FROM (a)\n2-2 RUN (x \\\\)\n3-3 RUN (y)\n");
	parsed("FROM a\nRUN x # not a comment\n", "1-1 FROM (a)\n2-2 RUN (x # not a comment)\n");
	parsed("# syntax=x\n# escape=\\\n# plain\n# escape=`\nFROM a", "5-5 FROM (a)\n");
}

TEST(forms_of_arguments)
{
	parsed("RUN [\"a\", \"b c\"]\n", "1-1 RUN json (a) (b c)\n");
	parsed("RUN [ -f x ] && y\n", "1-1 RUN ([ -f x ] && y)\n");
	parsed("COPY --from=a --chown=1:1 x y /z\n", "1-1 COPY --from=a --chown=1:1 (x) (y) (/z)\n");
	parsed("COPY --link x y\n", "1-1 COPY --link=(none) (x) (y)\n");
	parsed("RUN --mount=type=cache,target=/c x --flag\n", "1-1 RUN --mount=type=cache,target=/c (x --flag)\n");
	parsed("ENV a=1 b=\"x y\" c=x\\ y\n", "1-1 ENV (a=1) (b=\"x y\") (c=x\\ y)\n");
	parsed("ENV a  b c\n", "1-1 ENV (a=b c)\n");
	parsed("LABEL \"a b\"=c\n", "1-1 LABEL (\"a b\"=c)\n");
	parsed("ARG a b=\"1 2\"\n", "1-1 ARG (a) (b=\"1 2\")\n");
	parsed("HEALTHCHECK --interval=3s CMD x\n", "1-1 HEALTHCHECK --interval=3s (CMD x)\n");
	parsed("CMD []\n", "1-1 CMD json\n");
	parsed("ENTRYPOINT\n", "1-1 ENTRYPOINT\n");
	parsed("ONBUILD RUN x\n", "1-1 ONBUILD (RUN x)\n");
}

TEST(heredocs)
{
	parsed("RUN <<EOF\na\n# b\n\nEOF\nRUN c\n", "1-5 RUN (<<EOF) <<EOF(a\\n# b\\n\\n)\n6-6 RUN (c)\n");
	parsed("COPY <<-'A' <<\"B\" /d/\n\tx\n\tA\ny\nB\n", "1-5 COPY (<<-'A') (<<\"B\") (/d/) <<'A(x\\n) <<'B(y\\n)\n");
	parsed("RUN cat <<E >/x && y\n1\nE\n", "1-3 RUN (cat <<E >/x && y) <<E(1\\n)\n");
	parsed("RUN x <<< y\n", "1-1 RUN (x <<< y)\n");
	parsed("RUN [\"a<<b\"]\n", "1-1 RUN json (a<<b)\n");
	parsed("RUN echo $((1 << 2))\n", "1-1 RUN (echo $((1 << 2)))\n");
}

TEST(errors_show_the_place)
{
	static const char *const t[][2] = {
		{ "FROM busybox\nRUNN true\n",
		  "dockerfile parse error on line 2: unknown instruction: RUNN (did you mean RUN?)\n"
		  "Dockerfile:2\n   2 | RUNN true\n     | ^~~~" },
		{ "FROM a\n\tCMD [\"x\n", "dockerfile parse error on line 2: CMD begins like a JSON array of strings, but it is none\n"
					   "Dockerfile:2\n   2 | \tCMD [\"x\n     | \t^~~~~~~" },
		{ "FROM a\nRUN <<EOF\nx\n", "dockerfile parse error on line 2: unterminated heredoc: no line \"EOF\" follows\n"
					    "Dockerfile:2\n   2 | RUN <<EOF\n     | ^~~~~~~~~" },
		{ "", "the Dockerfile (Dockerfile) cannot be empty" },
		{ "# only\n", "the Dockerfile (Dockerfile) cannot be empty" },
		{ "FROM a\nENV\n", "dockerfile parse error on line 2: ENV requires at least one argument\n"
				   "Dockerfile:2\n   2 | ENV\n     | ^~~" },
		{ "# escape=x\nFROM a\n", "dockerfile parse error on line 1: invalid escape token 'x' does not match ` or \\\n"
					  "Dockerfile:1\n   1 | # escape=x\n     | ^~~~~~~~~~" },
	};

	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct dockerfile d;
		struct err *e = dockerfile_parse("Dockerfile", sv_of(t[i][0]), &d);

		CHECK(e && e->kind == ERR_INVALID);
		CHECK_STR(e->msg, t[i][1]);
		err_free(e);
	}
}

TEST(what_is_wrong_is_refused)
{
	static const char *const bad[] = { "ENV a", "ENV a=1 b", "ENV =x", "SHELL /bin/sh", "RUN [\"a\", 1]", "LABEL", "ZZZ",
					   "# escape=\\\n# escape=\\\nFROM a", "SHELL", "ENV a=1 =2" };

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct dockerfile d;

		CHECK_ERR(ERR_INVALID, dockerfile_parse("Dockerfile", sv_of(bad[i]), &d));
	}
}

TEST(any_bytes_end_in_a_result_or_an_error)
{
	static const char seed[] = "FROM a\nRUN [\"x\", <<E\\\n\tENV a=\"b\nCOPY --from='x <<-\"Q\" \\\n#\n\rONBUILD ADD";
	char text[sizeof seed];

	for (unsigned n = 0; n < 20000; n++) {
		struct dockerfile d;
		unsigned r = n * 2654435761u;
		struct err *e;

		memcpy(text, seed, sizeof seed);
		for (int k = 0; k < 4; k++, r = r * 1103515245u + 12345u)
			text[(r >> 8) % (sizeof seed - 1)] = (char)seed[(r >> 16) % (sizeof seed - 1)];
		e = dockerfile_parse("f", sv_from(text, (r >> 4) % sizeof seed), &d);
		if (!e)
			dockerfile_fini(&d);
		err_free(e);
	}
}
