/* volume_test.c - volumes without containers: every call that fails or is the last one before a crash. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/container.h"
#include "engine/image_fixture_test.h"
#include "engine/volume.h"
#include "engine/volume_work.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>

enum { NAMES = 3 }; /* a, dir, z */

static int volumes_fd(struct engine *e)
{
	return openat(engine_root_fd(e), "volumes", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* What an image would have at the place. */
static int content(void)
{
	int top = t_tmpdir();
	int fd;

	(void)mkdirat(top, "content", 0751);
	fd = openat(top, "content", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	(void)mkdirat(fd, "dir", 0700);
	t_file_write(fd, "a", "first");
	t_file_write(fd, "z", "last");
	t_file_write(fd, "dir/deep", "below");
	return fd;
}

static bool is_whole(struct engine *e, const char *name)
{
	auto_free char *path = volume_path(e, name);
	auto_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat st;

	return fd >= 0 && t_entries(fd) == NAMES && t_file_is(fd, "a", "first") &&
	       t_file_is(fd, "z", "last") && t_file_is(fd, "dir/deep", "below") && fstat(fd, &st) == 0 &&
	       (st.st_mode & 07777) == 0751;
}

static bool is_empty(struct engine *e, const char *name)
{
	auto_free char *path = volume_path(e, name);
	auto_fd int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd >= 0 && t_entries(fd) == 0;
}

static struct err *make(struct engine *e, const char *name)
{
	auto_json json_t *body = json_pack("{s:s}", "Name", name), *v = NULL;

	return volume_create(e, body, &v);
}

/* As a container's creation does it. */
static struct err *fill(struct engine *e, const char *name)
{
	CLEANUP(volume_work_end) struct volume_work w = { .lock = -1 };
	CLEANUP(volume_dirs_fini) struct volume_dirs dirs = { -1, -1 };
	auto_json json_t *doc = NULL;
	auto_fd int from = content();

	TRY(make(e, name));
	TRY(volume_get(e, name, &doc));
	TRY(volume_work_begin(e, name, &w));
	TRY(volume_dirs_open(e, doc, &dirs));
	return volume_is_empty(&dirs) ? volume_fill(&w, &dirs, from) : NULL;
}

static bool exists(struct engine *e, const char *name)
{
	auto_json json_t *doc = NULL;

	CHECK_OK(volume_get(e, name, &doc));
	return doc != NULL;
}

/* Nothing is half done, and nothing but what the database names has a directory. */
static void judge_at_rest(struct engine *e, const char *name)
{
	auto_fd int dir = volumes_fd(e), marks = openat(dir, ".work", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_free char *path = xasprintf("%s/volumes/%s", engine_root(e), name);
	auto_fd int own = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	CHECK(marks < 0 || t_entries(marks) == 0);
	CHECK((own >= 0) == exists(e, name));
	CHECK(own < 0 || t_entries(own) == 1);
}

TEST(a_volume_is_made_filled_and_removed)
{
	auto_engine struct engine *e = fixture_open();

	CHECK_OK(fill(e, "vol"));
	CHECK(is_whole(e, "vol"));
	judge_at_rest(e, "vol");
	CHECK_OK(volume_remove(e, "vol", false));
	judge_at_rest(e, "vol");
	CHECK_ERR(ERR_NOT_FOUND, volume_remove(e, "vol", false));
	CHECK_OK(volume_remove(e, "vol", true));
}

TEST(files_of_nobody_are_not_taken)
{
	auto_engine struct engine *e = fixture_open();
	auto_fd int dir = volumes_fd(e);

	CHECK(mkdirat(dir, "vol", 0700) == 0 && mkdirat(dir, "vol/_data", 0700) == 0);
	CHECK_OK(make(e, "vol")); /* empty ones are */
	CHECK_OK(volume_remove(e, "vol", false));
	CHECK(mkdirat(dir, "vol", 0700) == 0 && mkdirat(dir, "vol/_data", 0700) == 0);
	t_file_write(dir, "vol/_data/f", "x");
	CHECK_ERR(ERR_CONFLICT, make(e, "vol"));
	CHECK(t_file_is(dir, "vol/_data/f", "x"));
}

TEST(what_is_held_is_not_removed)
{
	auto_engine struct engine *e = fixture_open();
	auto_json json_t *doc = NULL, *none = NULL;
	auto_fd int hold = -1, other = -1;

	CHECK_OK(volume_hold(e, "vol", &hold, &none));
	CHECK(hold < 0 && !none);
	CHECK_OK(make(e, "vol"));
	CHECK_OK(volume_hold(e, "vol", &hold, &doc));
	CHECK(hold >= 0 && doc);
	CHECK_ERR(ERR_CONFLICT, volume_remove(e, "vol", false));
	CHECK(exists(e, "vol"));
	own_close(&hold);
	hold = -1;
	CHECK_OK(volume_remove(e, "vol", false));
}

static void sweep(struct err *(*op)(struct engine *e, const char *name), bool filled_before)
{
	FAULT_SWEEP (EIO) {
		auto_engine struct engine *e = fixture_open();
		struct err *err;

		CHECK_OK(volume_remove(e, "vol", true));
		if (filled_before)
			CHECK_OK(fill(e, "vol"));
		t_sweep_on();
		err = op(e, "vol");
		t_sweep_off();
		err_free(err);
		CHECK_OK(volume_reconcile(e));
		if (exists(e, "vol"))
			CHECK(is_whole(e, "vol") || (is_empty(e, "vol") && !filled_before));
		CHECK_OK(fill(e, "vol"));
		CHECK(is_whole(e, "vol"));
		judge_at_rest(e, "vol");
	}
}

static struct err *remove_it(struct engine *e, const char *name)
{
	return volume_remove(e, name, false);
}

TEST(any_failing_call_while_a_volume_is_filled)
{
	sweep(fill, false);
}

TEST(any_failing_call_while_a_volume_is_removed)
{
	sweep(remove_it, true);
}

/* ---- crashes ---- */

static void nothing(void)
{
}

static void with_volume(void)
{
	auto_engine struct engine *e = fixture_open();

	CHECK_OK(fill(e, "vol"));
}

static void crash_fill(void)
{
	auto_engine struct engine *e = fixture_open();

	err_free(fill(e, "vol"));
}

static void crash_remove(void)
{
	auto_engine struct engine *e = fixture_open();

	err_free(volume_remove(e, "vol", false));
}

/* Opening alone leaves it whole, empty or gone; the next use finds it whole. */
static void judge(void)
{
	auto_engine struct engine *e = fixture_open();

	judge_at_rest(e, "vol");
	if (exists(e, "vol"))
		CHECK(is_whole(e, "vol") || is_empty(e, "vol"));
	CHECK_OK(fill(e, "vol"));
	CHECK(is_whole(e, "vol"));
	CHECK_OK(volume_remove(e, "vol", false));
	judge_at_rest(e, "vol");
}

TEST(a_crash_at_any_call_while_a_volume_is_filled)
{
	t_crash_sweep(nothing, crash_fill, judge);
}

TEST(a_crash_at_any_call_while_a_volume_is_removed)
{
	t_crash_sweep(with_volume, crash_remove, judge);
}
