#include "base/text.h"
#include "snapshot/driver.h"
#include "snapshot/snapshot_test.h"
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <utime.h>

static const struct tar_xattr attrs[] = { { "user.a", "1", 1 } };
static const struct tar_entry entries[] = {
	{ .name = "d", .type = '5', .mode = 02755, .gid = 3, .mtime_ns = 7000000001 },
	{ .name = "d/f", .type = '0', .mode = 04644, .uid = 1, .xattrs = attrs, .n_xattrs = 1 },
	{ .name = "d/same", .type = '1', .link = "d/f" },
	{ .name = "d/l", .type = '2', .link = "f" },
	{ .name = "made/g", .type = '0', .mode = 0600 },
	{ .name = "made/.wh.x", .type = '0' },
	{ .name = "hidden/.wh..wh..opq", .type = '0' },
	{ .name = "n", .type = '3', .mode = 01644, .gid = 2, .dev_major = 1, .dev_minor = 3 },
};

struct told {
	struct buf text;
	size_t n;
};

static void note(void *ctx, const char *path, const char *what)
{
	struct told *t = ctx;

	buf_fmt(&t->text, "%s %s\n", path, what);
	t->n++;
}

/* What verify tells of the layer now. */
static struct told verify(struct snapshotter *s, const char *diff_id, const struct buf *tar)
{
	struct told t = { .text = BUF(1 << 20) };
	struct layer_tell tell = { note, &t };
	struct bytes in = { tar->data, tar->n, 0 };

	CHECK_OK(layer_verify(s, diff_id, (struct zip_source){ take, &in }, &tell));
	CHECK(is_empty("tmp"));
	return t;
}

static void expect(struct snapshotter *s, const char *diff_id, const struct buf *tar, const char *line)
{
	struct told t = verify(s, diff_id, tar);

	if (t.n != 1 || !strstr(buf_text(&t.text), line))
		CHECK_STR(buf_text(&t.text), line);
	buf_fini(&t.text);
}

static const char *const damages[][2] = {
	{ "printf xbc | dd of=d/f conv=notrunc status=none; touch -d @0 d/f",
	  "d/f content differs from byte 0 on" },
	{ "printf abx | dd of=d/f conv=notrunc status=none; touch -d @0 d/f",
	  "d/f content differs from byte 2 on" },
	{ "printf '' > d/f; touch -d @0 d/f", "d/f is 0 bytes long, not 3" },
	{ "touch -d @1.5 made/g", "made/g time is 1.500000000, not 0.000000000" },
	{ "touch -d @7 d", "d time is 7.000000000, not 7.000000001" },
	{ "chmod 0640 made/g", "made/g mode is 0640, not 0600" },
	{ "chown 5:6 made/g", "made/g owner is 5:6, not 0:0" },
	{ "setfattr -n user.a -v 2 d/f", "d/f attribute user.a differs" },
	{ "setfattr -x user.a d/f", "d/f attribute user.a is missing" },
	{ "setfattr -n user.b -v 2 made/g", "made/g attribute user.b is not of the layer" },
	{ "setfattr -n trusted.overlay.opaque -v n hidden",
	  "hidden attribute trusted.overlay.opaque differs" },
	{ "rm made/g; touch -d @0 made", "made/g is missing" },
	{ "rm made/x; touch -d @0 made", "made/x is missing" },
	{ "echo > made/new; touch -d @0 made", "made/new is not of the layer" },
	{ "rm d/l; ln -s x d/l; chown -h 0:0 d/l; touch -h -d @0 d/l; touch -d @7.000000001 d",
	  "d/l leads to x, not to f" },
	{ "cp -a d/f f; rm d/same; mv f d/same; touch -d @7.000000001 d; touch -d @0 .",
	  "d/same is not the same file as d/f" },
	{ "rm n; mknod n c 1 5; chmod 1644 n; chown 0:2 n; touch -d @0 n", "n is a device, not a device" },
	{ "rm n; touch n; chmod 1644 n; chown 0:2 n; touch -d @0 n", "n is a file, not a device" },
	{ "chmod 0700 .", "/ the root's mode or owner is not the layer's" },
	{ "echo 4 > ../size", "size is not the size of the content" },
	{ "rm -r ../tree", "/ is missing" },
};

TEST(every_difference_is_told_with_its_place)
{
	auto_buf struct buf tar = BUF(1 << 20);
	struct snapshotter *s;
	char id[DIGEST_MAX];

	if (setxattr(t_tmppath(), "user.x", "1", 1, 0) < 0)
		t_skip("needs extended attributes");
	make_tar(entries, LEN(entries), &tar);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	for (size_t i = 0; i < LEN(damages); i++) {
		auto_free char *cmd = NULL, *root = NULL;
		struct told clean;

		CHECK_OK(apply(s, entries, LEN(entries), id));
		clean = verify(s, id, &tar);
		CHECK_STR(buf_text(&clean.text), "");
		buf_fini(&clean.text);
		root = tree_path(id, "");
		cmd = xasprintf("cd %s && %s", root, damages[i][0]);
		t_shell(cmd);
		expect(s, id, &tar, damages[i][1]);
		CHECK_OK(layer_delete(s, id));
	}
	snapshotter_close(s);
}

TEST(a_layer_that_cannot_be_compared_says_why)
{
	static const struct tar_entry other[] = { { .name = "f", .type = '0', .mode = 0644 } };
	auto_buf struct buf tar = BUF(1 << 20), wrong = BUF(1 << 20);
	struct told t = { .text = BUF(1 << 20) };
	struct layer_tell tell = { note, &t };
	char absent[] = "sha256:1111111111111111111111111111111111111111111111111111111111111111",
	     id[DIGEST_MAX];
	struct snapshotter *s;
	struct bytes in;

	make_tar(entries, LEN(entries), &tar);
	make_tar(other, 1, &wrong);
	CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s));
	CHECK_OK(apply(s, entries, LEN(entries), id));
	CHECK_ERR(ERR_UNSUPPORTED, layer_verify(s, id, (struct zip_source){ 0 }, &tell));
	in = (struct bytes){ wrong.data, wrong.n, 0 };
	CHECK_ERR(ERR_CORRUPT, layer_verify(s, id, (struct zip_source){ take, &in }, &tell));
	CHECK_INT(t.n, 0);
	CHECK_OK(layer_verify(s, absent, (struct zip_source){ 0 }, &tell));
	CHECK_STR(buf_text(&t.text), "/ is missing\n");
	buf_fini(&t.text);
	snapshotter_close(s);
	FAULT_SWEEP (EIO) {
		struct told quiet = { .text = BUF(1 << 20) };
		struct layer_tell tell_quiet = { note, &quiet };
		struct err *e;

		CHECK_OK(snapshotter_open(t_tmpdir(), &on_overlay, &s)); /* sweeps what could not be removed before */
		CHECK(is_empty("tmp"));
		in = (struct bytes){ tar.data, tar.n, 0 };
		t_sweep_on();
		e = layer_verify(s, id, (struct zip_source){ take, &in }, &tell_quiet);
		t_sweep_off();
		if (!e && t_sweep_fired() && !quiet.n && is_empty("tmp")) /* a read that fails is a finding */
			t_fail(__FILE__, __LINE__, "a failing %s is not told", t_sweep_call());
		err_free(e);
		buf_fini(&quiet.text);
		snapshotter_close(s);
	}
}
