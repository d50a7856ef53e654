/*
 * whiteout_test.c - whiteouts and entries of the same layer in every order, for every driver: what a container sees of them above
 * a layer with x/old, x/sub/deep, the file y and the link l to x. A whiteout speaks of the layers below only (image-spec
 * layer.md), so the order does not matter.
 */
#include "snapshot/driver.h"
#include "snapshot/tree_text_test.h"

#define F_(n) { .name = n, .type = '0', .mode = 0644, .mtime_ns = 5 }
#define D_(n) { .name = n, .type = '5', .mode = 0750, .mtime_ns = 6 }
#define L_(n, to) { .name = n, .type = '2', .link = to, .mtime_ns = 7 }

enum { ENTRIES = 6 };
static const struct tar_entry below[] = { D_("x"), F_("x/old"), D_("x/sub"), F_("x/sub/deep"), F_("y"), L_("l", "x") };
static const struct {
	struct tar_entry e[ENTRIES];
	const char *want; /* paths in the order of the walk */
} cases[] = {
	{ { F_(".wh.x"), F_("x/file") }, "l x/ x/file y" },
	{ { F_("x/file"), F_(".wh.x") }, "l x/ x/file y" },
	{ { F_(".wh.x"), D_("x"), F_("x/file") }, "l x/ x/file y" },
	{ { F_(".wh.x"), F_("x/file"), D_("x") }, "l x/ x/file y" },
	{ { D_("x"), F_("x/file"), F_(".wh.x") }, "l x/ x/file y" },
	{ { D_("x"), F_(".wh.x"), F_("x/file") }, "l x/ x/file y" },
	{ { F_(".wh.x"), F_("x/n/file") }, "l x/ x/n/ x/n/file y" },
	{ { F_(".wh.x"), F_("x/sub/file"), F_(".wh.x") }, "l x/ x/sub/ x/sub/file y" },
	{ { F_("x/file"), F_("x/.wh..wh..opq") }, "l x/ x/file y" },
	{ { F_("x/.wh..wh..opq"), F_("x/file") }, "l x/ x/file y" },
	{ { F_("x/sub/file"), F_("x/.wh.sub") }, "l x/ x/old x/sub/ x/sub/file y" },
	{ { F_("x/.wh.sub"), F_("x/sub/file") }, "l x/ x/old x/sub/ x/sub/file y" },
	/* nothing is left to hide below what is hidden */
	{ { F_(".wh.x") }, "l y" },
	{ { F_(".wh.x"), F_("x/.wh.old") }, "l y" },
	{ { F_(".wh.x"), F_("x/.wh..wh..opq") }, "l y" },
	{ { F_(".wh.x"), F_("x/sub/.wh.deep"), F_("x/file") }, "l x/ x/file y" },
	{ { F_(".wh.x"), F_("x/file"), F_("x/.wh.old") }, "l x/ x/file y" },
	/* other kinds than directories */
	{ { F_(".wh.y"), F_("y/file") }, "l x/ x/old x/sub/ x/sub/deep y/ y/file" },
	{ { F_("y/file") }, "l x/ x/old x/sub/ x/sub/deep y/ y/file" },
	{ { F_("y"), F_(".wh.y") }, "l x/ x/old x/sub/ x/sub/deep y" },
	{ { F_(".wh.y"), F_("y") }, "l x/ x/old x/sub/ x/sub/deep y" },
	{ { F_(".wh.l"), F_("l/file") }, "l/ l/file x/ x/old x/sub/ x/sub/deep y" },
	{ { L_("l", "x"), F_(".wh.l") }, "l x/ x/old x/sub/ x/sub/deep y" },
	/* the way to a name leads over a link of this layer */
	{ { L_("m", "x"), F_(".wh.x"), F_("m/file") }, "l m x/ x/file y" },
	{ { L_("m", "x/sub"), F_(".wh.x"), F_("m/file") }, "l m x/ x/sub/ x/sub/file y" },
	{ { D_("d"), L_("m", "d"), F_("d/.wh.x"), F_("m/x/file") }, "d/ d/x/ d/x/file l m x/ x/old x/sub/ x/sub/deep y" },
	{ { L_("m", "x"), F_(".wh.x"), F_("m/.wh.old") }, "l m y" },
	/* a hard link into what was hidden; made again under a name that was hidden */
	{ { F_(".wh.x"), F_("x/file"), { .name = "y", .type = '1', .link = "x/file" } }, "l x/ x/file y" },
	{ { F_(".wh.x"), F_("x/file"), F_("x") }, "l x y" },
	{ { F_(".wh.x"), F_("x/file"), F_("x"), F_(".wh.x") }, "l x y" },
};

static void add_names(int dir_fd, const char *path, struct buf *out)
{
	auto_list char **names = NULL;

	CHECK(fs_list(dir_fd, &names) >= 0);
	for (size_t i = 0; names[i]; i++) {
		auto_free char *whole = xasprintf("%s%s", path, names[i]);
		struct stat st;

		CHECK_INT(sys_fstatat(dir_fd, names[i], &st, AT_SYMLINK_NOFOLLOW), 0);
		buf_fmt(out, "%s%s%s", out->n ? " " : "", whole, S_ISDIR(st.st_mode) ? "/" : "");
		if (S_ISDIR(st.st_mode)) {
			auto_fd int fd = sys_openat(dir_fd, names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
			auto_free char *inner = xasprintf("%s/", whole);

			CHECK(fd >= 0);
			add_names(fd, inner, out);
		}
	}
}

static size_t count(const struct tar_entry *e)
{
	size_t n = 0;

	while (n < ENTRIES && e[n].name)
		n++;
	return n;
}

/* What a container sees with the case's layer above the one below. */
static void check_case(struct snapshotter *s, size_t nth)
{
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };
	auto_buf struct buf text = BUF(1 << 20);
	char first[DIGEST_MAX], second[DIGEST_MAX], *list[] = { first, second, NULL };
	auto_fd int root = -1;

	CHECK_OK(apply(s, below, LEN(below), first));
	CHECK_OK(apply(s, cases[nth].e, count(cases[nth].e), second));
	CHECK_OK(rootfs_prepare(s, list, NULL, &r));
	CHECK_OK(rootfs_view(&r, &root));
	add_names(root, "", &text);
	if (strcmp(buf_text(&text), cases[nth].want) != 0)
		t_fail(__FILE__, __LINE__, "case %zu: %s, wanted %s", nth, buf_text(&text), cases[nth].want);
}

static void check_all(const char *driver)
{
	const struct snapshotter_opts o = { .driver = driver };
	struct snapshotter *s;
	struct err *e = snapshotter_open(t_tmpdir(), &o, &s);

	if (e) {
		printf("%s\n", e->msg);
		err_free(e);
		t_skip("needs the driver's mounts");
	}
	for (size_t i = 0; i < LEN(cases); i++)
		check_case(s, i);
	snapshotter_close(s);
}

TEST(every_order_with_overlay)
{
	check_all("overlay");
}

TEST(every_order_with_erofs)
{
	check_all("erofs");
}

/* The new directory is one of the layer: times and modes as if an entry below had made it, and opaque. */
TEST(a_directory_in_the_place_of_a_whiteout)
{
	struct snapshotter *s;
	char id[DIGEST_MAX], value[8] = "";
	auto_free char *path = NULL;
	struct stat st;
	auto_fd int layers = -1;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, cases[0].e, 2, id));
	path = xasprintf("layers/%s/tree", digest_hex(id));
	layers = sys_openat(t_tmpdir(), path, O_RDONLY | O_DIRECTORY, 0);
	CHECK_INT(sys_fstatat(layers, "x", &st, AT_SYMLINK_NOFOLLOW), 0);
	CHECK(st.st_mode == (S_IFDIR | 0755) && st.st_mtim.tv_sec == 0 && st.st_mtim.tv_nsec == 5);
	CHECK(fs_xattr_get(layers, "x", fs_mark_key(FS_MARK_OPAQUE), value, sizeof value) == 1 && value[0] == 'y');
	snapshotter_close(s);
}

/* Only whiteouts give way, and only in layers. */
TEST(what_stands_in_the_way_otherwise)
{
	static const struct tar_entry bad[][3] = {
		{ F_("f"), F_("f/x") },
		{ { .name = "dev", .type = '3', .dev_major = 1 }, F_("dev/x") },
		{ L_("l", "f"), F_("f"), F_("l/x") },
	};
	char id[DIGEST_MAX];
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	for (size_t i = 0; i < LEN(bad); i++)
		CHECK_ERR(ERR_INVALID, apply(s, bad[i], bad[i][2].name ? 3 : 2, id));
	snapshotter_close(s);
}
