#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "harness/t.h"
#include "registry/daemon.h"

static struct err *load(const char *text, struct daemon_conf *out)
{
	auto_free char *path = xasprintf("%s/daemon.json", t_tmppath());

	t_file_write(t_tmpdir(), "daemon.json", text);
	return daemon_load(path, out);
}

TEST(no_file_says_nothing)
{
	auto_daemon struct daemon_conf c = { 0 };

	CHECK_OK(daemon_load("/nonexistent/daemon.json", &c));
	CHECK(!daemon_is_insecure(&c, "a:5000") && !c.mirrors);
}

TEST(names_and_networks)
{
	auto_daemon struct daemon_conf c = { 0 };

	CHECK_OK(load("{\"insecure-registries\":[\"reg.lan:5000\",\"10.1.0.0/15\",\"fd00::/8\",\"bad/"
		      "99\",\"1.2.3.4/x\"],"
		      "\"registry-mirrors\":[\"https://m\"],\"log-driver\":\"none\"}",
		      &c));
	CHECK(daemon_is_insecure(&c, "reg.lan:5000") && daemon_is_insecure(&c, "10.0.9.9:5000") &&
	      daemon_is_insecure(&c, "10.1.2.3") && daemon_is_insecure(&c, "[fd12::1]:5000"));
	CHECK(!daemon_is_insecure(&c, "reg.lan") && !daemon_is_insecure(&c, "10.2.0.1") &&
	      !daemon_is_insecure(&c, "[fe80::1]:5") && !daemon_is_insecure(&c, "10.1.evil.org") &&
	      !daemon_is_insecure(&c, "1.2.3.4"));
	CHECK_INT(text_list_len(c.mirrors), 1);
}

TEST(everything_is_a_network_of_no_bits)
{
	auto_daemon struct daemon_conf c = { 0 };

	CHECK_OK(load("{\"insecure-registries\":[\"0.0.0.0/0\"]}", &c));
	CHECK(daemon_is_insecure(&c, "8.8.8.8") && !daemon_is_insecure(&c, "name") &&
	      !daemon_is_insecure(&c, "[::1]"));
}

TEST(broken_files_are_errors)
{
	static const char *const bad[] = { "{", "{\"insecure-registries\":7}", "{\"registry-mirrors\":[1]}" };

	for (size_t i = 0; i < LEN(bad); i++) {
		auto_daemon struct daemon_conf c = { 0 };

		CHECK_ERR(ERR_INVALID, load(bad[i], &c));
	}
}
