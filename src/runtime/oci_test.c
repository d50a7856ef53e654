/* oci_test.c - the option tables, names of slices, what features promises. */
#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "runtime/oci.h"
#include "runtime/oci_systemd.h"
#include "runtime/plan.h"
#include "sys/sys.h"
#include <string.h>
#include <unistd.h>

struct conf {
	const char *text;
	char **list;
	bool flag, other;
};
static const struct oci_opt opts[] = {
	{ OCI_STR, 't', "text", "T", offsetof(struct conf, text), "" },
	{ OCI_LIST, 'l', "list", "L", offsetof(struct conf, list), "" },
	{ OCI_FLAG, 'f', "flag", NULL, offsetof(struct conf, flag), "" },
	{ OCI_FLAG, 'o', "other", NULL, offsetof(struct conf, other), "" },
	{ OCI_ACCEPT, 0, "noop", NULL, 0, "" },
	{ .kind = OCI_END },
};
static struct oci_cmd cmd = { .name = "x",
			      .args = "A [B]",
			      .opts = opts,
			      .conf_size = sizeof(struct conf),
			      .min_args = 1,
			      .max_args = 2 };

static struct err *parse(const char *line, struct conf *c, char ***out_args, bool *out_help)
{
	static char words[256];
	char *argv[16] = { NULL };
	size_t n = 0;

	(void)snprintf(words, sizeof words, "%s", line);
	for (char *at = words; *at && n < 15;) {
		argv[n++] = at;
		at += strcspn(at, " ");
		if (*at)
			*at++ = 0;
	}
	*c = (struct conf){ 0 };
	*out_help = false;
	return oci_parse(&cmd, argv, c, out_args, out_help);
}

static void refuse(const char *line, const char *why)
{
	auto_free char **args = NULL;
	struct conf c;
	bool help;
	struct err *e = parse(line, &c, &args, &help);

	CHECK(e && strstr(e->msg, why));
	err_free(e);
	oci_conf_fini(&cmd, &c);
}

TEST(options_stand_before_and_behind_the_arguments)
{
	static const char *const lines[] = { "--text=v -l a --list b -fo A B",
					     "A -t v --list=a -lb B --flag=true -o",
					     "-fotv A --noop -l a -l b -- B" };

	for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
		auto_free char **args = NULL;
		struct conf c;
		bool help;

		CHECK_OK(parse(lines[i], &c, &args, &help));
		CHECK(!help && c.flag && c.other);
		CHECK_STR(c.text, "v");
		CHECK_STR(c.list[0], "a");
		CHECK_STR(c.list[1], "b");
		CHECK(!strcmp(args[0], "A") && !strcmp(args[1], "B") && !args[2]);
		oci_conf_fini(&cmd, &c);
	}
}

TEST(bad_command_lines_say_what_is_wrong)
{
	refuse("--nothing A", "unknown option \"--nothing\"");
	refuse("-fx A", "unknown option \"-x\"");
	refuse("A --text", "option --text needs a value");
	refuse("A -t", "option -t needs a value");
	refuse("--flag=maybe A", "neither true nor false");
	refuse("", "too few arguments");
	refuse("A B C", "too many arguments");
}

TEST(options_of_a_command_to_run_are_not_ours)
{
	auto_free char **args = NULL;
	struct conf c;
	bool help;

	cmd.stop_at_arg = true;
	CHECK_OK(parse("-f A -o", &c, &args, &help));
	CHECK(c.flag && !c.other && !strcmp(args[1], "-o"));
	cmd.stop_at_arg = false;
}

TEST(slices_are_nested_by_their_names)
{
	static const struct {
		const char *name, *path;
	} good[] = { { "system.slice", "system.slice" },
		     { "a-b.slice", "a.slice/a-b.slice" },
		     { "a-b-c.slice", "a.slice/a-b.slice/a-b-c.slice" },
		     { "-.slice", "" } };
	static const char *const bad[] = { "",         ".slice",   "system",   "a--b.slice",
					   "-a.slice", "a-.slice", "a/b.slice" };

	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		auto_free char *path = NULL;

		CHECK_OK(oci_slice_path(good[i].name, &path));
		CHECK_STR(path, good[i].path);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		auto_free char *path = NULL;

		CHECK_ERR(ERR_INVALID, oci_slice_path(bad[i], &path));
	}
}

TEST(only_paths_below_the_container_are_joined)
{
	static const char *const bad[] = { "..", "a/..", "../a", "memory:../x", "./../a" };

	CHECK_OK(oci_cgroup_check_sub("a/b"));
	CHECK_OK(oci_cgroup_check_sub("memory,cpu:a..b"));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		CHECK_ERR(ERR_INVALID, oci_cgroup_check_sub(bad[i]));
}

static char *root_path;

/* Somebody deletes the last container, and with it the root, between the first two directories that are made. */
static int root_goes(const char *call)
{
	static int made;

	if (strcmp(call, "mkdir") == 0 && ++made == 2)
		(void)rmdir(root_path);
	return 0;
}

TEST(a_root_that_goes_in_the_middle_is_made_again)
{
	auto_free char *root = xasprintf("%s/root", t_tmppath());
	const struct oci o = { .root = root };
	auto_box struct oci_box b = OCI_BOX;

	root_path = root;
	sys_fault = root_goes;
	CHECK_OK(oci_box_new(&o, "c", &b));
	sys_fault = NULL;
	CHECK(access(b.path, F_OK) == 0);
	CHECK_OK(oci_box_remove(&b));
	CHECK(rmdir(root) == 0);
}
