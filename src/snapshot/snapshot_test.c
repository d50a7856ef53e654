/* snapshot_test.c - layers in and out: extraction, escapes, whiteouts, diff, views, crashes. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/tar.h"
#include "harness/t.h"
#include "snapshot/snapshot.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

struct bytes {
	const char *p;
	size_t n, at;
};

static struct err *take(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct bytes *b = ctx;

	*out_n = n < b->n - b->at ? n : b->n - b->at;
	memcpy(p, b->p + b->at, *out_n);
	b->at += *out_n;
	return NULL;
}

static struct err *give(void *ctx, const void *p, size_t n)
{
	buf_add(ctx, p, n);
	return NULL;
}

static void make_tar(const struct tar_entry *e, size_t n, struct buf *out)
{
	struct tar_writer *w;

	CHECK_OK(tar_writer_new((struct zip_sink){ give, out }, &w));
	for (size_t i = 0; i < n; i++) {
		struct tar_entry one = e[i];

		if (!one.link)
			one.link = "";
		one.size = one.type == '0' ? 3 : 0;
		CHECK_OK(tar_add(w, &one));
		if (one.size)
			CHECK_OK(tar_write(w, "abc", 3));
	}
	CHECK_OK(tar_finish(w));
	tar_writer_free(w);
}

static struct err *apply(struct snapshotter *s, const struct tar_entry *e, size_t n, char *diff_id)
{
	auto_buf struct buf b = BUF(1 << 20);
	struct bytes in;

	make_tar(e, n, &b);
	in = (struct bytes){ b.data, b.n, 0 };
	return layer_apply(s, (struct zip_source){ take, &in }, NULL, diff_id);
}

static char *tree_path(const char *diff_id, const char *name)
{
	return xasprintf("%s/layers/%s/tree/%s", t_tmppath(), digest_hex(diff_id), name);
}

static bool is_empty(const char *dir)
{
	auto_fd int fd = sys_openat(t_tmpdir(), dir, O_RDONLY | O_DIRECTORY, 0);

	return t_entries(fd) == 0;
}

TEST(extraction_keeps_everything)
{
	static const struct tar_xattr xattrs[] = { { "user.key", "value", 5 } };
	static const struct tar_entry e[] = {
		{ .name = "d", .type = '5', .mode = 0711, .uid = 3, .gid = 4, .mtime_ns = INT64_C(5000000001) },
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

	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
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
		auto_free char *a = tree_path(id, "d/f"), *b = tree_path(id, "d/hard"), *dir = tree_path(id, "deep/er");
		auto_fd int fd = sys_open_dir(dir);

		CHECK(stat(a, &st) == 0 && stat(b, &st2) == 0 && st.st_ino == st2.st_ino);
		CHECK_INT(fs_xattr_get(fd, "file", "user.key", value, sizeof value), 5);
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

	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
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
	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
	CHECK_OK(apply(s, e, 3, id));
	{
		auto_free char *path = tree_path(id, "usr/lib/x");

		CHECK(lstat(path, &st) == 0);
	}
	err_free(apply(s, e, 5, id)); /* refused or inside: never outside */
	CHECK(is_empty("outside"));
	snapshotter_close(s);
}

TEST(wrong_digest_leaves_nothing)
{
	static const struct tar_entry e[] = { { .name = "f", .type = '0', .mode = 0644 } };
	static const char want[] = "sha256:0000000000000000000000000000000000000000000000000000000000000000";
	auto_buf struct buf b = BUF(1 << 20);
	struct snapshotter *s;
	struct bytes in;

	make_tar(e, 1, &b);
	in = (struct bytes){ b.data, b.n, 0 };
	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
	CHECK_ERR(ERR_CORRUPT, layer_apply(s, (struct zip_source){ take, &in }, want, NULL));
	in = (struct bytes){ b.data, 700, 0 };
	CHECK_ERR(ERR_CORRUPT, layer_apply(s, (struct zip_source){ take, &in }, NULL, NULL));
	CHECK(is_empty("tmp") && is_empty("layers"));
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

	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
	CHECK_OK(apply(s, e, sizeof e / sizeof *e, id));
	for (int i = 0; i < 3; i++) {
		char name[2] = { "acd"[i], 0 };
		auto_free char *path = tree_path(id, name);

		CHECK(lstat(path, &st) == 0 && (i == 2 ? S_ISDIR(st.st_mode) : S_ISREG(st.st_mode)));
	}
	snapshotter_close(s);
}

/* Upper -> tar -> layer -> upper again: the same view and the same bytes. */
TEST(diff_is_reproducible_and_applies)
{
	static const struct tar_entry base[] = {
		{ .name = "keep", .type = '0', .mode = 0644 },
		{ .name = "gone", .type = '0', .mode = 0644 },
		{ .name = "dir/old", .type = '0', .mode = 0644 },
	};
	char ids[2][DIGEST_MAX], again[DIGEST_MAX];
	char *list[3] = { ids[0], NULL, NULL };
	auto_free char *box = xasprintf("%s/box", t_tmppath());
	auto_buf struct buf b1 = BUF(1 << 20), b2 = BUF(1 << 20);
	struct snapshotter *s;
	struct rootfs r;
	struct bytes in;
	int root;

	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
	CHECK_OK(apply(s, base, 3, ids[0]));
	CHECK(mkdir(box, 0700) == 0);
	CHECK_OK(rootfs_prepare(s, list, box, &r));
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(unlinkat(root, "gone", 0) == 0 && unlinkat(root, "dir/old", 0) == 0 && unlinkat(root, "dir", AT_REMOVEDIR) == 0);
	CHECK(mkdirat(root, "dir", 0750) == 0);
	t_file_write(root, "dir/new", "new");
	t_file_write(root, "keep", "changed");
	CHECK(linkat(root, "dir/new", root, "zz", 0) == 0);
	close(root);
	CHECK_OK(rootfs_diff(r.upper, 1000, (struct zip_sink){ give, &b1 }));
	CHECK_OK(rootfs_diff(r.upper, 1000, (struct zip_sink){ give, &b2 }));
	CHECK(b1.n == b2.n && memcmp(b1.data, b2.data, b1.n) == 0);
	in = (struct bytes){ b1.data, b1.n, 0 };
	CHECK_OK(layer_apply(s, (struct zip_source){ take, &in }, NULL, ids[1]));
	CHECK_OK(layer_delete(s, ids[1]));
	CHECK_OK(layer_adopt(s, r.upper, ids[1]));
	rootfs_fini(&r);
	list[1] = ids[1];
	CHECK_OK(rootfs_prepare(s, list, NULL, &r));
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(t_file_is(root, "keep", "changed") && t_file_is(root, "dir/new", "new") && t_file_is(root, "zz", "new"));
	CHECK(faccessat(root, "gone", F_OK, AT_SYMLINK_NOFOLLOW) < 0 && faccessat(root, "dir/old", F_OK, 0) < 0);
	CHECK_INT(t_entries(root), 3);
	close(root);
	digest_of(b1.data, b1.n, again);
	CHECK(strlen(again) == DIGEST_TEXT);
	rootfs_fini(&r);
	snapshotter_close(s);
}

TEST(no_layers_is_an_empty_root)
{
	char *none[] = { NULL };
	auto_free char *box = xasprintf("%s/box", t_tmppath());
	struct snapshotter *s;
	struct rootfs r;
	int root;

	CHECK(mkdir(box, 0700) == 0);
	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
	CHECK_OK(rootfs_prepare(s, none, box, &r));
	CHECK_OK(rootfs_view(&r, &root));
	CHECK_INT(t_entries(root), 0);
	close(root);
	rootfs_fini(&r);
	snapshotter_close(s);
}

TEST(a_missing_layer_is_named)
{
	char id[] = "sha256:1111111111111111111111111111111111111111111111111111111111111111", *list[] = { id, NULL };
	struct snapshotter *s;
	struct rootfs r;

	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
	CHECK_ERR(ERR_NOT_FOUND, rootfs_prepare(s, list, NULL, &r));
	snapshotter_close(s);
}

static const struct tar_entry small[] = { { .name = "d", .type = '5', .mode = 0755 },
					  { .name = "d/f", .type = '0', .mode = 0644 } };

static void no_setup(void)
{
}

static void op(void)
{
	struct snapshotter *s;
	struct err *e = snapshotter_open(t_tmpdir(), &s);

	if (e) {
		err_free(e);
		return;
	}
	err_free(apply(s, small, 2, NULL));
	snapshotter_close(s);
}

static struct err *complete(void *ctx, const char *diff_id, uint64_t size)
{
	auto_free char *path = tree_path(diff_id, "d/f");
	struct stat st;

	(void)ctx;
	CHECK(stat(path, &st) == 0 && st.st_size == 3 && size == 3);
	return NULL;
}

static void judge(void)
{
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &s));
	CHECK(is_empty("tmp"));
	CHECK_OK(layer_each(s, complete, NULL));
	CHECK_OK(apply(s, small, 2, NULL));
	snapshotter_close(s);
}

TEST(a_crash_leaves_a_whole_layer_or_none)
{
	t_crash_sweep(no_setup, op, judge);
}

TEST(every_failure_leaves_nothing)
{
	FAULT_SWEEP(EIO)
	{
		struct snapshotter *s;
		struct err *e;

		CHECK_OK(snapshotter_open(t_tmpdir(), &s));
		t_sweep_on();
		e = apply(s, small, 2, NULL);
		t_sweep_off();
		err_free(e);
		snapshotter_close(s);
		CHECK_OK(snapshotter_open(t_tmpdir(), &s));
		CHECK(is_empty("tmp"));
		CHECK_OK(layer_each(s, complete, NULL));
		snapshotter_close(s);
	}
}
