/* snapshot_test.c - layers in and out: extraction, escapes, whiteouts, diff, views, crashes. */
#include "snapshot/snapshot_test.h"
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
#include <pthread.h>
#include <sys/file.h>
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
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_ERR(ERR_CORRUPT, layer_apply(s, (struct zip_source){ take, &in }, &(struct layer_want){ .diff_id = want }, NULL));
	CHECK_ERR(ERR_INVALID, layer_apply(s, (struct zip_source){ take, &in }, &(struct layer_want){ .diff_id = "sha256:../x" }, NULL));
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

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, base, 3, ids[0]));
	CHECK(mkdir(box, 0700) == 0);
	CHECK_OK(rootfs_prepare(s, list, box, &r));
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(unlinkat(root, "gone", 0) == 0 && unlinkat(root, "dir/old", 0) == 0 &&
	      unlinkat(root, "dir", AT_REMOVEDIR) == 0);
	CHECK(mkdirat(root, "dir", 0750) == 0);
	t_file_write(root, "dir/new", "new");
	t_file_write(root, "keep", "changed");
	CHECK(linkat(root, "dir/new", root, "zz", 0) == 0);
	close(root);
	CHECK_OK(rootfs_diff(r.upper, NULL, 1000, (struct zip_sink){ give, &b1 }));
	CHECK_OK(rootfs_diff(r.upper, NULL, 1000, (struct zip_sink){ give, &b2 }));
	CHECK(b1.n == b2.n && memcmp(b1.data, b2.data, b1.n) == 0);
	in = (struct bytes){ b1.data, b1.n, 0 };
	CHECK_OK(layer_apply(s, (struct zip_source){ take, &in }, NULL, ids[1]));
	CHECK_OK(layer_delete(s, ids[1]));
	CHECK_OK(layer_adopt(s, -1, r.upper, -1, ids[1]));
	rootfs_fini(&r);
	list[1] = ids[1];
	CHECK_OK(rootfs_prepare(s, list, NULL, &r));
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(t_file_is(root, "keep", "changed") && t_file_is(root, "dir/new", "new") &&
	      t_file_is(root, "zz", "new"));
	CHECK(faccessat(root, "gone", F_OK, AT_SYMLINK_NOFOLLOW) < 0 &&
	      faccessat(root, "dir/old", F_OK, 0) < 0);
	CHECK_INT(t_entries(root), 3);
	close(root);
	digest_of(b1.data, b1.n, again);
	CHECK(strlen(again) == DIGEST_TEXT);
	rootfs_fini(&r);
	snapshotter_close(s);
}

/* What a view of two layers shows: their entries, one line each, files with "=". */
static void list(int root, const char *dir, struct buf *out)
{
	auto_fd int fd = sys_open_in_root(root, dir[0] ? dir : ".", O_RDONLY | O_DIRECTORY, 0);
	auto_list char **names = NULL;

	CHECK(fd >= 0 && fs_list(fd, &names) >= 0);
	for (size_t i = 0; names[i]; i++) {
		auto_free char *path = xasprintf("%s%s%s", dir, dir[0] ? "/" : "", names[i]);
		struct stat st;

		CHECK(fstatat(fd, names[i], &st, AT_SYMLINK_NOFOLLOW) ==
		      0); /* a whiteout that shows fails here */
		buf_fmt(out, "%s%s ", path, S_ISREG(st.st_mode) ? "=" : "");
		if (S_ISDIR(st.st_mode))
			list(root, path, out);
	}
}

TEST(whiteouts_hide_what_lower_layers_have)
{
#define DIR_(n)                                                                                              \
	{                                                                                                    \
		.name = n, .type = '5', .mode = 0755                                                         \
	}
#define FILE_(n)                                                                                             \
	{                                                                                                    \
		.name = n, .type = '0', .mode = 0644                                                         \
	}
	static const struct tar_entry lower[] = { FILE_("x/old"), FILE_("y"), FILE_("z/sub/old") };
	static const struct {
		struct tar_entry e[5];
		const char *want;
	} cases[] = {
		{ { FILE_(".wh.y") }, "x x/old= z z/sub z/sub/old= " },
		{ { FILE_(".wh.x"), FILE_(".wh.z") }, "y= " },
		{ { FILE_("x/.wh.old"), FILE_("x/new") }, "x x/new= y= z z/sub z/sub/old= " },
		{ { FILE_(".wh.x"), DIR_("x"), FILE_("x/new") }, "x x/new= y= z z/sub z/sub/old= " },
		{ { DIR_("x"), FILE_("x/new"), FILE_(".wh.x") }, "x x/new= y= z z/sub z/sub/old= " },
		{ { DIR_("z"), FILE_("z/.wh..wh..opq"), FILE_("z/new") }, "x x/old= y= z z/new= " },
		{ { DIR_("z"), FILE_("z/new"), FILE_("z/.wh..wh..opq") }, "x x/old= y= z z/new= " },
		{ { FILE_(".wh..wh..opq"), FILE_("only") }, "only= " },
		{ { FILE_(".wh.y"), FILE_("y") }, "x x/old= y= z z/sub z/sub/old= " },
		{ { FILE_("y"), FILE_(".wh.y") }, "x x/old= y= z z/sub z/sub/old= " },
		{ { FILE_(".wh.z"), FILE_("z") }, "x x/old= y= z= " },
		{ { FILE_("new/.wh.nothing"), FILE_("new/f") },
		  "new new/f= x x/old= y= z z/sub z/sub/old= " },
		{ { FILE_(".wh..wh.plnk"), FILE_(".wh..wh.orph") }, "x x/old= y= z z/sub z/sub/old= " },
		{ { FILE_("z/sub/.wh.old"), FILE_("z/sub/.wh.old") }, "x x/old= y= z z/sub " },
	};

	for (size_t i = 0; i < LEN(cases); i++) {
		char ids[2][DIGEST_MAX], *two[3] = { ids[0], ids[1], NULL };
		CLEANUP(rootfs_fini) struct rootfs r = { 0 };
		auto_buf struct buf got = BUF(4096);
		struct snapshotter *s;
		auto_fd int root = -1;
		size_t n = 0;

		while (n < LEN(cases[i].e) && cases[i].e[n].name)
			n++;
		CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
		CHECK_OK(apply(s, lower, LEN(lower), ids[0]));
		CHECK_OK(apply(s, cases[i].e, n, ids[1]));
		CHECK_OK(rootfs_prepare(s, two, NULL, &r));
		CHECK_OK(rootfs_view(&r, &root));
		list(root, "", &got);
		CHECK_STR(buf_text(&got), cases[i].want);
		snapshotter_close(s);
	}
}

/* The entries of a tar, one line each, with what a reader sees. */
static void describe(const char *tar, size_t n, struct buf *out)
{
	struct bytes in = { tar, n, 0 };
	auto_tar_reader struct tar_reader *r = NULL;
	const struct tar_entry *e;

	CHECK_OK(tar_reader_new((struct zip_source){ take, &in }, &r));
	for (;;) {
		CHECK_OK(tar_next(r, &e));
		if (!e)
			break;
		buf_fmt(out, "%c %s", e->type, e->name);
		if (e->link[0])
			buf_fmt(out, " -> %s", e->link);
		buf_fmt(out, " %o %u:%u size %llu at %lld", (unsigned)e->mode, e->uid, e->gid,
			(unsigned long long)e->size, (long long)e->mtime_ns);
		if (e->type == '3' || e->type == '4')
			buf_fmt(out, " dev %u:%u", e->dev_major, e->dev_minor);
		for (size_t i = 0; i < e->n_xattrs; i++)
			buf_fmt(out, " %s=%.*s", e->xattrs[i].name, (int)e->xattrs[i].n, e->xattrs[i].value);
		buf_ch(out, '\n');
	}
}

static void fill_upper(int fd)
{
	struct timespec t[2] = { { 1, 500 }, { 1, 500 } };
	static const char *const all[] = { "zz-hard", "b-link",     "d/f",    "d",   "gone",
					   "null",    "opaque/new", "opaque", "pipe" };

	CHECK(mkdirat(fd, "d", 0755) == 0 && mkdirat(fd, "opaque", 0755) == 0);
	t_file_write(fd, "d/f", "content");
	CHECK(fchownat(fd, "d/f", 1000, 100, 0) == 0 && fchmodat(fd, "d/f", 04755, 0) == 0);
	CHECK(linkat(fd, "d/f", fd, "zz-hard", 0) == 0 && symlinkat("d/f", fd, "b-link") == 0);
	CHECK(mknodat(fd, "null", S_IFCHR | 0666, 0x103) == 0 && fchmodat(fd, "null", 0666, 0) == 0);
	CHECK(mkfifoat(fd, "pipe", 0600) == 0 && mknodat(fd, "socket", S_IFSOCK | 0600, 0) == 0);
	CHECK(mknodat(fd, "gone", S_IFCHR, 0) == 0);
	t_file_write(fd, "opaque/new", "");
	CHECK_INT(fs_xattr_set(fd, "opaque", "trusted.overlay.opaque", "y", 1), 0);
	CHECK_INT(fs_xattr_set(fd, "opaque", "trusted.overlay.origin", "o", 1), 0);
	(void)fs_xattr_set(fd, "d", "user.b", "2", 1); /* not every file system has them */
	(void)fs_xattr_set(fd, "d", "user.a", "1", 1);
	CHECK_INT(fs_xattr_set(fd, "d", "trusted.overlay.impure", "y", 1), 0);
	for (size_t i = 0; i < LEN(all); i++)
		CHECK(utimensat(fd, all[i], t, AT_SYMLINK_NOFOLLOW) == 0);
	t[1].tv_sec = 9;
	CHECK(utimensat(fd, "pipe", t, 0) == 0);
}

TEST(a_difference_is_as_it_should_be)
{
	static const char want[] = "2 b-link -> d/f 777 0:0 size 0 at 1000000500\n"
				   "5 d 755 0:0 size 0 at 1000000500 user.a=1 user.b=2\n"
				   "0 d/f 4755 1000:100 size 7 at 1000000500\n"
				   "0 .wh.gone 0 0:0 size 0 at 1000000500\n"
				   "3 null 666 0:0 size 0 at 1000000500 dev 1:3\n"
				   "5 opaque 755 0:0 size 0 at 1000000500\n"
				   "0 opaque/.wh..wh..opq 0 0:0 size 0 at 1000000500\n"
				   "0 opaque/new 644 0:0 size 0 at 1000000500\n"
				   "6 pipe 600 0:0 size 0 at 2000000000\n"
				   "1 zz-hard -> d/f 4755 1000:100 size 0 at 1000000500\n";
	auto_free char *upper = xasprintf("%s/upper", t_tmppath());
	auto_buf struct buf tar = BUF(1 << 20), text = BUF(1 << 16);
	auto_fd int fd = -1;

	CHECK(mkdir(upper, 0755) == 0);
	fd = sys_open_dir(upper);
	fill_upper(fd);
	if (fs_xattr_set(fd, "d", "user.a", "1", 1) == -EOPNOTSUPP)
		t_skip("needs a file system with user attributes");
	CHECK_OK(rootfs_diff(upper, NULL, INT64_C(2000000000), (struct zip_sink){ give, &tar }));
	describe(tar.data, tar.n, &text);
	CHECK_STR(buf_text(&text), want);
	CHECK_INT(fs_xattr_set(fd, "d", "trusted.overlay.redirect", "/e", 2), 0);
	CHECK_ERR(ERR_UNSUPPORTED, rootfs_diff(upper, NULL, -1, (struct zip_sink){ give, &tar }));
}

TEST(a_difference_that_cannot_be_read_fails)
{
	auto_free char *upper = xasprintf("%s/upper", t_tmppath());
	auto_fd int fd = -1;

	CHECK(mkdir(upper, 0755) == 0);
	fd = sys_open_dir(upper);
	fill_upper(fd);
	FAULT_SWEEP (EIO) {
		auto_buf struct buf tar = BUF(1 << 20);
		struct err *e;

		t_sweep_on();
		e = rootfs_diff(upper, NULL, 0, (struct zip_sink){ give, &tar });
		t_sweep_off();
		CHECK(!e == !t_sweep_fired());
		err_free(e);
	}
	CHECK_ERR(ERR_NOT_FOUND, rootfs_diff("/nonexistent", NULL, 0, (struct zip_sink){ give, NULL }));
}

TEST(deep_directories_are_walked_with_few_fds)
{
	enum { DEEP = 500 };
	auto_free char *upper = xasprintf("%s/upper", t_tmppath());
	auto_buf struct buf tar = BUF(8 << 20);
	struct snapshotter *s;
	char id[DIGEST_MAX];
	struct bytes in;
	int at;

	CHECK(mkdir(upper, 0755) == 0);
	at = sys_open_dir(upper);
	for (int i = 0; i < DEEP; i++) {
		auto_fd int up = at;

		CHECK(mkdirat(up, "d", 0755) == 0);
		t_file_write(up, "z", "123");
		at = openat(up, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	}
	close(at);
	CHECK_OK(rootfs_diff(upper, NULL, 0, (struct zip_sink){ give, &tar }));
	in = (struct bytes){ tar.data, tar.n, 0 };
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(layer_apply(s, (struct zip_source){ take, &in }, NULL, id));
	CHECK_INT(layer_size(s, id), 3 * DEEP);
	CHECK_OK(layer_delete(s, id));
	snapshotter_close(s);
}

static void two_layers(struct snapshotter *s, const char *box, struct rootfs *r)
{
	static const struct tar_entry base[] = {
		{ .name = "keep", .type = '0', .mode = 0644 },
		{ .name = "null", .type = '3', .mode = 0666, .dev_major = 1, .dev_minor = 3 }
	};
	char id[DIGEST_MAX], *list[2] = { id, NULL };

	CHECK_OK(apply(s, base, 2, id));
	CHECK(mkdir(box, 0700) == 0);
	CHECK_OK(rootfs_prepare(s, list, box, r));
}

/* A view while the container runs: its copy-up must still work. */
TEST(a_view_does_not_disturb_the_container)
{
	auto_free char *box = xasprintf("%s/box", t_tmppath());
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };
	auto_fd int live = -1, root = -1;
	struct snapshotter *s;
	struct fs_overlay o;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	two_layers(s, box, &r);
	o = (struct fs_overlay){ (const char *const *)r.lower, 1, r.upper, r.work, true };
	CHECK((live = fs_overlay_mount(&o, 0)) >= 0);
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(t_file_is(root, "keep", "abc"));
	CHECK(fchmodat(live, "keep", 0600, 0) == 0);
	t_file_write(live, "keep", "copied up");
	CHECK(t_file_is(live, "keep", "copied up"));
	CHECK(unlinkat(live, "null", 0) == 0);
	close(root);
	close(live);
	live = -1;
	r.is_volatile = true;
	CHECK_OK(rootfs_view(&r, &root)); /* after a volatile mount, and again */
	close(root);
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(t_file_is(root, "keep", "copied up"));
	snapshotter_close(s);
}

TEST(a_view_to_read_shows_the_same)
{
	auto_free char *box = xasprintf("%s/box", t_tmppath());
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };
	auto_fd int root = -1, look_fd = -1;
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	two_layers(s, box, &r);
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(unlinkat(root, "null", 0) == 0 && mkdirat(root, "d", 0755) == 0);
	t_file_write(root, "keep", "changed");
	close(root);
	root = -1;
	CHECK_OK(rootfs_view_read(&r, &look_fd));
	CHECK(t_file_is(look_fd, "keep", "changed"));
	CHECK_INT(t_entries(look_fd), 2);
	CHECK(mkdirat(look_fd, "new", 0755) < 0 && errno == EROFS);
	snapshotter_close(s);
}

TEST(a_view_opens_no_devices)
{
	auto_free char *box = xasprintf("%s/box", t_tmppath());
	struct snapshotter *s;
	struct rootfs r;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	two_layers(s, box, &r);
	for (int i = 0; i < 2; i++) { /* with the upper, then read-only */
		auto_fd int root = -1;

		CHECK_OK(rootfs_view(&r, &root));
		CHECK(openat(root, "null", O_RDONLY | O_CLOEXEC) < 0 && errno == EACCES);
		CHECK_INT(mkdirat(root, "new", 0755) == 0 ? 0 : errno, i ? EROFS : 0);
		free(TAKE(r.upper));
	}
	rootfs_fini(&r);
	snapshotter_close(s);
}

static void no_difference(void *ctx, const char *path, const char *what)
{
	(void)ctx;
	t_fail(__FILE__, __LINE__, "%s %s", path, what);
}

static void check_is_its_tar(struct snapshotter *s, const char *id, const struct buf *tar)
{
	struct layer_tell tell = { no_difference, NULL };
	struct bytes in = { tar->data, tar->n, 0 };

	CHECK_OK(layer_verify(s, id, (struct zip_source){ take, &in }, &tell));
}

TEST(adopting)
{
	auto_free char *upper = xasprintf("%s/upper", t_tmppath());
	auto_buf struct buf tar = BUF(1 << 20);
	char id[DIGEST_MAX];

	FAULT_SWEEP (EIO) {
		struct snapshotter *s;
		struct err *e;
		auto_fd int fd = -1;

		if (mkdir(upper, 0755) == 0) {
			fd = sys_open_dir(upper);
			fill_upper(fd);
		}
		buf_reset(&tar);
		CHECK_OK(rootfs_diff(upper, NULL, 1000000000, (struct zip_sink){ give, &tar }));
		digest_of(tar.data, tar.n, id);
		CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
		t_sweep_on();
		e = layer_adopt(s, -1, upper, 1000000000, id);
		t_sweep_off();
		CHECK(!e == !t_sweep_fired() || layer_exists(s, id));
		if (layer_exists(s, id)) {
			CHECK_INT(layer_size(s, id), 7);
			CHECK_INT(look(id, "d/f").st_size, 7);
			check_is_its_tar(s, id, &tar);
			CHECK_OK(layer_delete(s, id));
		}
		err_free(e);
		CHECK(is_empty("tmp") && is_empty("layers"));
		snapshotter_close(s);
	}
}

TEST(adopting_what_is_there_or_is_not)
{
	static const struct tar_entry e[] = { { .name = "f", .type = '0', .mode = 0644 } };
	auto_free char *upper = xasprintf("%s/upper", t_tmppath());
	struct snapshotter *s;
	char id[DIGEST_MAX];

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, e, 1, id));
	CHECK(mkdir(upper, 0755) == 0);
	CHECK_ERR(ERR_INVALID, layer_adopt(s, -1, upper, -1, "sha256:1"));
	CHECK_OK(layer_adopt(s, -1, upper, -1, id));
	CHECK(look(id, "f").st_size == 3 && access(upper, F_OK) == 0 && is_empty("tmp"));
	CHECK_OK(layer_delete(s, id));
	CHECK_OK(layer_delete(s, id));
	CHECK(rmdir(upper) == 0);
	CHECK_ERR(ERR_NOT_FOUND, layer_adopt(s, -1, upper, -1, id));
	CHECK(is_empty("tmp") && is_empty("layers"));
	CHECK_ERR(ERR_INVALID, layer_delete(s, "../x"));
	snapshotter_close(s);
}

/* Only what nobody holds goes, and only what is ours. */
TEST(sweeping)
{
	struct snapshotter *s;
	int held;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	snapshotter_close(s);
	CHECK(mkdirat(t_tmpdir(), "tmp/layer-1-1", 0700) == 0 &&
	      mkdirat(t_tmpdir(), "tmp/layer-1-1/tree", 0700) == 0);
	CHECK(mkdirat(t_tmpdir(), "tmp/layer-2-1", 0700) == 0 && mkdirat(t_tmpdir(), "tmp/other", 0700) == 0);
	held = openat(t_tmpdir(), "tmp/layer-2-1", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(flock(held, LOCK_EX) == 0);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	snapshotter_close(s);
	CHECK(faccessat(t_tmpdir(), "tmp/layer-1-1", F_OK, 0) < 0 &&
	      faccessat(t_tmpdir(), "tmp/other", F_OK, 0) == 0);
	CHECK(faccessat(t_tmpdir(), "tmp/layer-2-1", F_OK, 0) == 0);
	close(held);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	snapshotter_close(s);
	CHECK(faccessat(t_tmpdir(), "tmp/layer-2-1", F_OK, 0) < 0);
}

static void *apply_thread(void *ctx)
{
	static const struct tar_entry e[] = { { .name = "d/f", .type = '0', .mode = 0644 },
					      { .name = "g", .type = '0', .mode = 0644 } };

	return apply(ctx, e, 2, NULL);
}

TEST(the_same_layer_many_times_at_once)
{
	pthread_t threads[8];
	struct snapshotter *s;
	auto_fd int layers = -1;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	for (size_t i = 0; i < LEN(threads); i++)
		CHECK(pthread_create(&threads[i], NULL, apply_thread, s) == 0);
	for (size_t i = 0; i < LEN(threads); i++) {
		void *e;

		CHECK(pthread_join(threads[i], &e) == 0);
		CHECK_OK(e);
	}
	layers = openat(t_tmpdir(), "layers", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(t_entries(layers) == 1 && is_empty("tmp"));
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
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(rootfs_prepare(s, none, box, &r));
	CHECK_OK(rootfs_view(&r, &root));
	CHECK_INT(t_entries(root), 0);
	close(root);
	rootfs_fini(&r);
	snapshotter_close(s);
}

TEST(a_missing_layer_is_named)
{
	char id[] = "sha256:1111111111111111111111111111111111111111111111111111111111111111",
	     *list[] = { id, NULL };
	struct snapshotter *s;
	struct rootfs r;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_ERR(ERR_NOT_FOUND, rootfs_prepare(s, list, NULL, &r));
	snapshotter_close(s);
}

static const struct tar_xattr small_xattr[] = { { "trusted.small", "x", 1 } };
static const struct tar_entry small[] = {
	{ .name = "d", .type = '5', .mode = 02755, .gid = 3, .xattrs = small_xattr, .n_xattrs = 1 },
	{ .name = "d/f", .type = '0', .mode = 04644, .uid = 1 },
	{ .name = "made/l", .type = '2', .link = "../nothing" },
	{ .name = "made/l/x", .type = '1', .link = "d/f" },
	{ .name = "made/.wh.x", .type = '0' },
	{ .name = "d/.wh..wh..opq", .type = '0' },
	{ .name = "d/f", .type = '0', .mode = 0644 },
	{ .name = "n", .type = '3', .mode = 01644, .gid = 2, .dev_major = 1, .dev_minor = 3 },
};

static void no_setup(void)
{
}

static void op(void)
{
	struct snapshotter *s;
	struct err *e = snapshotter_open(t_tmpdir(), &on_overlay, &s);

	if (e) {
		err_free(e);
		return;
	}
	err_free(apply(s, small, LEN(small), NULL));
	snapshotter_close(s);
}

static struct err *complete(void *ctx, const char *diff_id, uint64_t size)
{
	auto_free char *path = tree_path(diff_id, "d/f");
	struct stat st;

	(void)ctx;
	CHECK(stat(path, &st) == 0 && st.st_size == 3 && size == 6);
	return NULL;
}

static struct err *delete_it(void *ctx, const char *diff_id, uint64_t size)
{
	(void)size;
	return layer_delete(ctx, diff_id);
}

static void judge(void)
{
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK(is_empty("tmp"));
	CHECK_OK(layer_each(s, complete, NULL));
	CHECK_OK(apply(s, small, LEN(small), NULL));
	snapshotter_close(s);
}

TEST(a_crash_leaves_a_whole_layer_or_none)
{
	t_crash_sweep(no_setup, op, judge);
}

TEST(every_failure_leaves_nothing)
{
	FAULT_SWEEP (EIO) {
		struct snapshotter *s;
		struct err *e;

		CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
		t_sweep_on();
		e = apply(s, small, LEN(small), NULL);
		t_sweep_off();
		CHECK(!e == !t_sweep_fired());
		CHECK(is_empty("tmp") && (is_empty("layers") || !e || strstr(e->msg, "sync layer")));
		CHECK_OK(layer_each(s, complete, NULL));
		CHECK_OK(layer_each(s, delete_it, s));
		err_free(e);
		snapshotter_close(s);
	}
}

static char order[16];

static int note_order(const char *call)
{
	static const char *const calls[] = { "write", "syncfs", "rename", "fsync" };

	for (size_t i = 0; i < LEN(calls); i++)
		if (strcmp(call, calls[i]) == 0) { /* the last of them, oldest first */
			memmove(order, order + 1, sizeof order - 2);
			order[sizeof order - 2] = "wsrf"[i];
		}
	return 0;
}

TEST(data_is_on_disk_before_the_name_and_the_name_before_we_say_so)
{
	static const struct tar_entry e[] = { { .name = "f", .type = '0', .mode = 0644 } };
	struct snapshotter *s;
	char id[DIGEST_MAX];

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	memset(order, '-', sizeof order - 1);
	sys_fault = note_order;
	CHECK_OK(apply(s, e, 1, id));
	sys_fault = NULL;
	CHECK_STR(order + 11, "wsrf"); /* write, syncfs, rename, fsync */
	memset(order, '-', sizeof order - 1);
	sys_fault = note_order;
	CHECK_OK(layer_adopt(s, -1, "nothing", -1, id));
	sys_fault = NULL;
	CHECK_STR(order + 14, "f"); /* who named it may not have come that far */
	snapshotter_close(s);
}

TEST(the_same_layer_may_come_twice)
{
	static const struct tar_entry base[] = { { .name = "keep", .type = '0', .mode = 0644 } },
				      other[] = { { .name = ".wh.keep", .type = '0', .mode = 0644 } };
	char ids[2][DIGEST_MAX], *list[4] = { ids[0], ids[1], ids[0], NULL };
	struct snapshotter *s;
	struct rootfs r;
	int root;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, base, 1, ids[0]));
	CHECK_OK(apply(s, other, 1, ids[1]));
	CHECK_OK(rootfs_prepare(s, list, NULL, &r));
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(faccessat(root, "keep", F_OK, AT_SYMLINK_NOFOLLOW) == 0);
	close(root);
	rootfs_fini(&r);
	snapshotter_close(s);
}

static int others_at, others_count;

static int remove_d_at(const char *call)
{
	(void)call;
	if (++others_count == others_at) {
		sys_fault = NULL;
		CHECK_INT(fs_remove_tree(t_tmpdir(), "tree/d"), 0);
	}
	return 0;
}

/* Reads an archive to its end. */
static size_t count_entries(const struct buf *b, char last[64])
{
	struct bytes from = { b->data, b->n };
	auto_tar_reader struct tar_reader *r = NULL;
	const struct tar_entry *e;
	size_t n = 0;

	CHECK_OK(tar_reader_new((struct zip_source){ take, &from }, &r));
	for (;; n++) {
		CHECK_OK(tar_next(r, &e));
		if (!e)
			return n;
		(void)snprintf(last, 64, "%s", e->name);
	}
}

TEST(what_goes_while_it_is_archived_is_passed_over)
{
	auto_free char *make_it = xasprintf("cd %s && rm -rf tree && mkdir -p tree/d/e && echo 1 > tree/d/f && ln tree/d/f tree/d/g && "
					    "ln -s f tree/d/l && touch tree/d/e/f tree/z",
					    t_tmppath());

	for (others_at = 1, others_count = 1; others_count >= others_at - 1; others_at++) {
		auto_buf struct buf b = BUF(1 << 20);
		auto_fd int fd = -1;
		char last[64] = "";
		size_t n;

		t_shell(make_it);
		fd = openat(t_tmpdir(), "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		others_count = 0;
		sys_fault = remove_d_at;
		CHECK_OK(snapshot_archive(fd, (struct zip_sink){ give, &b }));
		sys_fault = NULL;
		n = count_entries(&b, last);
		CHECK(n >= 2 && n <= 8); /* ".", "z" and what was there of d */
		CHECK_STR(last, "z");
	}
	CHECK(others_at > 20);
}
