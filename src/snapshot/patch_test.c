/* patch_test.c - a tar with damage, and the tree that it was extracted to. */
#include "snapshot/driver.h"
#include "snapshot/snapshot_test.h"

enum { BIG = 9000 };

static void add(struct tar_writer *w, const char *name, char fill)
{
	const struct tar_entry e = { .name = name, .link = "", .type = '0', .mode = 0644, .size = BIG };
	auto_free char *text = xmalloc(BIG);

	memset(text, fill, BIG);
	CHECK_OK(tar_add(w, &e));
	CHECK_OK(tar_write(w, text, BIG));
}

/* One layer: d/one and two. */
static void make(struct snapshotter *s, struct buf *tar, char *id)
{
	auto_tar_writer struct tar_writer *w = NULL;
	struct bytes in;

	CHECK_OK(tar_writer_new((struct zip_sink){ give, tar }, &w));
	add(w, "d/one", 'a');
	add(w, "two", 'b');
	CHECK_OK(tar_finish(w));
	in = (struct bytes){ tar->data, tar->n, 0 };
	CHECK_OK(layer_apply(s, (struct zip_source){ take, &in }, NULL, id));
}

/* What becomes of the tar with n bytes at `at` zeroed, and cut to keep bytes; whether it is the old one. */
static bool mends(struct snapshotter *s, const char *id, const struct buf *tar, size_t at, size_t n, size_t keep)
{
	auto_buf struct buf out = BUF(1 << 20);
	auto_free char *bad = xmalloc(tar->n);
	auto_fd int fd = sys_openat(t_tmpdir(), "bad", O_RDWR | O_CREAT | O_TRUNC, 0600);

	memcpy(bad, tar->data, tar->n);
	memset(bad + at, 0, n);
	CHECK(sys_write_all(fd, bad, keep) == 0);
	CHECK_OK(layer_tar_patch(s, id, fd, tar->n, (struct zip_sink){ give, &out }));
	CHECK(out.n == tar->n);
	return memcmp(out.data, tar->data, out.n) == 0;
}

TEST(content_comes_from_the_tree)
{
	auto_buf struct buf tar = BUF(1 << 20);
	char id[DIGEST_MAX];
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	make(s, &tar, id);
	CHECK(mends(s, id, &tar, 0, 0, tar.n));
	CHECK(mends(s, id, &tar, 512, BIG, tar.n));                    /* all of a file */
	CHECK(mends(s, id, &tar, 600, 1, tar.n));                      /* a byte of it */
	CHECK(mends(s, id, &tar, 512 + 9216 + 512 + 100, 1, tar.n));   /* of the last one */
	CHECK(mends(s, id, &tar, 0, 0, tar.n - 1));                    /* the end is zeros */
	CHECK(mends(s, id, &tar, 0, 0, 512 + 9216 + 512 + 100));       /* cut within the last file */
	CHECK(!mends(s, id, &tar, 0, 1, tar.n));                       /* a header is nowhere else */
	CHECK(!mends(s, id, &tar, 0, 0, 9216));                        /* nor is the second one */
	snapshotter_close(s);
}

TEST(what_the_tree_has_not_stays)
{
	auto_buf struct buf tar = BUF(1 << 20);
	char id[DIGEST_MAX];
	struct snapshotter *s;
	auto_fd int tree = -1;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	make(s, &tar, id);
	{
		auto_free char *path = xasprintf("%s/layers/%s/tree", t_tmppath(), digest_hex(id));

		tree = sys_open_dir(path);
	}
	CHECK(tree >= 0 && sys_unlink(tree, "d/one") == 0 && sys_mknod(tree, "d/one", S_IFIFO | 0600, 0) == 0);
	CHECK(mends(s, id, &tar, 0, 0, tar.n));
	CHECK(!mends(s, id, &tar, 600, 1, tar.n));
	snapshotter_close(s);
}

TEST(a_layer_that_keeps_its_tar_gives_it)
{
	auto_buf struct buf tar = BUF(1 << 20);
	auto_fd int fd = -1;
	char id[DIGEST_MAX];
	struct snapshotter *s;
	const struct snapshotter_opts o = { .driver = "erofs" };
	struct err *e = snapshotter_open(t_tmpdir(), &o, &s);

	if (e) {
		err_free(e);
		t_skip("needs EROFS mounts of files");
	}
	make(s, &tar, id);
	CHECK_OK(layer_tar_open(s, id, &fd));
	{
		auto_free char *have = xmalloc(tar.n);

		CHECK(sys_read_full(fd, have, tar.n) == (ssize_t)tar.n && memcmp(have, tar.data, tar.n) == 0);
	}
	CHECK_ERR(ERR_NOT_FOUND, layer_tar_patch(s, id, fd, 0, (struct zip_sink){ give, &tar }));
	snapshotter_close(s);
}
