/* image_ahead_test.c - layers made of bytes that are still coming, or stop to, or begin again. */
#include "engine/image_ahead.h"
#include "engine/image_fixture_test.h"
#include "sys/fs.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <unistd.h>

struct rig {
	struct engine *e;
	struct image_ahead *ahead;
	struct buf packed;
	char digest[DIGEST_MAX], diff_id[DIGEST_MAX];
	struct ingest *in;
};

/* Of n bytes, which may be such that do not pack, so that there is something to come in pieces. */
static void rig_open_with(struct rig *r, size_t bytes, bool packs)
{
	auto_free char *text = xcalloc(1, bytes + 1);
	auto_buf struct buf tar = BUF(256u << 20);
	auto_tar_writer struct tar_writer *w = NULL;
	auto_zip struct zip *z = NULL;
	uint32_t seed = 1;

	for (size_t i = 0; !packs && i < bytes; i++)
		text[i] = (char)((seed = seed * 1664525u + 1013904223u) >> 24);
	CHECK_OK(tar_writer_new((struct zip_sink){ fixture_write, &tar }, &w));
	fixture_add(w, "file", text, bytes);
	CHECK_OK(tar_finish(w));
	r->packed = BUF(16u << 20);
	CHECK_OK(zip_open(ZIP_GZIP, 1, (struct zip_sink){ fixture_write, &r->packed }, &z));
	CHECK_OK(zip_write(z, tar.data, tar.n));
	CHECK_OK(zip_finish(z));
	digest_of(tar.data, tar.n, r->diff_id);
	digest_of(r->packed.data, r->packed.n, r->digest);
	r->e = fixture_open();
	r->ahead = image_ahead_new(r->e);
	CHECK_OK(ingest_resume(engine_store(r->e), r->digest, &r->in));
}

static void rig_open(struct rig *r)
{
	rig_open_with(r, 4000000, false);
}

static void rig_close(struct rig *r)
{
	ingest_free(r->in);
	engine_close(r->e);
	buf_fini(&r->packed);
}

/* Takes the reference. */
static void say(struct rig *r, json_t *line)
{
	CHECK(line && image_ahead_line(r->ahead, line));
	json_decref(line);
}

static void say_arriving(struct rig *r, const char *diff_id, const char *file)
{
	say(r, json_pack("{s:s, s:s, s:s, s:I, s:s}", "arriving", r->digest, "diff_id", diff_id, "media_type",
			 MEDIA_LAYER "+gzip", "size", (json_int_t)r->packed.n, "file", file));
}

static void say_arrived(struct rig *r, uint64_t n)
{
	say(r, json_pack("{s:s, s:I}", "arrived", r->digest, "bytes", (json_int_t)n));
}

static void say_whole(struct rig *r)
{
	say(r, json_pack("{s:s, s:s, s:s, s:I}", "layer", r->digest, "diff_id", r->diff_id, "media_type",
			 MEDIA_LAYER "+gzip", "size", (json_int_t)r->packed.n));
}

/* In pieces, up to byte `to`. */
static void arrive(struct rig *r, size_t to)
{
	while (ingest_size(r->in) < to) {
		size_t at = (size_t)ingest_size(r->in), n = to - at < 300000 ? to - at : 300000;

		CHECK_OK(ingest_write(r->in, r->packed.data + at, n));
		say_arrived(r, at + n);
	}
}

/* What is in tmp beside the blob on its way. */
static size_t litter(struct rig *r)
{
	auto_fd int tmp = sys_openat(engine_root_fd(r->e), "tmp", O_RDONLY | O_DIRECTORY, 0);

	return t_entries(tmp) - 1;
}

static bool is_remembered(struct rig *r)
{
	bool applied;

	CHECK_OK(image_blob_applied(r->e, r->digest, &applied));
	return applied;
}

TEST(a_layer_is_made_while_it_comes)
{
	struct rig r = { 0 };

	rig_open(&r);
	say_arriving(&r, r.diff_id, ingest_file(r.in));
	arrive(&r, r.packed.n);
	CHECK_OK(ingest_commit(r.in, r.digest, r.packed.n, NULL));
	say_whole(&r);
	image_ahead_end(r.ahead, false);
	CHECK(layer_exists(engine_snapshotter(r.e), r.diff_id) && is_remembered(&r) && litter(&r) == 0);
	rig_close(&r);
}

TEST(bytes_that_nobody_verified_prove_nothing_about_a_blob)
{
	struct rig r = { 0 };

	rig_open(&r);
	say_arriving(&r, r.diff_id, ingest_file(r.in));
	arrive(&r, r.packed.n);
	while (!litter(&r)) /* it has begun */
		(void)usleep(1000);
	image_ahead_end(r.ahead, true);
	CHECK(layer_exists(engine_snapshotter(r.e), r.diff_id)); /* which its own digest proves */
	CHECK(!is_remembered(&r) && litter(&r) == 0);
	rig_close(&r);
}

TEST(what_does_not_come_is_no_layer)
{
	char other[DIGEST_MAX];

	digest_of("other", 5, other);
	for (int kind = 0; kind < 4; kind++) {
		struct rig r = { 0 };

		rig_open(&r);
		say_arriving(&r, kind == 3 ? other : r.diff_id, kind == 2 ? "../layers" : ingest_file(r.in));
		arrive(&r, kind == 3 ? r.packed.n : r.packed.n / 2);
		if (kind == 1) { /* it begins again */
			CHECK_OK(ingest_restart(r.in));
			say_arrived(&r, 0);
			arrive(&r, r.packed.n);
		}
		image_ahead_end(r.ahead, false);
		CHECK_INT(fixture_layers(r.e), 0);
		CHECK_INT(litter(&r), 0);
		rig_close(&r);
	}
}

/* It may be a lie of 400 KB that unpacks to gigabytes; that it is none is known when the blob is whole. */
TEST(little_that_becomes_much_waits_for_its_proof)
{
	struct rig r = { 0 };

	rig_open_with(&r, 100u << 20, true);
	say_arriving(&r, r.diff_id, ingest_file(r.in));
	arrive(&r, r.packed.n);
	image_ahead_end(r.ahead, false);
	CHECK_INT(fixture_layers(r.e), 0);
	CHECK_INT(litter(&r), 0);
	rig_close(&r);
}

TEST(a_whole_blob_is_taken_from_the_store)
{
	struct rig r = { 0 };

	rig_open(&r);
	CHECK_OK(ingest_write(r.in, r.packed.data, r.packed.n));
	CHECK_OK(ingest_commit(r.in, r.digest, r.packed.n, NULL));
	say_whole(&r);
	say_whole(&r);
	image_ahead_end(r.ahead, false);
	CHECK(layer_exists(engine_snapshotter(r.e), r.diff_id) && is_remembered(&r) && litter(&r) == 0);
	rig_close(&r);
}

TEST(other_lines_are_for_others)
{
	auto_json json_t *line = json_pack("{s:s, s:s}", "id", "0123456789ab", "status", "Downloading");
	auto_json json_t *layer = json_pack("{s:s}", "layer", "x");

	CHECK(!image_ahead_line(NULL, line) && image_ahead_line(NULL, layer));
}
