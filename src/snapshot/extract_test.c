/* extract_test.c - what archives become on disk, and what they can't do. */
#include "snapshot/driver.h"
#include "snapshot/place.h"
#include "snapshot/snapshot_test.h"
#include "sys/fs.h"
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

TEST(extraction_keeps_everything)
{
	static const struct tar_xattr xattrs[] = { { "trusted.key", "value", 5 } };
	static const struct tar_entry e[] = {
		{ .name = "d",
		  .type = '5',
		  .mode = 0711,
		  .uid = 3,
		  .gid = 4,
		  .mtime_ns = INT64_C(5000000001) },
		{ .name = "d/f", .type = '0', .mode = 04755, .uid = 1, .gid = 2, .mtime_ns = 7 },
		{ .name = "d/hard", .type = '1', .link = "d/f" },
		{ .name = "soft", .type = '2', .link = "/d/f", .mtime_ns = 9 },
		{ .name = "null", .type = '3', .mode = 0666, .dev_major = 1, .dev_minor = 3 },
		{ .name = "pipe", .type = '6', .mode = 0600 },
		{ .name = "deep/er/file", .type = '0', .mode = 0644, .xattrs = xattrs, .n_xattrs = 1 },
	};
	struct snapshotter *s;
	char id[DIGEST_MAX], value[8];
	struct stat st, st2;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, sizeof e / sizeof *e, id));
	CHECK(layer_exists(s, id));
	CHECK_INT(layer_size(s, id), 6);
	for (size_t i = 0; i < sizeof e / sizeof *e; i++) {
		auto_free char *path = tree_path(id, e[i].name);

		CHECK(lstat(path, &st) == 0);
		if (e[i].type == '1')
			continue;
		CHECK_INT(st.st_uid, e[i].uid);
		if (e[i].type != '2')
			CHECK_INT(st.st_mode & 07777, e[i].mode);
		CHECK_INT(st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec, e[i].mtime_ns);
	}
	{
		auto_free char *a = tree_path(id, "d/f"), *b = tree_path(id, "d/hard"),
			       *dir = tree_path(id, "deep/er");
		auto_fd int fd = sys_open_dir(dir);

		CHECK(stat(a, &st) == 0 && stat(b, &st2) == 0 && st.st_ino == st2.st_ino);
		CHECK_INT(fs_xattr_get(fd, "file", "trusted.key", value, sizeof value), 5);
	}
	CHECK(is_empty("tmp"));
	CHECK_OK(layer_delete(s, id));
	CHECK(!layer_exists(s, id) && is_empty("tmp"));
	snapshotter_close(s);
}

TEST(nothing_escapes)
{
	static const struct tar_entry bad[][2] = {
		{ { .name = "../out", .type = '0' } },
		{ { .name = "a/../../out", .type = '0' } },
		{ { .name = "..", .type = '5' } },
		{ { .name = "x", .type = '1', .link = "../../out" } },
		{ { .name = "x/..", .type = '2', .link = "y" } },
		{ { .name = ".wh...", .type = '0' } },
		{ { .name = ".wh..", .type = '0' } },
		{ { .name = ".wh.", .type = '0' } },
	};
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		CHECK_ERR(ERR_INVALID, apply(s, bad[i], 1, NULL));
		CHECK(is_empty("tmp") && is_empty("layers"));
	}
	snapshotter_close(s);
}

TEST(links_are_followed_inside_only)
{
	char id[DIGEST_MAX];
	auto_free char *outside = xasprintf("%s/outside", t_tmppath());
	struct tar_entry e[] = {
		{ .name = "usr/lib", .type = '5', .mode = 0755 },
		{ .name = "lib", .type = '2', .link = "usr/lib" },
		{ .name = "lib/x", .type = '0', .mode = 0644 },
		{ .name = "abs", .type = '2', .link = outside },
		{ .name = "abs/y", .type = '0', .mode = 0644 },
	};
	struct snapshotter *s;
	struct stat st;

	CHECK(mkdir(outside, 0755) == 0);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, 3, id));
	{
		auto_free char *path = tree_path(id, "usr/lib/x");

		CHECK(lstat(path, &st) == 0);
	}
	err_free(apply(s, e, 5, id)); /* refused or inside: never outside */
	CHECK(is_empty("outside"));
	snapshotter_close(s);
}

TEST(a_later_entry_replaces)
{
	static const struct tar_entry e[] = {
		{ .name = "a/b", .type = '0', .mode = 0644 }, { .name = "a", .type = '0', .mode = 0600 },
		{ .name = "c", .type = '2', .link = "a" },    { .name = "c", .type = '0', .mode = 0644 },
		{ .name = "d", .type = '0', .mode = 0644 },   { .name = "d", .type = '5', .mode = 0700 },
	};
	char id[DIGEST_MAX];
	struct snapshotter *s;
	struct stat st;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, sizeof e / sizeof *e, id));
	for (int i = 0; i < 3; i++) {
		char name[2] = { "acd"[i], 0 };
		auto_free char *path = tree_path(id, name);

		CHECK(lstat(path, &st) == 0 && (i == 2 ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)));
	}
	snapshotter_close(s);
}

TEST(names_are_cleaned)
{
	static const char *const good[][2] = {
		{ "a", "a" },           { "a//b/./c/", "a/b/c" },
		{ "a/../b", "b" },      { "./x", "x" },
		{ "a/b/../../c", "c" }, { "", "" },
		{ "/abs", "abs" },      { "a/..", "" },
		{ "...", "..." },       { "..a/b..", "..a/b.." },
		{ "aa/b/../", "aa" },
	};
	static const char *const bad[] = { "..", "../x", "a/../../x", "./..", "a/b/../../..", "/.." };
	char out[PLACE_NAME_MAX], name[PLACE_NAME_MAX + 16];

	for (size_t i = 0; i < LEN(good); i++) {
		CHECK(place_clean(good[i][0], out));
		CHECK_STR(out, good[i][1]);
	}
	for (size_t i = 0; i < LEN(bad); i++)
		CHECK(!place_clean(bad[i], out));
	memset(name, 'a', sizeof name);
	name[PLACE_NAME_MAX] = '\0';
	CHECK(!place_clean(name, out));
	name[PLACE_NAME_MAX - 2] = '\0';
	CHECK(place_clean(name, out));
}

TEST(the_umask_does_not_matter)
{
	static const struct tar_entry e[] = { { .name = "implied/f", .type = '0', .mode = 0666 },
					      { .name = "d", .type = '5', .mode = 0777 },
					      { .name = "t", .type = '5', .mode = 01777 } };
	char id[DIGEST_MAX];
	struct snapshotter *s;

	(void)umask(077);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, LEN(e), id));
	CHECK_INT(look(id, "implied").st_mode, S_IFDIR | 0755);
	CHECK_INT(look(id, "implied/f").st_mode, S_IFREG | 0666);
	CHECK_INT(look(id, "d").st_mode, S_IFDIR | 0777);
	CHECK_INT(look(id, "t").st_mode, S_IFDIR | 01777);
	CHECK_INT(look(id, "").st_mode, S_IFDIR | 0755);
	CHECK_INT(umask(022), 077);
	snapshotter_close(s);
}

/* What a directory passes on to new files must not reach those of the archive. */
TEST(nothing_is_inherited)
{
	static const char acl[] =
	    "\2\0\0\0\1\0\7\0\377\377\377\377\4\0\0\0\377\377\377\377\40\0\0\0\377\377\377\377";
	static const struct tar_xattr xattrs[] = { { "system.posix_acl_default", acl, sizeof acl - 1 } };
	static const struct tar_entry e[] = {
		{ .name = "", .type = '5', .mode = 02755, .gid = 8 },
		{ .name = "mail",
		  .type = '5',
		  .mode = 02775,
		  .gid = 50,
		  .mtime_ns = 5,
		  .xattrs = xattrs,
		  .n_xattrs = 1 },
		{ .name = "mail/f", .type = '0', .mode = 0664 },
		{ .name = "mail/d", .type = '5', .mode = 0755 },
		{ .name = "mail/l", .type = '2', .link = "f" },
		{ .name = "top", .type = '0', .mode = 0644 },
	};
	char id[DIGEST_MAX], value[64];
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, LEN(e), id));
	CHECK_INT(look(id, "").st_mode, S_IFDIR | 02755);
	CHECK_INT(look(id, "mail").st_mode, S_IFDIR | 02775);
	CHECK(look(id, "mail").st_mtim.tv_sec == 0 && look(id, "mail").st_mtim.tv_nsec == 5);
	CHECK(look(id, "mail/f").st_mode == (S_IFREG | 0664) && look(id, "mail/f").st_gid == 0);
	CHECK(look(id, "mail/d").st_mode == (S_IFDIR | 0755) && look(id, "mail/d").st_gid == 0);
	CHECK(look(id, "mail/l").st_gid == 0 && look(id, "top").st_gid == 0);
	{
		auto_free char *path = tree_path(id, "");
		auto_fd int fd = sys_open_dir(path);
		ssize_t n = fs_xattr_get(fd, "mail", "system.posix_acl_default", value, sizeof value);

		CHECK(n == (ssize_t)sizeof acl - 1 || n == -EOPNOTSUPP);
	}
	snapshotter_close(s);
}

TEST(attributes_that_are_not_the_images_stay_out)
{
	static const char cap[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0";
	static const struct tar_xattr xattrs[] = {
		{ "security.capability", cap, sizeof cap },
		{ "security.selinux", "x", 1 },
		{ "trusted.overlay.opaque", "y", 1 },
		{ "trusted.overlay.redirect", "/", 1 },
		{ "user.overlay.opaque", "y", 1 },
		{ "trusted.other", "z", 1 },
		{ "trusted.mine", "", 0 },
	};
	static const struct tar_entry e[] = {
		{ .name = "", .type = '5', .mode = 0755, .xattrs = xattrs + 2, .n_xattrs = 5 },
		{ .name = "f",
		  .type = '0',
		  .mode = 0755,
		  .uid = 7,
		  .xattrs = xattrs,
		  .n_xattrs = LEN(xattrs) },
		{ .name = "l", .type = '2', .link = "f", .xattrs = xattrs + 1, .n_xattrs = 6 },
	};
	static const char *const names[] = { ".", "f", "l" };
	char id[DIGEST_MAX], list[1024];
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, LEN(e), id));
	for (int i = 0; i < 3; i++) {
		auto_free char *path = tree_path(id, "");
		auto_fd int fd = sys_open_dir(path);
		ssize_t n = fs_xattr_list(fd, names[i], list, sizeof list);
		bool cap_seen = false, other_seen = false;

		CHECK(n >= 0);
		for (char *k = list; k < list + n; k += strlen(k) + 1) {
			CHECK(!strstr(k, "overlay") && !strstr(k, "selinux"));
			cap_seen |= strcmp(k, "security.capability") == 0;
			other_seen |= strcmp(k, "trusted.other") == 0;
		}
		CHECK(cap_seen == (i == 1) && other_seen);
	}
	snapshotter_close(s);
}

/* lib -> somewhere, then lib/x: where it must be found, or NULL for a refusal. */
TEST(parents_that_are_links)
{
	static const struct {
		const char *link, *want;
	} cases[] = {
		{ "usr/lib", "usr/lib/x" },
		{ "/usr/lib", "usr/lib/x" },
		{ "missing/dir", "missing/dir/x" },
		{ "/missing", "missing/x" },
		{ "../../../usr/lib", "usr/lib/x" },
		{ "../../../../new/one", "new/one/x" },
		{ "usr/../other", "other/x" },
		{ "/", "x" },
		{ ".", "x" },
		{ "file", NULL },
		{ "lib", NULL },
		{ "lib/deeper", NULL },
		{ "dangling", NULL },
		{ "usr/up", "x" },
	};

	for (size_t i = 0; i < LEN(cases); i++) {
		struct tar_entry e[] = {
			{ .name = "usr/lib", .type = '5', .mode = 0755 },
			{ .name = "usr/up", .type = '2', .link = ".." },
			{ .name = "file", .type = '0', .mode = 0644 },
			{ .name = "dangling", .type = '2', .link = "nowhere" },
			{ .name = "lib", .type = '2', .link = cases[i].link },
			{ .name = "lib/x", .type = '0', .mode = 0644, .mtime_ns = 5 },
			{ .name = "lib/y", .type = '0', .mode = 0644, .mtime_ns = 5 },
		};
		struct snapshotter *s;
		char id[DIGEST_MAX];
		struct err *error;

		CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
		error = apply(s, e, LEN(e), id);
		CHECK((error == NULL) == (cases[i].want != NULL));
		if (!error) {
			CHECK(look(id, cases[i].want).st_nlink && S_ISLNK(look(id, "lib").st_mode));
			CHECK_OK(layer_delete(s, id));
		} else {
			CHECK_INT(error->kind, ERR_INVALID);
		}
		err_free(error);
		CHECK(is_empty("tmp") && is_empty("layers"));
		snapshotter_close(s);
	}
}

TEST(hard_links)
{
	static const struct tar_entry e[] = {
		{ .name = "f", .type = '0', .mode = 0644 },
		{ .name = "soft", .type = '2', .link = "f" },
		{ .name = "d/a", .type = '1', .link = "/f" },
		{ .name = "d/b", .type = '1', .link = "./d/../d/a" },
		{ .name = "d/b", .type = '1', .link = "f" },
		{ .name = "s2", .type = '1', .link = "soft" },
		{ .name = "ld", .type = '2', .link = "d" },
		{ .name = "via", .type = '1', .link = "ld/a" },
	};
	static const struct tar_entry bad[] = {
		{ .name = "x", .type = '1', .link = "missing" },
		{ .name = "x", .type = '1', .link = "d" },
		{ .name = "x", .type = '1', .link = "" },
		{ .name = "x", .type = '1', .link = "../f" },
		{ .name = "x", .type = '1', .link = "d/../../f" },
	};
	struct snapshotter *s;
	char id[DIGEST_MAX];
	ino_t f, soft;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, LEN(e), id));
	CHECK_INT(layer_size(s, id), 3);
	f = look(id, "f").st_ino;
	soft = look(id, "soft").st_ino;
	CHECK_INT(look(id, "f").st_nlink, 4);
	CHECK(look(id, "d/a").st_ino == f && look(id, "d/b").st_ino == f && look(id, "via").st_ino == f);
	CHECK(look(id, "s2").st_ino == soft && S_ISLNK(look(id, "s2").st_mode));
	CHECK_OK(layer_delete(s, id));
	for (size_t i = 0; i < LEN(bad); i++) {
		struct tar_entry two[] = { { .name = "d", .type = '5', .mode = 0755 }, bad[i] };
		struct err *error = apply(s, two, 2, NULL);

		CHECK(error);
		err_free(error);
		CHECK(is_empty("tmp") && is_empty("layers"));
	}
	snapshotter_close(s);
}

TEST(hard_links_do_not_reach_out)
{
	auto_free char *outside = xasprintf("%s/outside", t_tmppath());
	struct snapshotter *s;
	struct stat st;

	CHECK(mkdir(outside, 0755) == 0);
	t_file_write(t_tmpdir(), "outside/x", "canary");
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	for (int i = 0; i < 2; i++) {
		struct tar_entry e[] = {
			{ .name = "l", .type = '2', .link = i ? "../../../../outside" : outside },
			{ .name = "mine", .type = '1', .link = "l/x" }
		};
		struct err *error = apply(s, e, 2, NULL);

		CHECK(error && is_empty("layers"));
		err_free(error);
		CHECK(fstatat(t_tmpdir(), "outside/x", &st, 0) == 0 && st.st_nlink == 1);
	}
	snapshotter_close(s);
}

/* Every kind of entry over every other, and then something below it. */
TEST(any_kind_replaces_any_other)
{
	static const char kinds[] = "0123456";

	for (size_t a = 0; a < LEN(kinds) - 1; a++)
		for (size_t b = 0; b < LEN(kinds) - 1; b++) {
			static const mode_t types[] = { S_IFREG, S_IFREG, S_IFLNK, S_IFCHR,
							S_IFBLK, S_IFDIR, S_IFIFO };
			struct tar_entry e[] = {
				{ .name = "t/f", .type = '0', .mode = 0644 },
				{ .name = "n",
				  .type = kinds[a],
				  .mode = 0755,
				  .link = "t",
				  .dev_major = 1,
				  .dev_minor = 3 },
				{ .name = "n",
				  .type = kinds[b],
				  .mode = 0700,
				  .link = "t",
				  .dev_major = 1,
				  .dev_minor = 3 },
				{ .name = "n/below", .type = '0', .mode = 0644 },
			};
			struct snapshotter *s;
			char id[DIGEST_MAX];
			struct err *error;

			for (int i = 1; i < 3; i++)
				if (e[i].type == '1')
					e[i].link = "t/f";
			CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
			CHECK_OK(apply(s, e, 3, id));
			CHECK_INT(look(id, "n").st_mode & S_IFMT, types[b]);
			CHECK(kinds[b] != '5' || (look(id, "n").st_mode & 07777) == 0700);
			CHECK(look(id, "t/f").st_nlink);
			CHECK_OK(layer_delete(s, id));
			error = apply(s, e, 4, id);
			CHECK((error == NULL) == (kinds[b] == '5' || kinds[b] == '2'));
			CHECK(!error || error->kind == ERR_INVALID);
			if (!error) {
				CHECK(look(id, kinds[b] == '5' ? "n/below" : "t/below").st_nlink);
				CHECK_OK(layer_delete(s, id));
			}
			err_free(error);
			CHECK(is_empty("tmp") && is_empty("layers"));
			snapshotter_close(s);
		}
}

TEST(names_as_deep_as_tar_has_them)
{
	auto_buf struct buf name = BUF(PLACE_NAME_MAX);
	struct tar_entry e[3] = { { .type = '0', .mode = 0644, .mtime_ns = 9 },
				  { .name = "d/x", .type = '0', .mode = 0644 },
				  { .type = '0', .mode = 0600, .mtime_ns = 9 } };
	struct snapshotter *s;
	char id[DIGEST_MAX];

	for (int i = 0; i < 1990; i++)
		buf_str(&name, i % 100 ? "d/" : "e/");
	buf_ch(&name, 'f');
	e[0].name = e[2].name = buf_text(&name);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, 3, id));
	CHECK(look(id, "e/d/d/d").st_mtim.tv_nsec == 9);
	CHECK_INT(layer_size(s, id), 9);
	CHECK_OK(layer_delete(s, id));
	CHECK(is_empty("tmp") && is_empty("layers"));
	snapshotter_close(s);
}

static int tool(const char *const argv[])
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		(void)execvp(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* GNU tar packs a real tree and afterwards compares ours with its archive. */
TEST(a_real_tree_is_as_gnu_tar_has_it)
{
	auto_free char *archive = xasprintf("%s/a.tar", t_tmppath()), *tree = NULL;
	const char *pack[] = { "tar",   "--format=posix", "-C",          "/usr",    "-cf",
			       archive, "share/zoneinfo", "share/perl5", "lib/ssl", NULL };
	const char *compare[] = { "tar", "--compare", "-C", NULL, "-f", archive, NULL };
	struct snapshotter *s;
	char id[DIGEST_MAX];
	auto_fd int fd = -1;
	int r = tool(pack);

	if (r == 127)
		t_skip("needs tar");
	CHECK((fd = sys_openat(t_tmpdir(), "a.tar", O_RDONLY, 0)) >= 0);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(layer_apply(s, zip_source_fd(&fd), NULL, id));
	compare[3] = tree = tree_path(id, "");
	CHECK_INT(tool(compare), 0);
	CHECK_OK(layer_delete(s, id));
	snapshotter_close(s);
}

TEST(extraction_over_a_tree_that_is_there)
{
	static const struct tar_entry e[] = { { .name = "there/new", .type = '0', .mode = 0644 },
					      { .name = "there/.wh.old", .type = '0', .mode = 0600 },
					      { .name = "link/through", .type = '0', .mode = 0644 } };
	auto_buf struct buf b = BUF(1 << 20);
	auto_fd int tree = -1;
	struct bytes in;
	struct stat st;

	CHECK(mkdirat(t_tmpdir(), "tree", 0755) == 0 && mkdirat(t_tmpdir(), "outside", 0755) == 0);
	tree = openat(t_tmpdir(), "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(mkdirat(tree, "there", 0700) == 0 && symlinkat("../outside", tree, "link") == 0);
	t_file_write(tree, "there/old", "stays");
	t_file_write(tree, "there/new", "goes");
	make_tar(e, LEN(e), &b);
	in = (struct bytes){ b.data, b.n, 0 };
	CHECK_OK(snapshot_extract(tree, (struct zip_source){ take, &in }));
	CHECK(t_file_is(tree, "there/old", "stays") && t_file_is(tree, "there/new", "abc"));
	CHECK(t_file_is(tree, "there/.wh.old", "abc") && t_file_is(tree, "outside/through", "abc"));
	CHECK(is_empty("outside"));
	CHECK(fstatat(tree, "there", &st, 0) == 0 && (st.st_mode & 07777) == 0700);
	in = (struct bytes){ b.data, 600, 0 };
	CHECK_ERR(ERR_CORRUPT, snapshot_extract(tree, (struct zip_source){ take, &in }));
}

/* Archives thrown together from hostile parts: whatever becomes of them, nothing beside the tree changes. */
TEST(no_mixture_leads_out)
{
	enum { ROUNDS = 1500, ENTRIES = 10 };
	auto_free char *outside = xasprintf("%s/outside", t_tmppath());
	const char *names[] = { "a",
				"b",
				"a/b",
				"b/a",
				"a/b/c",
				"a/../b",
				"../a",
				"a/../../outside/x",
				"/a",
				".",
				"..",
				"a/..",
				".wh.a",
				"a/.wh.b",
				"a/.wh..wh..opq",
				".wh...",
				"a/a/a/a",
				"outside",
				"a/outside/x",
				"b/x" };
	const char *links[] = { "..",
				"/",
				".",
				"../..",
				"../outside",
				"../../outside",
				outside,
				"a",
				"b",
				"a/b",
				"../b",
				"/a/b",
				"x",
				"/proc/self/cwd",
				"../../../../../../../tmp" };
	uint32_t seed = 1;
	int good = 0;

	CHECK(mkdir(outside, 0700) == 0);
	t_file_write(t_tmpdir(), "outside/x", "canary");
	for (int round = 0; round < ROUNDS; round++) {
		auto_buf struct buf b = BUF(1 << 20);
		struct tar_entry e[ENTRIES];
		auto_fd int tree = -1;
		uint64_t size;
		struct bytes in;
		struct stat st;
		struct err *error;

		for (int i = 0; i < ENTRIES; i++) {
			uint32_t r = seed = seed * 1664525u + 1013904223u;

			e[i] = (struct tar_entry){ .name = names[(r >> 8) % LEN(names)],
						   .type = "0012225556"[(r >> 16) % 10],
						   .link = links[(r >> 20) % LEN(links)],
						   .mode = 0755 };
		}
		CHECK(mkdirat(t_tmpdir(), "tree", 0755) == 0);
		tree = openat(t_tmpdir(), "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		make_tar(e, (size_t)(round % ENTRIES) + 1, &b);
		in = (struct bytes){ b.data, b.n, 0 };
		error = extract_tar(tree, (struct zip_source){ take, &in }, round % 2, &size);
		good += !error;
		err_free(error);
		CHECK(t_file_is(t_tmpdir(), "outside/x", "canary") && is_empty("outside") == false);
		CHECK(fstatat(t_tmpdir(), "outside/x", &st, 0) == 0 && st.st_nlink == 1);
		CHECK(stat(outside, &st) == 0 && (st.st_mode & 07777) == 0700 && t_entries(t_tmpdir()) == 2);
		CHECK_INT(fs_remove_tree(t_tmpdir(), "tree"), 0);
	}
	CHECK(good > ROUNDS / 10 && good < ROUNDS);
}

struct exchange {
	int tree_fd;
	atomic_bool stop;
};

static void *exchange(void *ctx)
{
	struct exchange *x = ctx;

	while (!atomic_load(&x->stop))
		for (int i = 0; i < 64; i++) {
			(void)renameat2(x->tree_fd, "d", x->tree_fd, "link", RENAME_EXCHANGE);
			(void)renameat2(x->tree_fd, "f", x->tree_fd, "flink", RENAME_EXCHANGE);
		}
	return NULL;
}

/* A container swaps directories and links while a tar is copied into it. */
TEST(a_race_does_not_lead_out)
{
	static const struct tar_xattr xattrs[] = { { "trusted.mark", "x", 1 } };
	static const struct tar_entry e[] = {
		{ .name = "d",
		  .type = '5',
		  .mode = 02711,
		  .uid = 5,
		  .gid = 6,
		  .xattrs = xattrs,
		  .n_xattrs = 1 },
		{ .name = "d/x", .type = '0', .mode = 04755, .uid = 5 },
		{ .name = "d/sub/y", .type = '0', .mode = 0644 },
		{ .name = "f", .type = '6', .mode = 01600, .uid = 5, .xattrs = xattrs, .n_xattrs = 1 },
		{ .name = "d/x", .type = '3', .mode = 01666, .gid = 7, .dev_major = 1, .dev_minor = 3 },
		{ .name = "d/hard", .type = '1', .link = "d/x" },
		{ .name = "f", .type = '0', .mode = 06755, .uid = 5 },
	};
	auto_free char *outside = xasprintf("%s/outside", t_tmppath()),
		       *file = xasprintf("%s/outside/x", t_tmppath());
	struct exchange x = { 0 };
	auto_buf struct buf b = BUF(1 << 20);
	auto_fd int tree = -1, out = -1;
	pthread_t thread;
	char value[4];
	struct stat st;
	int good = 0;

	CHECK(mkdir(outside, 0700) == 0 && mkdirat(t_tmpdir(), "tree", 0755) == 0);
	t_file_write(t_tmpdir(), "outside/x", "canary");
	tree = openat(t_tmpdir(), "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	out = openat(t_tmpdir(), "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(mkdirat(tree, "d", 0755) == 0 && symlinkat(outside, tree, "link") == 0 &&
	      symlinkat(file, tree, "flink") == 0);
	t_file_write(tree, "f", "");
	make_tar(e, LEN(e), &b);
	x.tree_fd = tree;
	CHECK(pthread_create(&thread, NULL, exchange, &x) == 0);
	for (int i = 0; i < 2000; i++) {
		struct bytes in = { b.data, b.n, 0 };
		uint64_t size;
		struct err *error = extract_tar(tree, (struct zip_source){ take, &in }, false, &size);

		good += !error;
		err_free(error);
	}
	atomic_store(&x.stop, true);
	CHECK(pthread_join(thread, NULL) == 0);
	CHECK(good > 0);
	CHECK(t_file_is(out, "x", "canary") && t_entries(out) == 1);
	CHECK(fstat(out, &st) == 0 && (st.st_mode & 07777) == 0700 && st.st_uid == 0);
	CHECK(fstatat(out, "x", &st, 0) == 0 && (st.st_mode & 07777) == 0644 && st.st_uid == 0 &&
	      st.st_nlink == 1);
	CHECK(fs_xattr_get(out, "x", "trusted.mark", value, sizeof value) < 0);
	CHECK(fs_xattr_get(out, ".", "trusted.mark", value, sizeof value) < 0);
}

TEST(zeros_become_holes)
{
	static const size_t sizes[] = { 3 << 20, (3 << 20) + 5, 70000, 100 };
	enum { BIG = (3 << 20) + 5 };
	auto_free char *content = xcalloc(1, BIG), *back = xmalloc(BIG);
	struct snapshotter *s;

	content[1500000] = 'x';
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	for (size_t i = 0; i < LEN(sizes); i++) {
		struct tar_entry e = { .name = "f", .link = "", .type = '0', .mode = 0644, .size = sizes[i] };
		auto_tar_writer struct tar_writer *w = NULL;
		auto_buf struct buf b = BUF(8 << 20);
		auto_free char *path = NULL;
		auto_fd int fd = -1;
		char id[DIGEST_MAX];
		struct bytes in;

		CHECK_OK(tar_writer_new((struct zip_sink){ give, &b }, &w));
		CHECK_OK(tar_add(w, &e));
		CHECK_OK(tar_write(w, content, sizes[i]));
		CHECK_OK(tar_finish(w));
		in = (struct bytes){ b.data, b.n, 0 };
		CHECK_OK(layer_apply(s, (struct zip_source){ take, &in }, NULL, id));
		path = tree_path(id, "f");
		CHECK((fd = open(path, O_RDONLY | O_CLOEXEC)) >= 0);
		CHECK_INT(sys_read_full(fd, back, BIG), sizes[i]);
		CHECK(memcmp(back, content, sizes[i]) == 0);
		CHECK(look(id, "f").st_blocks <= 2048);
	}
	snapshotter_close(s);
}
