#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "image/shortname.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

/* The files of this test's home; nothing of the machine's. */
static void conf(const char *text)
{
	auto_free char *path = xasprintf("%s/r.conf", t_tmppath());
	auto_fd int fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	CHECK(fd >= 0 && sys_write_all(fd, text, strlen(text)) >= 0);
	CHECK(setenv("CONTAINERS_REGISTRIES_CONF", path, 1) == 0);
	CHECK(setenv("XDG_CACHE_HOME", t_tmppath(), 1) == 0);
}

static void means(const char *text, const char *names)
{
	auto_shortname struct shortname s = { 0 };
	auto_free char *got = xstrdup("");

	CHECK_OK(shortname_resolve(text, &s));
	for (char **name = s.names; *name; name++) {
		char *longer = xasprintf("%s%s%s", got, *got ? " " : "", *name);

		free(got);
		got = longer;
	}
	CHECK_STR(got, names);
}

static void refuses(const char *text, const char *why)
{
	auto_shortname struct shortname s = { 0 };
	auto_err struct err *e = shortname_resolve(text, &s);

	CHECK(e && e->kind == ERR_INVALID && strstr(e->msg, why));
}

#define HEX "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

TEST(without_files_names_are_docker_s)
{
	conf("");
	means("debian", "docker.io/library/debian:latest");
	means("team/app:1", "docker.io/team/app:1");
	means("localhost/app", "localhost/app:latest");
	means("x.example/a@sha256:" HEX, "x.example/a@sha256:" HEX);
	refuses("UPPER", "must be lowercase");
}

TEST(an_alias_keeps_tag_and_digest)
{
	conf("[aliases]\nfedora='registry.fedoraproject.org/fedora'\n'team/app'='own.example:5000/a/"
	     "b'\ngone=''\n");
	means("fedora", "registry.fedoraproject.org/fedora:latest");
	means("fedora:40@sha256:" HEX, "registry.fedoraproject.org/fedora:40@sha256:" HEX);
	means("team/app:2", "own.example:5000/a/b:2");
	means("fedora/x", "docker.io/fedora/x:latest");
	means("docker.io/fedora", "docker.io/library/fedora:latest");
	means("gone", "docker.io/library/gone:latest");
}

TEST(search_registries_in_their_order)
{
	auto_shortname struct shortname s = { 0 };

	conf("unqualified-search-registries=['a.example','docker.io']\nshort-name-mode='enforcing'\n");
	means("app:1", "a.example/app:1 docker.io/library/app:1");
	CHECK_OK(shortname_resolve("app", &s));
	CHECK(s.is_open && s.is_strict);
	shortname_fini(&s);
	conf("unqualified-search-registries=['a.example','docker.io']\n");
	CHECK_OK(shortname_resolve("app", &s));
	CHECK(s.is_open && !s.is_strict);
	shortname_fini(&s);
	conf("unqualified-search-registries=['a.example']\nshort-name-mode='enforcing'\n");
	CHECK_OK(shortname_resolve("app", &s));
	CHECK(!s.is_open && !s.is_strict);
	shortname_fini(&s);
	conf("unqualified-search-registries=['a.example','b.example']\nshort-name-mode='disabled'\n");
	CHECK_OK(shortname_resolve("app", &s));
	CHECK(!s.is_open && !s.is_strict);
}

TEST(an_answer_is_remembered_and_goes_before_aliases)
{
	conf("[aliases]\n'a/b'='c.example/d'\n");
	CHECK_OK(shortname_remember("app:3", "x.example:5000/own/app:3"));
	CHECK_OK(shortname_remember("a/b", "y.example/b:latest"));
	means("app", "x.example:5000/own/app:latest");
	means("a/b:1", "y.example/b:1");
}

TEST(broken_files_are_named)
{
	auto_registries struct registries r = { 0 };

	conf("[aliases]\nx='y'\n");
	refuses("x", "r.conf: alias \"x\": \"y\" is not REGISTRY/REPOSITORY");
	conf("[aliases]\nx='a.example/y:1'\n");
	refuses("x", "is not REGISTRY/REPOSITORY");
	conf("[aliases]\n'a.example/x'='a.example/y'\n");
	refuses("x", "it has a registry");
	conf("unqualified-search-registries=['nodot']\n");
	refuses("x", "\"nodot\" is no registry");
	conf("short-name-mode='maybe'\n");
	refuses("x", "short-name-mode \"maybe\" is not");
	conf("unqualified-search-registries='a.example'\n");
	refuses("x", "unqualified-search-registries is not a list of texts");
	conf("[[registry]]\nlocation='x.example'\ninsecure='yes'\n");
	refuses("x", "registry x.example: insecure is not true or false");
	conf("future=1\n[[registry]]\nlocation='x.example'\nnew='n'\n");
	CHECK_OK(registries_load(&r));
	CHECK(strstr(r.ignored[0], "r.conf: \"future\" is not known"));
	CHECK(strstr(r.ignored[1], "r.conf: registry x.example: \"new\" is not known"));
	CHECK(!r.ignored[2]);
}
