#include "harness/t.h"
#include "base/mem.h"
#include "base/own.h"
#include "codec/toml.h"

static void is(const char *text, const char *want)
{
	auto_json json_t *v = NULL;
	auto_buf struct buf b = BUF(1 << 16);

	CHECK_OK(toml_parse(sv_of(text), "t", 1 << 16, &v));
	json_print(v, &b);
	CHECK_STR(buf_text(&b), want);
}

static void fails(const char *text, const char *words)
{
	auto_json json_t *v = NULL;
	auto_err struct err *e = toml_parse(sv_of(text), "t", 1 << 16, &v);

	if (!e || !strstr(e->msg, words))
		t_fail(__FILE__, __LINE__, "%s: %s", text, e ? e->msg : "no error");
}

TEST(values)
{
	is("", "{}");
	is("a = 1\nb=\"x\"\nc=true # comment\r\nd = false", "{\"a\":1,\"b\":\"x\",\"c\":true,\"d\":false}");
	is("a=0x1F\nb=0o17\nc=0b101\nd=1_000\ne=-7\nf=+7\ng=0",
	   "{\"a\":31,\"b\":15,\"c\":5,\"d\":1000,\"e\":-7,\"f\":7,\"g\":0}");
	is("a=1.5\nb=1e3\nc=-2.5E-1", "{\"a\":1.5,\"b\":1000.0,\"c\":-0.25}");
	is("a=1979-05-27T07:32:00Z\nb=07:32:00\nc=1979-05-27 07:32:00.5",
	   "{\"a\":\"1979-05-27T07:32:00Z\",\"b\":\"07:32:00\",\"c\":\"1979-05-27 07:32:00.5\"}");
	is("a = [ 1, 2, # two\n 3,\n]\nb=[]\nc=[[1],['x']]", "{\"a\":[1,2,3],\"b\":[],\"c\":[[1],[\"x\"]]}");
	is("a={x=1,y.z='q'}\nb={}", "{\"a\":{\"x\":1,\"y\":{\"z\":\"q\"}},\"b\":{}}");
}

TEST(strings)
{
	is("a=\"q\\\"\\t\\u00e9\\U0001F600\"\nb='raw\\n'", "{\"a\":\"q\\\"\\té😀\",\"b\":\"raw\\\\n\"}");
	is("a=\"\"\"\none\ntwo\\\n   three\"\"\"\nb='''x\n'y'''''",
	   "{\"a\":\"one\\ntwothree\",\"b\":\"x\\n'y''\"}");
	is("\"a b\"=1\n'c.d'=2\n\"\"=3", "{\"a b\":1,\"c.d\":2,\"\":3}");
	fails("a=\"x", "no end");
	fails("a=\"x\ny\"", "no end");
	fails("a=\"\\q\"", "escape");
	fails("a=\"\\u0000\"", "character");
	fails("a=\"\\ud800\"", "character");
	fails("a=\"\x01\"", "control");
	fails("a=\"\xff\"", "UTF-8");
}

TEST(tables)
{
	is("[a]\nx=1\n[a.b]\ny=2\n[c.d.e]\n[c]\nz=3",
	   "{\"a\":{\"x\":1,\"b\":{\"y\":2}},\"c\":{\"d\":{\"e\":{}},\"z\":3}}");
	is("[[r]]\nx=1\n[[r.m]]\ny=2\n[[r.m]]\ny=3\n[[r]]\nx=4",
	   "{\"r\":[{\"x\":1,\"m\":[{\"y\":2},{\"y\":3}]},{\"x\":4}]}");
	is("a.b=1\na.c=2", "{\"a\":{\"b\":1,\"c\":2}}");
	is("[host.\"https://m:1\"]\nca='x'", "{\"host\":{\"https://m:1\":{\"ca\":\"x\"}}}");
	is("[ a . b ]\n c . d = 1", "{\"a\":{\"b\":{\"c\":{\"d\":1}}}}");
}

TEST(nothing_is_defined_twice)
{
	fails("a=1\na=2", "t:2: key \"a\" is defined twice");
	fails("[a]\n[a]", "twice");
	fails("[a]\nb=1\n[a.b]", "twice");
	fails("a={x=1}\n[a.b]", "value");
	fails("a={x=1}\na.y=2", "twice");
	fails("a=[]\n[[a]]", "no array of tables");
	fails("[[a]]\n[a]", "twice");
	fails("[a]\n[[a]]", "no array of tables");
	fails("a.b=1\n[a]", "twice");
	fails("[a.b]\nx=1\n[a]\nb.y=2", "twice");
	fails("a={b.c=1,b.c=2}", "twice");
}

TEST(what_is_no_toml)
{
	static const char *const bad[] = {
		"a",         "a=",      "=1",       "a=1 b=2", "[a",       "[[a]",   "[]",
		"a=[1",      "a={x=1",  "a={x=1,}", "a=01",    "a=1__0",   "a=_1",   "a=1_",
		"a=0x",      "a=+0x1",  "a=1.",     "a=.5",    "a=nan",    "a=inf",  "a=truex",
		"a=tru",     "a=--1",   "a=1e",     "a.=1",    "a=1\rb=2", "# \x01", "a=9223372036854775808",
		"{\"a\":1}", "\x1f\x8b"
	};

	for (size_t i = 0; i < LEN(bad); i++)
		fails(bad[i], "t:1");
}

TEST(depth_and_size_are_bounded)
{
	auto_buf struct buf b = BUF(1 << 20);
	auto_json json_t *v = NULL;

	buf_str(&b, "a=");
	for (int i = 0; i < 100000; i++)
		buf_ch(&b, '[');
	CHECK_ERR(ERR_LIMIT, toml_parse(sv_from(b.data, b.n), "t", 1 << 20, &v));
	CHECK_ERR(ERR_LIMIT, toml_parse(sv_from(b.data, b.n), "t", 100, &v));
	buf_reset(&b);
	for (int i = 0; i < 5000; i++)
		buf_fmt(&b, "[t%d]\n", i);
	CHECK_ERR(ERR_LIMIT, toml_parse(sv_from(b.data, b.n), "t", 1 << 20, &v));
	buf_reset(&b);
	for (int i = 0; i < 50; i++)
		buf_str(&b, "a.");
	buf_str(&b, "a=1");
	CHECK_ERR(ERR_LIMIT, toml_parse(sv_from(b.data, b.n), "t", 1 << 20, &v));
}
