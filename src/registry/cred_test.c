#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "registry/cred.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

static const char *file(void)
{
	static char path[4096];

	(void)snprintf(path, sizeof path, "%s/config.json", t_tmppath());
	return path;
}

static void write_file(const char *text)
{
	t_file_write(t_tmpdir(), "config.json", text);
}

static struct err *load(const char *dir, const char *domain, const char *repository, struct cred *out_cred)
{
	return cred_load(dir, &(struct cred_for){ .domain = domain, .repository = repository }, out_cred);
}

TEST(no_file_is_no_credentials)
{
	auto_cred struct cred c = { 0 };

	CHECK_OK(load(file(), "a:5000", NULL, &c));
	CHECK(!c.user && !c.identity_token);
	CHECK_OK(load("/nonexistent/dir", "a:5000", "x/y", &c));
	CHECK(!c.user);
}

TEST(stored_is_loaded_and_other_members_stay)
{
	auto_cred struct cred in = { .user = xstrdup("joe"), .password = xstrdup("a:b\"c") }, out = { 0 };
	struct stat st;
	bool found = false;

	write_file("{\"psFormat\":\"x\",\"auths\":{\"other\":{\"auth\":\"eDp5\"}}}");
	CHECK_OK(cred_store(file(), "a:5000", &in));
	CHECK(sys_fstatat(t_tmpdir(), "config.json", &st, 0) == 0 && (st.st_mode & 0777) == 0600);
	CHECK_OK(load(file(), "a:5000", NULL, &out));
	CHECK_STR(out.user, "joe");
	CHECK_STR(out.password, "a:b\"c");
	CHECK_OK(cred_erase(file(), "a:5000", &found));
	CHECK(found);
	CHECK_OK(cred_erase(file(), "a:5000", &found));
	CHECK(!found);
	cred_fini(&out);
	CHECK_OK(load(file(), "other", NULL, &out));
	CHECK_STR(out.password, "y");
	CHECK(
	    t_file_is(t_tmpdir(), "config.json",
		      "{\n        \"psFormat\": \"x\",\n        \"auths\": {\n                \"other\": {\n"
		      "                        \"auth\": \"eDp5\"\n                }\n        }\n}\n"));
	CHECK_INT(t_entries(t_tmpdir()), 1);
}

TEST(the_hub_has_many_names)
{
	static const char *const spellings[] = { "https://index.docker.io/v1/", "docker.io",
						 "https://registry-1.docker.io", "index.docker.io" };

	for (size_t i = 0; i < LEN(spellings); i++) {
		auto_cred struct cred c = { 0 };
		auto_free char *text = xasprintf("{\"auths\":{\"%s\":{\"auth\":\"eDp5\"}}}", spellings[i]);

		write_file(text);
		CHECK_OK(load(file(), "docker.io", NULL, &c));
		CHECK_STR(c.user, "x");
	}
}

TEST(schemes_and_paths_in_keys_are_ignored_but_hosts_are_exact)
{
	auto_cred struct cred c = { 0 }, d = { 0 }, f = { 0 };

	write_file("{\"auths\":{\"https://a:5000/v2/\":{\"auth\":\"eDp5\"}}}");
	CHECK_OK(load(file(), "a:5000", NULL, &c));
	CHECK_STR(c.user, "x");
	CHECK_OK(load(file(), "a", NULL, &d));
	CHECK(!d.user);
	CHECK_OK(load(file(), "a:500", NULL, &f));
	CHECK(!f.user);
}

TEST(tokens)
{
	auto_cred struct cred c = { 0 };

	write_file("{\"auths\":{\"a\":{\"auth\":\"eDo=\",\"identitytoken\":\"tok\"}}}");
	CHECK_OK(load(file(), "a", NULL, &c));
	CHECK_STR(c.identity_token, "tok");
	cred_fini(&c);
	write_file("{\"auths\":{\"a\":{\"auth\":\"eDp5AAA=\"}}}"); /* x:y and two zeros, as docker pads */
	CHECK_OK(load(file(), "a", NULL, &c));
	CHECK_STR(c.password, "y");
}

TEST(broken_files_are_named_and_secrets_are_not)
{
	static const char *const bad[] = { "{", "[]", "{\"auths\":{\"a\":{\"auth\":\"!!secret!!\"}}}",
					   "{\"auths\":{\"a\":{\"auth\":\"c2VjcmV0\"}}}",
					   "{\"auths\":{\"a\":{\"auth\":7}}}", "{\"auths\":[]}" };

	for (size_t i = 0; i < LEN(bad); i++) {
		auto_cred struct cred c = { 0 };
		auto_err struct err *e = NULL;

		write_file(bad[i]);
		e = load(file(), "a", NULL, &c);
		CHECK(e && e->kind == ERR_INVALID && !strstr(e->msg, "secret") && !strstr(e->msg, "c2Vj"));
	}
}

static void install_helper(const char *body)
{
	auto_free char *path = xasprintf("%s:%s", t_tmppath(), getenv("PATH"));
	auto_fd int fd = -1;

	t_file_write(t_tmpdir(), "docker-credential-fake", body);
	fd = sys_openat(t_tmpdir(), "docker-credential-fake", O_RDONLY, 0);
	CHECK(fd >= 0 && sys_fchmod(fd, 0755) == 0);
	CHECK(setenv("PATH", path, 1) == 0);
}

TEST(helpers_are_asked)
{
	auto_cred struct cred c = { 0 }, d = { 0 };

	install_helper("#!/bin/sh\nread s\n[ \"$1 $s\" = \"get a:5000\" ] || { echo credentials not found in "
		       "native keychain; exit 1; }\n"
		       "echo '{\"ServerURL\":\"a:5000\",\"Username\":\"u\",\"Secret\":\"s\"}'\n");
	write_file(
	    "{\"credHelpers\":{\"a:5000\":\"fake\",\"b\":\"fake\"},\"auths\":{\"b\":{\"auth\":\"eDp5\"}}}");
	CHECK_OK(load(file(), "a:5000", NULL, &c));
	CHECK_STR(c.user, "u");
	CHECK_STR(c.password, "s");
	CHECK_OK(load(file(), "b", NULL, &d)); /* the helper knows nothing: the file does */
	CHECK_STR(d.user, "x");
}

TEST(helpers_store_and_the_file_only_notes_it)
{
	auto_cred struct cred in = { .user = xstrdup("joe"), .password = xstrdup("s3cret") };
	auto_free char *script = xasprintf("#!/bin/sh\ncat > %s/got.$1\n", t_tmppath());

	install_helper(script);
	write_file("{\"credsStore\":\"fake\"}");
	CHECK_OK(cred_store(file(), "docker.io", &in));
	CHECK(t_file_is(
	    t_tmpdir(), "got.store",
	    "{\"ServerURL\":\"https://index.docker.io/v1/\",\"Username\":\"joe\",\"Secret\":\"s3cret\"}"));
	CHECK(t_file_is(t_tmpdir(), "config.json",
			"{\n        \"credsStore\": \"fake\",\n        \"auths\": {\n                "
			"\"https://index.docker.io/v1/\": {}\n"
			"        }\n}\n"));
}

TEST(helpers_that_are_missing_fail_or_have_bad_names)
{
	auto_cred struct cred c = { 0 };

	write_file("{\"credsStore\":\"surely-not-installed\"}");
	CHECK_ERR(ERR_INVALID, load(file(), "a", NULL, &c));
	write_file("{\"credsStore\":\"../../tmp/x\"}");
	CHECK_ERR(ERR_INVALID, load(file(), "a", NULL, &c));
	install_helper("#!/bin/sh\nexit 3\n");
	write_file("{\"credsStore\":\"fake\"}");
	CHECK_ERR(ERR_INVALID, load(file(), "a", NULL, &c));
	install_helper("#!/bin/sh\necho junk\n");
	CHECK_ERR(ERR_INVALID, load(file(), "a", NULL, &c));
}

TEST(a_helper_that_fails_says_why)
{
	auto_cred struct cred c = { 0 };
	auto_err struct err *e = NULL;

	install_helper("#!/bin/sh\nprintf 'the keyring is\\033 locked\\n'\nexit 1\n");
	write_file("{\"credsStore\":\"fake\"}");
	e = load(file(), "a", NULL, &c);
	CHECK(e && strstr(e->msg, "status 1: the keyring is  locked"));
	install_helper("#!/bin/sh\necho '[]'\n");
	CHECK_ERR(ERR_INVALID, load(file(), "a", NULL, &c));
}

TEST(an_empty_helper_is_the_file)
{
	auto_cred struct cred c = { 0 };

	write_file("{\"credsStore\":\"surely-not-installed\",\"credHelpers\":{\"a\":\"\"},\"auths\":{\"a\":{\"auth\":\"eDp5\"}}}");
	CHECK_OK(load(file(), "a", NULL, &c));
	CHECK_STR(c.user, "x");
}

static bool at_once(void *ctx)
{
	return ++*(int *)ctx > 1;
}

TEST(a_helper_that_hangs_is_left_when_asked_to)
{
	auto_cred struct cred c = { 0 };
	int asked = 0;
	struct cred_for who = { .domain = "a", .is_cancelled = at_once, .ctx = &asked };

	install_helper("#!/bin/sh\nexec sleep 1000\n");
	write_file("{\"credsStore\":\"fake\"}");
	CHECK_ERR(ERR_CANCELLED, cred_load(file(), &who, &c));
	install_helper("#!/bin/sh\necho '{\"Username\":\"u\",\"Secret\":\"s\"}'\nsleep 3 &\n"); /* keeps the pipe */
	asked = -1000;
	CHECK_OK(cred_load(file(), &who, &c));
	CHECK_STR(c.user, "u");
}

TEST(a_failing_disk_leaves_the_old_file)
{
	auto_cred struct cred in = { .user = xstrdup("joe"), .password = xstrdup("p") };

	FAULT_SWEEP (ENOSPC) {
		struct err *e;

		write_file("{\"auths\":{}}");
		t_sweep_on();
		e = cred_store(file(), "a", &in);
		t_sweep_off();
		CHECK(!e == !t_sweep_fired());
		if (e && !strstr(e->msg, "sync "))
			CHECK(t_file_is(t_tmpdir(), "config.json", "{\"auths\":{}}"));
		CHECK_INT(t_entries(t_tmpdir()), 1);
		err_free(e);
	}
}

static void check_user(const char *dir, const char *repository, const char *want)
{
	auto_cred struct cred c = { 0 };

	CHECK_OK(load(dir, "a:5000", repository, &c));
	if (want)
		CHECK_STR(c.user, want);
	else
		CHECK(!c.user);
}

TEST(the_longest_namespace_of_auth_json_wins_and_docker_comes_first)
{
	auto_free char *path = xasprintf("%s/auth.json", t_tmppath());

	t_file_write(t_tmpdir(), "auth.json",
		     "{\"auths\":{\"a:5000\":{\"auth\":\"aDp5\"},\"a:5000/team\":{\"auth\":\"dDp5\"},"
		     "\"a:5000/team/app\":{\"auth\":\"cDp5\"}}}");
	CHECK(setenv("REGISTRY_AUTH_FILE", path, 1) == 0);
	check_user(NULL, "team/app", "p");
	check_user(NULL, "team/apple", "t");
	check_user(NULL, "teams", "h");
	check_user(file(), NULL, "h");
	write_file("{\"auths\":{\"a:5000\":{\"auth\":\"eDp5\"}}}");
	check_user(file(), "team/app", "x");
	CHECK(unsetenv("REGISTRY_AUTH_FILE") == 0);
	CHECK(unsetenv("XDG_RUNTIME_DIR") == 0 && setenv("XDG_CONFIG_HOME", t_tmppath(), 1) == 0);
	CHECK_INT(sys_mkdir(t_tmpdir(), "containers", 0700), 0);
	t_file_write(t_tmpdir(), "containers/auth.json", "{\"auths\":{\"a:5000\":{\"auth\":\"Zzp5\"}}}");
	check_user(NULL, "team/app", "g");
}
