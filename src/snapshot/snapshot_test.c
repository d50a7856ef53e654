/* snapshot_test.c - layers in and out: extraction, escapes, whiteouts, diff, views, crashes. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/tar.h"
#include "harness/t.h"
#include "snapshot/snapshot.h"
#include "snapshot/snapshot_test.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

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
