/* driver_test.c - the contract: what holds for layers whichever driver keeps them, and where the drivers
 * meet. */
#include "snapshot/driver.h"
#include "snapshot/erofs.h"
#include "snapshot/tree_text_test.h"
#include "sys/fs.h"
#include "sys/loop.h"
#include "sys/mount.h"
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct snapshotter_opts drivers[] = { { .driver = "overlay" }, { .driver = "erofs" }, { .driver = "erofs-loop" } };

#define FOR_EACH_DRIVER(o) for (const struct snapshotter_opts *o = drivers; o < drivers + LEN(drivers); o++)

/* False: it cannot work here, which the drivers before it have shown not to matter. */
static bool open_with(const struct snapshotter_opts *o, struct snapshotter **s)
{
	struct err *e = snapshotter_open(t_tmpdir(), o, s);

	if (e && e->kind != ERR_UNSUPPORTED && e->kind != ERR_DENIED)
		CHECK_OK(e);
	if (e)
		printf("%s\n", e->msg);
	err_free(e);
	return !e;
}

static void start_over(void)
{
	CHECK(fs_remove_tree(t_tmpdir(), "layers") == 0 && fs_remove_tree(t_tmpdir(), "tmp") == 0);
}

static void need_erofs(struct snapshotter **s)
{
	if (!open_with(&drivers[1], s))
		t_skip("needs EROFS mounts of files, and overlayfs above them");
}

#define F_(n)                                                                                                \
	{                                                                                                    \
		.name = n, .type = '0', .mode = 0644, .mtime_ns = 5                                          \
	}
#define D_(n)                                                                                                \
	{                                                                                                    \
		.name = n, .type = '5', .mode = 0750, .uid = 7, .mtime_ns = 6                                \
	}
static const struct tar_entry stack[][5] = {
	{ D_("x"),
	  F_("x/old"),
	  F_("y"),
	  F_("z/sub/old"),
	  { .name = "l", .type = '2', .link = "z", .mtime_ns = 7 } },
	{ F_("x/.wh.old"), F_("x/new"), F_(".wh.y"), F_("only/.wh.nothing"), F_("only/f") },
	{ D_("z"),
	  F_("z/.wh..wh..opq"),
	  F_("z/new"),
	  { .name = "z/hard", .type = '1', .link = "z/new" },
	  { .name = "pipe", .type = '6', .mode = 0600, .mtime_ns = 8 } },
	{ F_("l/through"), F_(".wh.x"), D_("x"), F_("x/again") },
};
enum { STACK = sizeof stack / sizeof *stack };

static struct err *apply_nth(struct snapshotter *s, size_t i, char *id)
{
	size_t n = 0;

	while (n < LEN(stack[i]) && stack[i][n].name)
		n++;
	return apply(s, stack[i], n, id);
}

static void make_stack(struct snapshotter *s, char ids[STACK][DIGEST_MAX], char *list[STACK + 1])
{
	for (size_t i = 0; i < STACK; i++) {
		CHECK_OK(apply_nth(s, i, ids[i]));
		list[i] = ids[i];
	}
	list[STACK] = NULL;
}

/* But for the root itself, which no archive here names. */
static void text_of_view(const struct rootfs *r, struct buf *out)
{
	auto_fd int root = -1;

	CHECK_OK(rootfs_view(r, &root));
	text_of_dir(root, "", out);
}

TEST(a_stack_shows_the_same)
{
	auto_free char *first = NULL;

	FOR_EACH_DRIVER(o)
	{
		CLEANUP(rootfs_fini) struct rootfs r = { 0 };
		auto_buf struct buf text = BUF(1 << 20);
		char ids[STACK][DIGEST_MAX], *list[STACK + 1];
		struct snapshotter *s;

		if (!open_with(o, &s))
			continue;
		make_stack(s, ids, list);
		for (size_t i = 0; i < STACK; i++) {
			CHECK_STR(layer_driver_name(s, ids[i]), o == drivers ? "overlay" : "erofs");
			CHECK(layer_exists(s, ids[i]) && layer_size(s, ids[i]) % 3 == 0);
		}
		CHECK_OK(rootfs_prepare(s, list, NULL, &r));
		text_of_view(&r, &text);
		if (first)
			CHECK_STR(buf_text(&text), first);
		else
			first = buf_take(&text);
		CHECK(strstr(first, "/x/again ") && !strstr(first, "/x/new ") && !strstr(first, "/y "));
		rootfs_fini(&r);
		for (size_t i = 0; i < STACK; i++)
			CHECK_OK(layer_delete(s, ids[i]));
		CHECK(is_empty("tmp") && is_empty("layers"));
		snapshotter_close(s);
	}
}

/* Numbers 0 to 999 stay what they are, but root has no power over the host any more. */
static void enter_user_namespace(void)
{
	char path[64], go;
	int ready[2], child, status;

	(void)snprintf(path, sizeof path, "/proc/%d/", (int)getpid());
	CHECK(pipe(ready) == 0 && (child = fork()) >= 0);
	if (child == 0) {
		bool is_go = close(ready[1]) == 0 && read(ready[0], &go, 1) == 1; /* the files are of the namespace at open */
		auto_fd int dir = open(path, O_RDONLY | O_DIRECTORY), uids = openat(dir, "uid_map", O_WRONLY),
			    gids = openat(dir, "gid_map", O_WRONLY);

		_exit(!is_go || write(uids, "0 0 1000", 8) != 8 || write(gids, "0 0 1000", 8) != 8);
	}
	CHECK(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write(ready[1], "", 1) == 1);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	(void)close(ready[0]);
	(void)close(ready[1]);
}

TEST(a_stack_in_a_user_namespace)
{
	static const struct tar_entry devices[] = { { .name = "null", .type = '3', .dev_major = 1, .dev_minor = 3 }, F_("beside") },
				      stranger[] = { { .name = "f", .type = '0', .uid = 5000, .gid = 1 } };
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };
	auto_buf struct buf text = BUF(1 << 20), inside = BUF(1 << 20), changes = BUF(1 << 20);
	char ids[STACK][DIGEST_MAX], *list[STACK + 1], id[DIGEST_MAX];
	struct snapshotter *s;
	struct err *e;
	auto_fd int root = -1;

	int first, status;

	CHECK((first = fork()) >= 0);
	if (first == 0) { /* where we are is asked once */
		CHECK(open_with(&drivers[0], &s));
		make_stack(s, ids, list);
		CHECK_OK(rootfs_prepare(s, list, NULL, &r));
		text_of_view(&r, &text);
		t_file_write(t_tmpdir(), "text", buf_text(&text));
		_exit(0);
	}
	CHECK(waitpid(first, &status, 0) == first && status == 0);
	start_over();
	enter_user_namespace();
	CHECK(open_with(&drivers[0], &s) && fs_marks_are_user());
	make_stack(s, ids, list);
	CHECK(sys_mkdir(t_tmpdir(), "c", 0755) == 0);
	{
		auto_free char *dir = xasprintf("%s/c", t_tmppath());

		CHECK_OK(rootfs_prepare(s, list, dir, &r));
	}
	text_of_view(&r, &inside);
	CHECK(t_file_is(t_tmpdir(), "text", buf_text(&inside)));
	/* what a container changes is a layer as anywhere else */
	CHECK_OK(rootfs_view(&r, &root));
	CHECK(unlinkat(root, "pipe", 0) == 0 && unlinkat(root, "z/new", 0) == 0 && unlinkat(root, "z/hard", 0) == 0);
	CHECK(unlinkat(root, "z", AT_REMOVEDIR) == 0 && mkdirat(root, "z", 0755) == 0);
	CHECK_OK(rootfs_diff(r.upper, NULL, -1, (struct zip_sink){ give, &changes }));
	CHECK(memmem(changes.data, changes.n, ".wh.pipe", 8) && memmem(changes.data, changes.n, "z/.wh..wh..opq", 14));
	/* devices could not be used there; owners that have no number are an error */
	CHECK_OK(apply(s, devices, 2, id));
	CHECK(look(id, "null").st_nlink == 0 && look(id, "beside").st_nlink == 1);
	e = apply(s, stranger, 1, id);
	CHECK(e && strstr(e->msg, "subuid"));
	err_free(e);
	snapshotter_close(s);
}

TEST(a_stack_may_be_of_both)
{
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };
	auto_buf struct buf text = BUF(1 << 20), same = BUF(1 << 20);
	char ids[STACK][DIGEST_MAX], *list[STACK + 1], again[DIGEST_MAX];
	struct snapshotter *s, *other;

	need_erofs(&s);
	make_stack(s, ids, list);
	CHECK_OK(rootfs_prepare(s, list, NULL, &r));
	text_of_view(&r, &text);
	rootfs_fini(&r);
	CHECK(open_with(&drivers[0], &other));
	for (size_t i = 0; i < STACK; i += 2) {
		CHECK_OK(layer_delete(s, ids[i]));
		CHECK_OK(apply_nth(other, i, again));
		CHECK_STR(again, ids[i]);
	}
	CHECK_STR(layer_driver_name(s, ids[0]), "overlay");
	CHECK_STR(layer_driver_name(s, ids[1]), "erofs");
	CHECK_OK(rootfs_prepare(s, list, NULL, &r));
	text_of_view(&r, &same);
	CHECK_STR(buf_text(&same), buf_text(&text));
	snapshotter_close(s);
	snapshotter_close(other);
}

/* ---- the difference of a container ---- */

static struct err *into(void *ctx, const void *p, size_t n)
{
	return sys_write_all(*(int *)ctx, p, n) < 0 ? FAIL(ERR_INTERNAL, "write") : NULL;
}

TEST(what_a_container_changed_becomes_a_layer)
{
	auto_free char *box = xasprintf("%s/box", t_tmppath()), *first = NULL;

	FOR_EACH_DRIVER(o)
	{
		CLEANUP(rootfs_fini) struct rootfs r = { 0 };
		auto_fd int root = -1,
			    blob = sys_openat(t_tmpdir(), "blob", O_RDWR | O_CREAT | O_TRUNC, 0600);
		auto_buf struct buf tar = BUF(1 << 20), text = BUF(1 << 20);
		char ids[STACK][DIGEST_MAX], *list[STACK + 2], id[DIGEST_MAX];
		struct snapshotter *s;
		struct stat st;

		start_over();
		if (!open_with(o, &s))
			continue;
		make_stack(s, ids, list);
		CHECK(fs_remove_tree(t_tmpdir(), "box") == 0 && mkdir(box, 0700) == 0);
		CHECK_OK(rootfs_prepare(s, list, box, &r));
		CHECK_OK(rootfs_view(&r, &root));
		CHECK(fstat(root, &st) == 0 && st.st_uid == 0 && (st.st_mode & 0777) == 0755);
		t_file_write(root, "made", "by the container");
		t_file_write(root, "x/again", "changed");
		CHECK(unlinkat(root, "z/hard", 0) == 0 && fs_remove_tree(root, "only") == 0 &&
		      mkdirat(root, "only", 0700) == 0);
		own_close(&root);
		root = -1;
		CHECK_OK(rootfs_diff(r.upper, NULL, 9, (struct zip_sink){ into, &blob }));
		CHECK(fstat(blob, &st) == 0 && buf_room(&tar, (size_t)st.st_size));
		CHECK(pread(blob, tar.data, (size_t)st.st_size, 0) == st.st_size &&
		      lseek(blob, 0, SEEK_SET) == 0);
		digest_of(tar.data, (size_t)st.st_size, id);
		CHECK_OK(layer_adopt(s, blob, r.upper, 9, id));
		rootfs_fini(&r);
		list[STACK] = id;
		list[STACK + 1] = NULL;
		CHECK_OK(rootfs_prepare(s, list, NULL, &r));
		text_of_view(&r, &text);
		if (first)
			CHECK_STR(buf_text(&text), first);
		else
			first = buf_take(&text);
		CHECK(strstr(first, "/made 100") && !strstr(first, "/z/hard") && !strstr(first, "/only/f"));
		CHECK_INT(layer_size(s, id), 23);
		CHECK(fstat(blob, &st) == 0 &&
		      st.st_nlink == (o == drivers ? 1 : 2)); /* no second copy */
		CHECK_OK(layer_delete(s, id));
		CHECK_OK(layer_adopt(s, blob, NULL, -1, id)); /* of the tar alone */
		CHECK(layer_exists(s, id));
		snapshotter_close(s);
	}
}

/* ---- damage ---- */

struct told {
	int n;
	char last[256];
};

static void note(void *ctx, const char *path, const char *what)
{
	struct told *t = ctx;

	t->n++;
	(void)snprintf(t->last, sizeof t->last, "%s %s", path, what);
}

static void flip(const char *path, off_t at)
{
	auto_fd int fd = open(path, O_RDWR | O_CLOEXEC);
	char c;

	CHECK(fd >= 0 && pread(fd, &c, 1, at) == 1);
	c ^= 4;
	CHECK(pwrite(fd, &c, 1, at) == 1);
}

TEST(a_flipped_bit_is_told)
{
	struct told t = { 0 };
	struct layer_tell tell = { note, &t };
	char id[DIGEST_MAX];
	struct snapshotter *s;
	struct stat st;

	need_erofs(&s);
	CHECK_OK(apply_nth(s, 0, id));
	CHECK_OK(layer_verify(s, id, (struct zip_source){ 0 }, &tell));
	CHECK_INT(t.n, 0);
	for (int which = 0; which < 2; which++) {
		auto_free char *path =
		    xasprintf("%s/layers/%s/layer.%s", t_tmppath(), digest_hex(id), which ? "erofs" : "tar");

		CHECK(stat(path, &st) == 0);
		for (off_t at = which ? 1024 : 0; at < st.st_size; at += which ? 101 : 499) {
			t = (struct told){ 0 };
			flip(path, at);
			CHECK_OK(layer_verify(s, id, (struct zip_source){ 0 }, &tell));
			CHECK(t.n >= 1);
			flip(path, at);
		}
	}
	t = (struct told){ 0 };
	CHECK_OK(layer_verify(s, id, (struct zip_source){ 0 }, &tell));
	CHECK_INT(t.n, 0);
	CHECK(is_empty("tmp"));
	snapshotter_close(s);
}

static void whole(struct snapshotter *s)
{
	struct told t = { 0 };
	struct layer_tell tell = { note, &t };
	char id[DIGEST_MAX];

	CHECK_OK(apply_nth(s, 0, id));
	CHECK_OK(layer_verify(s, id, (struct zip_source){ 0 }, &tell));
	CHECK_STR(t.last, "");
}

static void nothing_before(void)
{
}

static void make_one(void)
{
	struct snapshotter *s;
	struct err *e = snapshotter_open(t_tmpdir(), &drivers[1], &s);

	if (!e) {
		e = apply_nth(s, 0, NULL);
		snapshotter_close(s);
	}
	err_free(e);
}

static void judge_one(void)
{
	struct snapshotter *s;

	CHECK_OK(snapshotter_open(t_tmpdir(), &drivers[1], &s));
	CHECK(is_empty("tmp"));
	whole(s); /* what is there under the name already stays: it must be whole */
	snapshotter_close(s);
}

TEST(a_crash_leaves_a_whole_image_or_none)
{
	struct snapshotter *s;

	need_erofs(&s);
	snapshotter_close(s);
	t_crash_sweep(nothing_before, make_one, judge_one);
}

TEST(every_failure_is_told_and_leaves_nothing)
{
	struct snapshotter *s;

	need_erofs(&s);
	snapshotter_close(s);
	FAULT_SWEEP (ENOSPC) {
		struct err *e;

		start_over();
		CHECK_OK(snapshotter_open(t_tmpdir(), &drivers[1], &s));
		t_sweep_on();
		e = apply_nth(s, 0, NULL);
		t_sweep_off();
		CHECK(!e == !t_sweep_fired());
		CHECK(is_empty("tmp") && (is_empty("layers") || !e || strstr(e->msg, "sync layer")));
		err_free(e);
		whole(s);
		snapshotter_close(s);
	}
}

/* ---- choosing ---- */

TEST(what_was_asked_for_works_or_is_an_error)
{
	const struct snapshotter_opts unknown = { .driver = "devicemapper" };
	const char *name, *why;
	struct snapshotter *s;

	CHECK_ERR(ERR_INVALID, snapshotter_open(t_tmpdir(), &unknown, &s));
	CHECK_OK(snapshotter_open(t_tmpdir(), NULL, &s));
	CHECK_OK(snapshotter_driver(s, &name, &why));
	CHECK(strcmp(name, "erofs") == 0 ? !why : strncmp(why, "erofs: ", 7) == 0);
	snapshotter_close(s);
}

/* tmpfs cannot lie under a mount of a file: then the other driver is taken, and it is told why. */
TEST(a_root_on_tmpfs_takes_the_other_driver)
{
	auto_fd int fs = sys_fsopen("tmpfs"), root = -1;
	const char *name, *why;
	struct snapshotter *s;

	if (fs < 0 || sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0 ||
	    (root = sys_fsmount(fs, 0)) < 0)
		t_skip("needs root");
	CHECK_OK(snapshotter_open(root, NULL, &s));
	CHECK_OK(snapshotter_driver(s, &name, &why));
	CHECK_STR(name, "overlay");
	CHECK(why && strstr(why, "erofs: "));
	snapshotter_close(s);
	CHECK_ERR(ERR_UNSUPPORTED, snapshotter_open(root, &drivers[1], &s));
}

TEST(a_root_without_attributes_is_refused)
{
	auto_fd int fs = sys_fsopen("ramfs"), root = -1;

	if (fs < 0 || sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0 || (root = sys_fsmount(fs, 0)) < 0)
		t_skip("needs root");
	for (size_t i = 0; i < LEN(drivers); i++) {
		struct snapshotter *s;
		struct err *e = snapshotter_open(root, &drivers[i], &s);

		CHECK(e && e->kind == ERR_UNSUPPORTED && strstr(e->msg, "extended attributes"));
		err_free(e);
	}
}

/* A full disk: the store opens and layers can be removed, whichever driver was asked for; making one is the error. */
TEST(no_room_is_no_reason_for_or_against_a_driver)
{
	static const struct snapshotter_opts wanted[] = { { .driver = "overlay" }, { .driver = "erofs" }, { .driver = NULL } };
	static const struct tar_entry e[] = { F_("f") };
	auto_fd int fs = sys_fsopen("tmpfs"), root = -1;
	char id[DIGEST_MAX], other[DIGEST_MAX];
	struct snapshotter *s;

	if (fs < 0 || sys_fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", "14") < 0 ||
	    sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0 || (root = sys_fsmount(fs, 0)) < 0)
		t_skip("needs root");
	CHECK_OK(snapshotter_open(root, &wanted[0], &s));
	CHECK_OK(apply(s, e, 1, id));
	snapshotter_close(s);
	for (int i = 0; i < 14; i++) {
		auto_fd int fd = -1;
		char name[16];

		(void)snprintf(name, sizeof name, "fill%d", i);
		fd = sys_openat(root, name, O_WRONLY | O_CREAT, 0600);
	}
	for (size_t i = 0; i < LEN(wanted); i++) {
		CHECK_OK(snapshotter_open(root, &wanted[i], &s));
		CHECK(layer_exists(s, id));
		CHECK_ERR(ERR_LIMIT, apply(s, e, 1, other));
		snapshotter_close(s);
	}
	CHECK_OK(snapshotter_open(root, &wanted[0], &s));
	CHECK_OK(layer_delete(s, id));
	CHECK_OK(apply(s, e, 1, other));
	snapshotter_close(s);
}

/* ---- loop devices ---- */

static int count_loop(void *ctx, const char *device, const char *file)
{
	(void)device;
	(void)file;
	++*(int *)ctx;
	return 0;
}

static int loops(void)
{
	int n = 0;

	CHECK(sys_loop_each(t_tmppath(), count_loop, &n) == 0);
	return n;
}

/* A device is given back by a worker of the kernel's. */
static bool loops_are_gone(void)
{
	for (int i = 0; i < 6000 && loops(); i++)
		(void)usleep(10000);
	return loops() == 0;
}

static void need_loops(struct snapshotter **s)
{
	if (!open_with(&drivers[2], s))
		t_skip("needs EROFS and loop devices");
}

TEST(loop_devices_are_shared_and_go_with_their_last_user)
{
	char id[DIGEST_MAX], *list[2] = { id, NULL };
	struct rootfs a, b;
	struct snapshotter *s;
	int view;

	need_loops(&s);
	CHECK_OK(apply_nth(s, 0, id));
	CHECK(loops_are_gone()); /* of the probe */
	CHECK_OK(rootfs_prepare(s, list, NULL, &a));
	CHECK_OK(rootfs_prepare(s, list, NULL, &b));
	CHECK_STR(a.lower[0], b.lower[0]);
	CHECK_INT(loops(), 2);
	CHECK_OK(rootfs_view(&a, &view));
	rootfs_fini(&a);
	rootfs_fini(&b);
	CHECK_INT(loops(), 2); /* the view still reads */
	own_close(&view);
	CHECK(loops_are_gone());
	snapshotter_close(s);
}

static void use_loops(void)
{
	char id[DIGEST_MAX], *list[2] = { id, NULL };
	struct rootfs r = { 0 };
	struct snapshotter *s;
	struct err *e = snapshotter_open(t_tmpdir(), &drivers[2], &s);
	int view = -1;

	if (!e)
		e = apply_nth(s, 0, id);
	if (!e)
		e = rootfs_prepare(s, list, NULL, &r);
	if (!e)
		e = rootfs_view(&r, &view);
	err_free(e);
	own_close(&view);
	rootfs_fini(&r);
}

static void judge_loops(void)
{
	struct snapshotter *s;

	CHECK(loops_are_gone());
	CHECK(open_with(&drivers[2], &s));
	whole(s);
	snapshotter_close(s);
}

TEST(a_kill_leaves_no_loop_device)
{
	struct snapshotter *s;

	need_loops(&s);
	snapshotter_close(s);
	t_crash_sweep(start_over, use_loops, judge_loops);
}

/* ---- sharing ---- */

static dev_t device_of(const struct rootfs *r)
{
	struct stat st;

	CHECK(stat(r->lower[0], &st) == 0);
	return st.st_dev;
}

TEST(running_containers_share_their_layers)
{
	const struct snapshotter_opts o = { "erofs", true, t_tmpdir() };
	auto_free char *wrong = NULL;
	struct rootfs a, b, c;
	char id[DIGEST_MAX], other[DIGEST_MAX], *list[2] = { id, NULL };
	struct snapshotter *s;

	need_erofs(&s);
	snapshotter_close(s);
	start_over();
	CHECK_OK(snapshotter_open(t_tmpdir(), &o, &s)); /* RUN may be ROOT */
	CHECK_OK(apply_nth(s, 0, id));
	CHECK_OK(apply_nth(s, 1, other));
	CHECK_OK(rootfs_prepare(s, list, NULL, &a));
	CHECK_OK(rootfs_prepare(s, list, NULL, &b));
	CHECK(device_of(&a) != device_of(&b)); /* nobody said that they hold it */
	rootfs_share(s, &a, (int)getpid(), a.mounts[0]);
	CHECK_OK(rootfs_prepare(s, list, NULL, &c));
	CHECK(device_of(&c) == device_of(&a));
	rootfs_fini(&a);
	CHECK(device_of(&c)); /* lives on */
	{                     /* the number came again, for another layer, and for no layer at all */
		char *others[2] = { other, NULL };
		auto_free char *hex = xasprintf("shared/%s", digest_hex(id));
		auto_fd int fd = -1;

		CHECK_OK(rootfs_prepare(s, others, NULL, &a));
		fd = sys_open_beneath(t_tmpdir(), hex, O_RDONLY | O_DIRECTORY, 0);
		CHECK(t_entries(fd) == 1);
		wrong = xasprintf("/proc/self/fd/%d", a.mounts[0]);
		CHECK(unlinkat(fd, "1", 0) < 0 && symlinkat(wrong, fd, "1") == 0 &&
		      symlinkat("/", fd, "2") == 0);
		rootfs_fini(&b);
		CHECK_OK(rootfs_prepare(s, list, NULL, &b));
		CHECK(device_of(&b) != device_of(&a) && device_of(&b) != device_of(&c));
		CHECK(t_entries(fd) == 0); /* what was none went */
	}
	rootfs_fini(&a);
	rootfs_fini(&b);
	CHECK(device_of(&c)); /* a layer that is removed while a container runs on it stays for that */
	CHECK_OK(layer_delete(s, id));
	CHECK(device_of(&c));
	rootfs_share(s, &c, (int)getpid(), c.mounts[0]);
	CHECK(!is_empty("shared"));
	CHECK_OK(apply_nth(s, 0, id));
	CHECK_OK(layer_delete(s, id));
	CHECK(is_empty("shared"));
	rootfs_fini(&c);
	snapshotter_close(s);
}

TEST(mounts_that_are_kept_are_the_same)
{
	struct rootfs a, b;
	char id[DIGEST_MAX], *list[2] = { id, NULL };
	struct snapshotter *s;
	dev_t first;

	need_erofs(&s);
	CHECK_OK(apply_nth(s, 0, id));
	snapshotter_keep_mounts(s);
	CHECK_OK(rootfs_prepare(s, list, NULL, &a));
	first = device_of(&a);
	rootfs_fini(&a);
	CHECK_OK(rootfs_prepare(s, list, NULL, &b));
	CHECK(device_of(&b) == first);
	snapshotter_close(s);
	CHECK(device_of(&b) == first); /* who has one keeps it */
	rootfs_fini(&b);
}

TEST(more_than_a_hundred_layers)
{
	enum { MANY = 130 };
	FOR_EACH_DRIVER(o)
	{
		CLEANUP(rootfs_fini) struct rootfs r = { 0 };
		char ids[MANY][DIGEST_MAX], *list[MANY + 1];
		struct snapshotter *s;
		struct err *e;
		int root = -1;

		start_over();
		if (!open_with(o, &s))
			continue;
		for (int i = 0; i < MANY; i++) {
			char name[16];
			struct tar_entry one[2] = { { .name = "same", .type = '0', .mode = 0644 },
						    { .name = name, .type = '0', .mode = 0644 } };

			(void)snprintf(name, sizeof name, "f%d", i);
			CHECK_OK(apply(s, one, 2, ids[i]));
			list[i] = ids[i];
		}
		list[MANY] = NULL;
		CHECK_OK(rootfs_prepare(s, list, NULL, &r));
		e = rootfs_view(&r, &root);
		if (e && e->kind == ERR_UNSUPPORTED) { /* before 6.7 */
			err_free(e);
		} else {
			CHECK_OK(e);
			CHECK(faccessat(root, "f0", F_OK, 0) == 0 && faccessat(root, "f129", F_OK, 0) == 0 &&
			      t_entries(root) == MANY + 1);
			close(root);
		}
		snapshotter_close(s);
	}
}
