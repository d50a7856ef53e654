/* usage_test.c - what trees of any depth take, also while others change them. */
#include "engine/usage.h"
#include "base/mem.h"
#include "base/own.h"
#include "harness/t.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { DEEP = 400, NAME = 100 }; /* together more than a path may be long */

static char *long_name(void)
{
	char *name = xcalloc(1, NAME + 1);

	memset(name, 'd', NAME);
	return name;
}

/* "top" with DEEP directories in each other, a file in the last and one beside the first, named so that it comes later. */
static void make_deep(void)
{
	auto_free char *name = long_name();
	auto_fd int fd = -1;

	CHECK(mkdirat(t_tmpdir(), "top", 0755) == 0);
	fd = openat(t_tmpdir(), "top", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(close(openat(fd, "last", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) == 0);
	for (int i = 0; i < DEEP; i++) {
		int below;

		CHECK(mkdirat(fd, name, 0755) == 0);
		below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		CHECK(below >= 0 && close(fd) == 0);
		fd = below;
	}
	CHECK(close(openat(fd, "bottom", O_WRONLY | O_CREAT | O_CLOEXEC, 0600)) == 0);
	CHECK(linkat(fd, "bottom", t_tmpdir(), "elsewhere", 0) == 0);
}

static int looked_at;

static int count_looks(const char *call)
{
	looked_at += strcmp(call, "fstatat") == 0;
	return 0;
}

TEST(a_tree_deeper_than_a_path_is_counted)
{
	auto_usage struct usage u = { 0 };

	make_deep();
	sys_fault = count_looks;
	CHECK_OK(usage_add(&u, t_tmpdir(), "top"));
	sys_fault = NULL;
	CHECK_INT(looked_at, DEEP + 3); /* each once: top, the directories, bottom, last */
	CHECK_INT(u.links.n, 1);
	CHECK(u.freed <= u.all);
	CHECK_INT(fs_remove_tree(t_tmpdir(), "top"), 0);
}

/* Moves the lower half of the tree out of it while its end is looked at. */
static int move_at_the_end(const char *call)
{
	auto_free char *name = long_name();
	auto_fd int fd = -1;

	looked_at += strcmp(call, "fstatat") == 0;
	if (strcmp(call, "fstatat") != 0 || looked_at != DEEP + 1)
		return 0;
	fd = openat(t_tmpdir(), "top", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; i < DEEP / 2; i++) {
		int below = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

		CHECK(below >= 0 && close(fd) == 0);
		fd = below;
	}
	CHECK(renameat(fd, name, t_tmpdir(), "moved") == 0);
	return 0;
}

TEST(what_moves_away_meanwhile_does_not_lead_out)
{
	auto_usage struct usage u = { 0 };

	make_deep();
	sys_fault = move_at_the_end;
	CHECK_OK(usage_add(&u, t_tmpdir(), "top"));
	sys_fault = NULL;
	CHECK_INT(looked_at, DEEP + 3); /* "last" too, nothing twice, nothing beside "moved" */
	CHECK_INT(u.links.n, 1);
	CHECK_INT(fs_remove_tree(t_tmpdir(), "top"), 0);
	CHECK_INT(fs_remove_tree(t_tmpdir(), "moved"), 0);
}

static int removed_at;

static int remove_at(const char *call)
{
	(void)call;
	if (++looked_at == removed_at) {
		sys_fault = NULL;
		CHECK_INT(fs_remove_tree(t_tmpdir(), "top/d"), 0);
	}
	return 0;
}

TEST(what_goes_meanwhile_does_not_count)
{
	auto_free char *make_it = xasprintf("mkdir -p %s/top/d/e && cd %s/top && touch d/e/f d/f z", t_tmppath(), t_tmppath());

	for (removed_at = 1, looked_at = 1; looked_at >= removed_at - 1; removed_at++) {
		auto_usage struct usage u = { 0 };

		t_shell(make_it);
		looked_at = 0;
		sys_fault = remove_at;
		CHECK_OK(usage_add(&u, t_tmpdir(), "top"));
		sys_fault = NULL;
	}
	CHECK(removed_at > 10);
}
