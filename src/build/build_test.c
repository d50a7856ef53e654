/* Whole builds without RUN, in a root of the test's own: what the image says, the cache, failures at every system call. */
#include "build/build.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/digest.h"
#include "content/store.h"
#include "engine/image.h"
#include "harness/t.h"
#include "state/db.h"
#include <fcntl.h>
#include <sys/stat.h>

static struct engine *engine;
static char *context, *top; /* top: of this round */

static void open_engine(void)
{
	auto_free char *root = xasprintf("%s/root", top), *run = xasprintf("%s/run", top);

	CHECK_OK(engine_open(&(struct engine_opts){ root, run }, &engine));
	(void)engine_store(engine); /* sweeps what writers left that are gone */
	(void)engine_snapshotter(engine);
}

static void set_up(const char *dockerfile)
{
	static int round;
	auto_fd int dir = -1;

	umask(022);
	top = xasprintf("%s/%d", t_tmppath(), ++round);
	context = xasprintf("%s/ctx", top);
	CHECK(mkdir(top, 0755) == 0 && mkdir(context, 0755) == 0);
	dir = open(context, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	t_file_write(dir, "a", "A");
	t_file_write(dir, "Dockerfile", dockerfile);
	open_engine();
}

static void tear_down(void)
{
	engine_close(engine);
	free(context);
	free(top);
}

static char *build(bool no_cache)
{
	char *id = NULL;

	CHECK_OK(build_run(engine, &(struct build_opts){ .context_dir = context, .quiet = true, .no_cache = no_cache }, &id));
	return id;
}

TEST(what_the_image_says)
{
	auto_free char *id = NULL, *again = NULL, *body = NULL;
	auto_json json_t *config = NULL;
	auto_buf struct buf text = BUF(1 << 20);
	size_t n;

	set_up("FROM scratch AS x\nARG V=1\nENV A=$V B=\"b c\"\nLABEL k=v\nWORKDIR /w\nCOPY a d/\nEXPOSE 80-81 53/UDP\nUSER 7:8\n"
	       "VOLUME /v\nSTOPSIGNAL SIGINT\nENTRYPOINT [\"/e\"]\nCMD c d\nHEALTHCHECK --interval=2s CMD [\"h\"]\nONBUILD RUN x\n"
	       "MAINTAINER me\n");
	id = build(false);
	again = build(true);
	CHECK_STR(again, id);
	CHECK_OK(store_blob_read(engine_store(engine), id, 1 << 20, &body, &n));
	CHECK_OK(json_parse(sv_from(body, n), "config", 1 << 20, &config));
	(void)json_object_set_new(config, "architecture", json_string("ours"));
	json_print_indent(config, 1, &text);
	buf_ch(&text, '\n');
	t_golden("build/config.json", buf_text(&text));
	tear_down();
}

static struct err *count(void *ctx, struct sv key, struct sv value)
{
	(void)key;
	(void)value;
	++*(size_t *)ctx;
	return NULL;
}

static size_t cached(void)
{
	auto_txn struct db_txn *txn = NULL;
	size_t n = 0;

	CHECK_OK(db_begin_read(engine_db(engine), &txn));
	CHECK_OK(db_scan(txn, DB_CACHE, "", count, &n));
	return n;
}

TEST(equal_layers_are_cached_once_under_their_content)
{
	auto_free char *one = NULL, *two = NULL;

	set_up("FROM scratch AS x\nCOPY a /b\nFROM scratch\nCOPY --from=x /b /c\nCOPY a /c\n");
	one = build(false);
	CHECK_INT(cached(), 2); /* /c from the stage and from the context is the same layer */
	two = build(false);
	CHECK_STR(two, one);
	CHECK_INT(cached(), 2);
	tear_down();
}

TEST(any_failing_call_fails_the_build_or_does_not_matter)
{
	auto_free char *want = NULL;

	FAULT_SWEEP(EIO) {
		auto_free char *id = NULL, *later = NULL;
		auto_fd int tmp = -1;
		struct err *e;

		set_up("FROM scratch\nWORKDIR /w\nCOPY . /ctx\n");
		t_sweep_on();
		e = build_run(engine, &(struct build_opts){ .context_dir = context, .quiet = true }, &id);
		t_sweep_off();
		CHECK(!e != !id);
		later = build(false);
		if (!want)
			want = xstrdup(later);
		CHECK_STR(later, want);
		if (id)
			CHECK_STR(id, want);
		err_free(e);
		engine_close(engine);
		open_engine();
		tmp = openat(engine_root_fd(engine), "tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		tear_down();
		CHECK_INT(t_entries(tmp), 0);
	}
}

TEST(stages_side_by_side)
{
	auto_buf struct buf text = BUF(1 << 16);
	auto_free char *one = NULL, *two = NULL;

	for (int i = 0; i < 12; i++)
		buf_fmt(&text, "FROM scratch AS s%d\nARG A%d=x\nCOPY a /%d\nWORKDIR /w%d\n", i, i, i, i % 3);
	buf_str(&text, "FROM scratch\n");
	for (int i = 0; i < 12; i++)
		buf_fmt(&text, "COPY --from=s%d /%d /to/\n", i, i);
	set_up(buf_text(&text));
	one = build(true);
	two = build(false);
	CHECK_STR(two, one);
	tear_down();
}

TEST(a_stage_that_fails_is_the_error)
{
	char *id = NULL;
	struct err *e;

	set_up("FROM scratch AS a\nCOPY a /\nFROM scratch AS b\nCOPY nope /\nFROM a\nCOPY --from=b /a /b\n");
	e = build_run(engine, &(struct build_opts){ .context_dir = context, .quiet = true }, &id);
	CHECK(e && e->kind == ERR_NOT_FOUND);
	CHECK_STR(e->msg, "failed to compute cache key: \"/nope\": not found\nDockerfile:4\n   4 | COPY nope /\n     |      ^~~~");
	err_free(e);
	tear_down();
}
