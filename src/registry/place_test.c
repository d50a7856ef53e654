#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "registry/place.h"
#include "image/registries.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

static const struct daemon_conf no_daemon;

static void file(const char *dir, const char *name, const char *text)
{
	auto_free char *path = xasprintf("%s", dir);
	auto_fd int fd = -1;

	for (char *at = path; (at = strchr(at + 1, '/'));) {
		*at = '\0';
		(void)sys_mkdir(t_tmpdir(), path, 0700);
		*at = '/';
	}
	(void)sys_mkdir(t_tmpdir(), path, 0700);
	fd = sys_open_beneath(t_tmpdir(), path, O_RDONLY | O_DIRECTORY, 0);
	CHECK(fd >= 0);
	t_file_write(fd, name, text);
}

/* registries.conf of this test alone. */
static void registries(const char *text)
{
	auto_free char *path = xasprintf("%s/registries.conf", t_tmppath());

	t_file_write(t_tmpdir(), "registries.conf", text);
	(void)setenv("CONTAINERS_REGISTRIES_CONF", path, 1);
	(void)setenv("HOME", t_tmppath(), 1);
}

static void hosts(const char *host, const char *text)
{
	auto_free char *dir = xasprintf(".config/containerd/certs.d/%s", host);

	registries("");
	file(dir, "hosts.toml", text);
}

/* As text: "https://host/root repository flags;" each. */
static void finds(const char *name, const char *want)
{
	CLEANUP(ref_fini) struct ref ref = { 0 };
	auto_places struct places p = { 0 };
	auto_buf struct buf b = BUF(4096);

	CHECK_OK(ref_parse(name, &ref));
	CHECK_OK(places_find(&ref, &no_daemon, NULL, &p));
	for (size_t i = 0; i < p.v.n; i++) {
		const struct place *x = &p.v.p[i];

		buf_fmt(&b, "%s%s://%s%s %s %s%s%s%s%s%s", i ? "; " : "", x->scheme ? x->scheme : "any",
			x->host, x->root, x->repository, x->can_pull ? "l" : "", x->can_resolve ? "r" : "",
			x->can_push ? "s" : "", x->is_insecure ? " insecure" : "", x->ns ? " ns=" : "",
			x->ns ? x->ns : "");
	}
	CHECK_STR(buf_text(&b), want);
}

static void refuses(const char *name, enum err_kind kind, const char *words)
{
	CLEANUP(ref_fini) struct ref ref = { 0 };
	auto_places struct places p = { 0 };
	auto_err struct err *e = NULL;

	CHECK_OK(ref_parse(name, &ref));
	e = places_find(&ref, &no_daemon, NULL, &p);
	CHECK(e && e->kind == kind && strstr(e->msg, words));
}

TEST(without_files_the_registry_itself)
{
	registries("");
	finds("debian", "any://docker.io/v2 library/debian lrs");
	finds("127.0.0.1:5000/x:1", "any://127.0.0.1:5000/v2 x lrs insecure");
}

TEST(registries_conf_mirrors_and_rewrites)
{
	registries("[[registry]]\nlocation='docker.io'\n[[registry.mirror]]\nlocation='m.example/"
		   "hub'\ninsecure=true\n"
		   "[[registry]]\nprefix='docker.io/team'\nlocation='own.example/team2'\n"
		   "[[registry]]\nprefix='*.dev.example'\nlocation='dev.example:5000/all'\ninsecure=true\n"
		   "[[registry]]\nlocation='quay.io'\nblocked=true\n"
		   "[[registry]]\nprefix='docker.io/library/one:2'\nlocation='pin.example/one'\n");
	finds("debian",
	      "any://m.example/v2 hub/library/debian lr insecure; any://docker.io/v2 library/debian lrs");
	finds("team/app", "any://own.example/v2 team2/app lrs");
	finds("team2/app", "any://m.example/v2 hub/team2/app lr insecure; any://docker.io/v2 team2/app lrs");
	finds("a.dev.example/x/y", "any://dev.example:5000/v2 all/x/y lrs insecure");
	finds("dev.example/x", "any://dev.example/v2 x lrs");
	finds("one:2", "any://pin.example/v2 one lrs");
	finds("quay.example/x", "any://quay.example/v2 x lrs");
	refuses("quay.io/x", ERR_DENIED, "registry quay.io is blocked in");
	registries("[[registry]]\nprefix='x.example/a/'\nlocation='y.example/b//'\n[[registry.mirror]]\nlocation='m.example/'\n");
	finds("x.example/a/c", "any://m.example/v2 c lr; any://y.example/v2 b/c lrs");
	refuses("x.example/a", ERR_INVALID, "makes \"m.example\" of x.example/a");
}

TEST(a_star_is_any_host_at_any_port)
{
	registries("[[registry]]\nprefix='*.bad.example'\nblocked=true\n[[registry]]\nprefix='*.lan'\nlocation='hub.example'\n"
		   "[[registry]]\nprefix='*.one:5000'\nblocked=true\n");
	refuses("a.bad.example/x", ERR_DENIED, "blocked");
	refuses("a.bad.example:5000/x", ERR_DENIED, "blocked");
	finds("bad.example/x", "any://bad.example/v2 x lrs");
	finds("a.lan:5000/x/y", "any://hub.example:5000/v2 x/y lrs");
	refuses("a.one:5000/x", ERR_DENIED, "blocked");
	finds("a.one/x", "any://a.one/v2 x lrs");
}

TEST(mirrors_by_digest_or_tag)
{
	static const char digest[] =
	    "x.example/a@sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

	registries("[[registry]]\nlocation='x.example'\n[[registry.mirror]]\nlocation='d'\npull-from-mirror='"
		   "digest-only'\n"
		   "[[registry.mirror]]\nlocation='t'\npull-from-mirror='tag-only'\n");
	finds("x.example/a:1", "any://t/v2 a lr; any://x.example/v2 a lrs");
	finds(digest, "any://d/v2 a lr; any://x.example/v2 a lrs");
	registries("[[registry]]\nlocation='x.example'\nmirror-by-digest-only=true\n[[registry.mirror]]"
		   "\nlocation='d'\n");
	finds("x.example/a:1", "any://x.example/v2 a lrs");
	finds(digest, "any://d/v2 a lr; any://x.example/v2 a lrs");
}

TEST(drop_ins_override_by_prefix)
{
	registries("[[registry]]\nlocation='x.example'\nblocked=true\n[[registry]]\nlocation='y.example'\n");
	file("registries.conf.d", "50-x.conf", "[[registry]]\nlocation='x.example'\n");
	file("registries.conf.d", "60-y.conf", "[[registry]]\nprefix='y.example'\nlocation='z.example'\n");
	file("registries.conf.d", "60-y.bak", "junk");
	finds("x.example/a", "any://x.example/v2 a lrs");
	finds("y.example/a", "any://z.example/v2 a lrs");
	registries("[[registry]]\nprefix='z.example'\nlocation='first.example'\n[[registry]]\nprefix='z.example'\nlocation='second.example'\n");
	finds("z.example/a", "any://first.example/v2 a lrs");
}

TEST(broken_registries_conf_is_named)
{
	static const struct {
		const char *conf;
		enum err_kind kind;
		const char *word;
	} broken[] = {
		{ "[[registry]\n", ERR_INVALID, "registries.conf:1" },
		{ "[registries.search]\nregistries=['docker.io']\n", ERR_UNSUPPORTED, "version 1" },
		{ "[[registry]]\nprefix='*'\nblocked=true\n", ERR_INVALID, "no location" },
		{ "[[registry]]\nprefix='x.*.example'\nlocation='y.example'\n", ERR_INVALID, "a star stands for hosts only" },
		{ "[[registry]]\nprefix='*.example/a'\nblocked=true\n", ERR_INVALID, "a star stands for hosts only" },
		{ "[[registry]]\nlocation='x.example'\nmirror-by-digest-only=true\n[[registry.mirror]]\nlocation='m'\n"
		  "pull-from-mirror='tag-only'\n", ERR_INVALID, "both mirror-by-digest-only" },
		{ "[[registry]]\nblocked=true\n", ERR_INVALID, "no location" },
		{ "[[registry]]\nlocation='x.example'\n[[registry.mirror]]\ninsecure=true\n", ERR_INVALID, "mirror" },
		{ "[[registry]]\nlocation='x.example'\n[[registry.mirror]]\nlocation='https://m'\n", ERR_INVALID, "bad location" },
	};

	for (size_t i = 0; i < LEN(broken); i++) {
		registries(broken[i].conf);
		refuses("x.example/a", broken[i].kind, broken[i].word);
	}
}

TEST(hosts_toml)
{
	hosts("docker.io",
	      "server = 'https://registry-1.docker.io'\n"
	      "[host.'http://m.example:80/proxy']\ncapabilities=['pull']\nskip_verify=true\n"
	      "[host.'https://n.example/api/v2/']\n[host.'https://o.example/whole']\noverride_path=true\n");
	finds("debian", "http://m.example:80/proxy/v2 library/debian l insecure ns=docker.io; "
			"https://n.example/api/v2 library/debian lrs ns=docker.io; "
			"https://o.example/whole library/debian lrs ns=docker.io; "
			"https://docker.io/v2 library/debian lrs");
	hosts("x.example_5000_", "[host.\"https://m\"]\ncapabilities='resolve'\n");
	finds("x.example:5000/a", "https://m/v2 a r ns=x.example:5000; any://x.example:5000/v2 a lrs");
	hosts("_default", "[host.\"https://any\"]\n");
	finds("y.example/a", "https://any/v2 a lrs ns=y.example; any://y.example/v2 a lrs");
}

TEST(hosts_toml_trust_and_headers)
{
	CLEANUP(ref_fini) struct ref ref = { 0 };
	auto_places struct places p = { 0 };
	auto_free char *want = NULL;

	hosts("x.example",
	      "ca=['/"
	      "a.pem','b.pem']\nclient=[['c.pem','k.pem']]\ndial_timeout='2s'\n[header]\nX-Key=['1','2']\n");
	CHECK_OK(ref_parse("x.example/a", &ref));
	CHECK_OK(places_find(&ref, &no_daemon, NULL, &p));
	CHECK_INT(p.v.n, 1);
	CHECK_STR(p.v.p[0].ca[0], "/a.pem");
	want = xasprintf("%s/.config/containerd/certs.d/x.example/b.pem", t_tmppath());
	CHECK_STR(p.v.p[0].ca[1], want);
	CHECK(strstr(p.v.p[0].cert, "/c.pem") && strstr(p.v.p[0].key, "/k.pem"));
	CHECK_STR(p.v.p[0].headers[1], "X-Key: 2");
	CHECK_INT(p.v.p[0].connect_ms, 2000);
}

TEST(broken_hosts_toml_is_named)
{
	hosts("x.example", "server=");
	refuses("x.example/a", ERR_INVALID, "hosts.toml:1");
	hosts("x.example", "[host.'ftp://m']\n");
	refuses("x.example/a", ERR_INVALID, "hosts.toml: bad URL");
	hosts("x.example", "capabilities=['fly']\n");
	refuses("x.example/a", ERR_INVALID, "unknown capability");
	hosts("x.example", "ca=1\n");
	refuses("x.example/a", ERR_INVALID, "ca is not text");
	hosts("x.example", "[header]\nX=\"a\\r\\nY: b\"\n");
	refuses("x.example/a", ERR_INVALID, "bad header");
}

TEST(registries_conf_goes_before_hosts_toml)
{
	hosts("x.example", "[host.'https://h']\n");
	finds("x.example/a", "https://h/v2 a lrs ns=x.example; any://x.example/v2 a lrs");
	registries("[[registry]]\nlocation='x.example'\n[[registry.mirror]]\nlocation='m'\n");
	finds("x.example/a", "any://m/v2 a lr; any://x.example/v2 a lrs");
}

static bool is_insecure_with(const char *name, const struct access *access)
{
	char *insecure[] = { (char[]){ "lan.example" }, NULL };
	const struct daemon_conf daemon = { .insecure = insecure };
	CLEANUP(ref_fini) struct ref ref = { 0 };
	auto_places struct places p = { 0 };

	CHECK_OK(ref_parse(name, &ref));
	CHECK_OK(places_find(&ref, &daemon, access, &p));
	return p.v.p[p.v.n - 1].is_insecure;
}

TEST(what_is_said_outweighs_the_files)
{
	static const char *const insecure[] = { "127.0.0.1:5000/a", "lan.example/a", "conf.example/a" };
	const struct access open = { .is_insecure = true }, strict = { .is_strict = true };
	CLEANUP(ref_fini) struct ref ref = { 0 };
	auto_places struct places p = { 0 };

	registries("[[registry]]\nlocation='conf.example'\ninsecure=true\n"
		   "[[registry]]\nlocation='m.example'\n[[registry.mirror]]\nlocation='127.0.0.1:1'\n");
	for (size_t i = 0; i < LEN(insecure); i++)
		CHECK(is_insecure_with(insecure[i], NULL) && !is_insecure_with(insecure[i], &strict));
	CHECK(!is_insecure_with("x.example/a", NULL) && is_insecure_with("x.example/a", &open));
	CHECK_OK(ref_parse("m.example/a", &ref));
	CHECK_OK(places_find(&ref, &no_daemon, &strict, &p));
	CHECK(p.v.p[0].is_insecure && p.v.p[0].is_mirror);
	hosts("plain.example", "server='http://plain.example'\n");
	ref_fini(&ref);
	ref = (struct ref){ 0 };
	CHECK_OK(ref_parse("plain.example/a", &ref));
	CHECK_ERR(ERR_INVALID, places_find(&ref, &no_daemon, &strict, &(struct places){ 0 }));
}

TEST(docker_s_mirrors_come_last)
{
	char *mirrors[] = { (char[]){ "https://m.example/" }, NULL, NULL };
	const struct daemon_conf daemon = { .mirrors = mirrors };
	CLEANUP(ref_fini) struct ref ref = { 0 };
	auto_places struct places p = { 0 };

	registries("");
	CHECK_OK(ref_parse("debian", &ref));
	CHECK_OK(places_find(&ref, &daemon, NULL, &p));
	CHECK_INT(p.v.n, 2);
	CHECK_STR(p.v.p[0].host, "m.example");
	CHECK(!p.v.p[0].can_push && p.v.p[1].can_push);
	mirrors[1] = (char[]){ "not a url" };
	CHECK_ERR(ERR_INVALID, places_find(&ref, &daemon, NULL, &(struct places){ 0 }));
}
