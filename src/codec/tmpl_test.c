#include "base/own.h"
#include "base/mem.h"
#include "codec/tmpl.h"
#include "harness/t.h"

static const char data[] =
	"{\"Id\":\"sha256:abcdef\",\"Name\":\"/web\",\"N\":3,\"F\":1.5,\"Ok\":true,\"Nil\":null,\"Empty\":[],"
	"\"Config\":{\"Cmd\":[\"sleep\",\"100\"],\"Labels\":{\"b\":\"2\",\"a\":\"1\"}},"
	"\"Policy\":{\"Name\":\"no\",\"Count\":0},"
	"\"Ports\":{\"80/tcp\":[{\"HostIp\":\"0.0.0.0\",\"HostPort\":\"8099\"},{\"HostIp\":\"::\",\"HostPort\":\"8099\"}]}}";

static char *run(const char *text)
{
	auto_json json_t *value = NULL;
	auto_tmpl struct tmpl *t = NULL;
	auto_buf struct buf out = BUF(1 << 20);

	CHECK_OK(json_parse(sv_of(data), "test", sizeof data, &value));
	CHECK_OK(tmpl_parse(text, &t));
	CHECK_OK(tmpl_run(t, value, &out));
	return buf_take(&out);
}

TEST(templates_print_as_go_does)
{
	static const char *const cases[][2] = {
		{ "plain", "plain" },
		{ "{{.Name}}-{{ .N }}-{{.F}}-{{.Ok}}", "/web-3-1.5-true" },
		{ "{{.ID}}", "sha256:abcdef" },
		{ "{{.Config.Cmd}}", "[sleep 100]" },
		{ "{{.Config.Labels}}", "map[a:1 b:2]" },
		{ "{{.Config.Labels.zz}}", "<no value>" },
		{ "{{.Policy}}", "{no 0}" },
		{ "{{.Ports}}", "map[80/tcp:[{0.0.0.0 8099} {:: 8099}]]" },
		{ "{{.Nil}}", "<nil>" },
		{ "{{json .Config.Cmd}}", "[\"sleep\",\"100\"]" },
		{ "{{index .Config.Labels \"a\"}}{{index .Config.Labels \"zz\"}}", "1" },
		{ "{{(index (index .Ports \"80/tcp\") 0).HostPort}}", "8099" },
		{ "{{range .Config.Cmd}}<{{.}}>{{end}}", "<sleep><100>" },
		{ "{{range $i, $c := .Config.Cmd}}{{$i}}={{$c}};{{end}}", "0=sleep;1=100;" },
		{ "{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}} {{end}}", "a:1 b:2 " },
		{ "{{range .Empty}}x{{else}}none{{end}}", "none" },
		{ "{{range .Config.Cmd}}{{.}}{{break}}{{end}}", "sleep" },
		{ "{{if .Ok}}y{{else}}n{{end}}{{if .Nil}}y{{else if .N}}2{{else}}n{{end}}", "y2" },
		{ "{{with .Policy}}{{.Name}}{{end}}{{with .Nil}}x{{else}}-{{end}}", "no-" },
		{ "{{with $x := .N}}{{$x}}{{$.Name}}{{end}}", "3/web" },
		{ "{{$x := 1}}{{if .Ok}}{{$x = 2}}{{end}}{{$x}}", "2" },
		{ "a {{- .N -}} b", "a3b" },
		{ "{{/* nothing */}}x", "x" },
		{ "{{.Name | upper | printf \"%q\"}}", "\"/WEB\"" },
		{ "{{printf \"%-6s|%5d|%.3s|%x|%t|%%\" \"ab\" .N .Name 255 .Ok}}", "ab    |    3|/we|ff|true|%" },
		{ "{{println \"a\" 1}}", "a 1\n" },
		{ "{{join .Config.Cmd \", \"}}", "sleep, 100" },
		{ "{{index (split .Id \":\") 1}}", "abcdef" },
		{ "{{slice .Name 1 3}}{{title \"some words\"}}{{lower \"AB\"}}", "weSome Wordsab" },
		{ "{{len .Config.Cmd}}{{len .Name}}{{len .Config.Labels}}", "242" },
		{ "{{eq .N 3}}{{eq .Name \"x\" \"/web\"}}{{ne .N 3}}{{lt 1 2}}{{ge 1 2}}", "truetruefalsetruefalse" },
		{ "{{and .Ok .N}}{{or .Nil \"x\"}}{{not .Ok}}{{and .Nil .Config.Nosuch}}", "3xfalse<nil>" },
		{ "{{truncate .Name 2}}{{pad \"x\" 1 2}}.", "/w x  ." },
		{ "{{`raw\\n`}}{{\"\\t\"}}", "raw\\n\t" },
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		auto_free char *got = run(cases[i][0]);

		CHECK_STR(got, cases[i][1]);
	}
}

TEST(bad_templates_are_refused)
{
	static const char *const bad[] = {
		"{{.Id", "{{", "{{}}", "{{if .X}}", "{{end}}", "{{else}}", "{{nosuch .}}", "{{\"open}}", "{{.A | .B}}", "{{.A .B}}",
		"{{(.A}}", "{{break}}", "{{/* open", "{{range}}x{{end}}", "{{.A)}}", "{{1x}}", "{{if .A}}{{else}}{{else}}{{end}}",
	};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		auto_tmpl struct tmpl *t = NULL;
		struct err *e = tmpl_parse(bad[i], &t);

		if (!e)
			t_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
		CHECK(strstr(e->msg, "template"));
		CHECK_ERR(ERR_INVALID, e);
	}
}

TEST(what_is_not_there_is_an_error_with_its_place)
{
	static const char *const bad[] = { "{{.Nope}}", "{{.Config.Nope.X}}", "{{.Name.X}}", "{{.Nil.X}}", "{{$y}}", "{{index .Empty 0}}",
					   "{{index .N 0}}", "{{range .Ok}}{{end}}", "{{len .N}}", "{{eq .N .Name}}", "{{join .N \",\"}}" };
	auto_json json_t *value = NULL;

	CHECK_OK(json_parse(sv_of(data), "test", sizeof data, &value));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		auto_tmpl struct tmpl *t = NULL;
		auto_buf struct buf out = BUF(1 << 16);

		CHECK_OK(tmpl_parse(bad[i], &t));
		if (i == 0) {
			auto_err struct err *e = tmpl_run(t, value, &out);

			CHECK(e);
			CHECK_STR(e->msg, "template parsing error: template: :1:2: executing \"\" at <.Nope>: map has no entry "
					  "for key \"Nope\"");
			continue;
		}
		CHECK_ERR(ERR_INVALID, tmpl_run(t, value, &out));
		CHECK(out.n == 0);
	}
}

TEST(limits_hold)
{
	auto_tmpl struct tmpl *t = NULL, *deep = NULL, *count = NULL;
	auto_buf struct buf big = BUF(1 << 20), out = BUF(1 << 20);
	auto_json json_t *value = json_object();

	for (int i = 0; i < 70000; i++)
		buf_ch(&big, 'x');
	CHECK_ERR(ERR_LIMIT, tmpl_parse(buf_text(&big), &t));
	buf_reset(&big);
	for (int i = 0; i < 100; i++)
		buf_str(&big, "{{if 1}}");
	CHECK_ERR(ERR_INVALID, tmpl_parse(buf_text(&big), &deep));
	CHECK_OK(tmpl_parse("{{range 1000000000}}x{{end}}", &count));
	CHECK_ERR(ERR_LIMIT, tmpl_run(count, value, &out));
}

TEST(a_template_tells_which_fields_it_uses)
{
	auto_tmpl struct tmpl *t = NULL;

	CHECK_OK(tmpl_parse("{{range .A}}{{if (index .B 0).Size}}{{end}}{{end}}", &t));
	CHECK(tmpl_uses(t, "Size") && tmpl_uses(t, "A") && !tmpl_uses(t, "Names"));
}

TEST(the_method_label_takes_a_key)
{
	static const struct {
		const char *row, *text, *want;
	} all[] = {
		{ "{\"Labels\":\"a=b,c\",\".labels\":{\"x.y-z\":\"b,c\"}}", "{{.Label \"x.y-z\"}}|{{.Label \"no\"}}", "b,c|" },
		{ "{\"Labels\":\"a=b,c\",\".labels\":{\"x\":\"1\"}}", "{{json .}}", "{\"Labels\":\"a=b,c\"}" },
		{ "{\".labels\":true}", "{{.Label \"x.y-z\"}}", "y z" },
		{ "{\".labels\":null}", "{{.Label \"x\"}}|{{json .}}", "|{}" },
	};

	for (size_t i = 0; i < LEN(all); i++) {
		auto_tmpl struct tmpl *t = NULL;
		auto_buf struct buf out = BUF(1 << 16);
		auto_json json_t *row = NULL;

		CHECK_OK(json_parse(sv_of(all[i].row), "row", 1 << 16, &row));
		CHECK_OK(tmpl_parse(all[i].text, &t));
		CHECK_OK(tmpl_run(t, row, &out));
		CHECK_STR(buf_text(&out), all[i].want);
	}
}
