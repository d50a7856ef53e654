#include "base/mem.h"
#include "base/own.h"
#include "codec/zip.h"
#include "harness/t.h"
#include "registry/compress.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define PLAIN_BYTES 700000

static struct descriptor put_plain(struct store *store, bool is_random)
{
	static char type[] = MEDIA_LAYER;
	struct descriptor d = { .media_type = type, .size = PLAIN_BYTES };
	auto_free char *body = xmalloc(PLAIN_BYTES);
	uint32_t seed = 1;

	for (size_t i = 0; i < PLAIN_BYTES; i++) {
		seed = seed * 1664525 + 1013904223;
		body[i] = is_random ? (char)(seed >> 24) : (char)('a' + i / 1000 % 20);
	}
	CHECK_OK(store_put(store, body, PLAIN_BYTES, d.digest));
	return d;
}

static void check_gzip(struct store *store, const struct descriptor *d, const char *plain_digest)
{
	auto_digest struct digest_state *hash = digest_new();
	auto_unzip struct unzip *u = NULL;
	auto_fd int fd = -1;
	char chunk[4096], got[DIGEST_MAX];
	size_t n;

	CHECK_OK(store_blob_open(store, d->digest, d->size, &fd));
	CHECK_OK(unzip_open(zip_source_fd(&fd), &u));
	CHECK_INT(unzip_kind(u), ZIP_GZIP);
	do {
		CHECK_OK(unzip_read(u, chunk, sizeof chunk, &n));
		digest_add(hash, chunk, n);
	} while (n);
	digest_end(hash, got);
	CHECK_STR(got, plain_digest);
}

static const struct compress_how usual = { ZIP_GZIP, 4 };

TEST(a_layer_is_compressed_the_same_way_each_time)
{
	auto_fd int null = sys_open("/dev/null", O_WRONLY, 0);
	auto_report struct report *report = report_new(null, -1);
	struct descriptor plain, one, two;
	struct store *store = NULL;

	CHECK_OK(store_open(t_tmpdir(), &store));
	plain = put_plain(store, false);
	CHECK_OK(compress_layer(store, report, usual, &plain, &one));
	CHECK_OK(compress_layer(store, report, usual, &plain, &two));
	CHECK_STR(one.digest, two.digest);
	CHECK_STR(one.media_type, MEDIA_LAYER "+gzip");
	CHECK(one.size < PLAIN_BYTES / 10);
	check_gzip(store, &one, plain.digest);
	free(one.media_type);
	free(two.media_type);
	store_close(store);
}

TEST(what_does_not_shrink_stays)
{
	auto_fd int null = sys_open("/dev/null", O_WRONLY, 0);
	auto_report struct report *report = report_new(null, -1);
	struct descriptor plain, got;
	struct store *store = NULL;

	CHECK_OK(store_open(t_tmpdir(), &store));
	plain = put_plain(store, true);
	CHECK_OK(compress_layer(store, report, usual, &plain, &got));
	CHECK_STR(got.digest, plain.digest);
	CHECK_STR(got.media_type, MEDIA_LAYER);
	CHECK_INT(got.size, PLAIN_BYTES);
	free(got.media_type);
	store_close(store);
}

TEST(types_that_have_a_compressed_form)
{
	CHECK(compress_applies(MEDIA_LAYER) &&
	      compress_applies("application/vnd.docker.image.rootfs.diff.tar"));
	CHECK(!compress_applies(MEDIA_LAYER "+gzip") && !compress_applies("application/vnd.in-toto+json"));
}

TEST(a_rewritten_manifest_keeps_what_it_does_not_know)
{
	static const char text[] =
	    "{\"schemaVersion\":2,\"x\":{\"y\":[1]},\"layers\":[{\"mediaType\":\"a\",\"digest\":\"d\","
	    "\"size\":1,\"annotations\":{\"k\":\"v\"}},{\"mediaType\":\"b\",\"digest\":\"e\",\"size\":2}]}";
	char a[] = "a", z[] = "z", b[] = "b";
	struct descriptor plain[] = { { .media_type = a, .digest = "d", .size = 1 },
				      { .media_type = b, .digest = "e", .size = 2 } };
	struct descriptor sent[] = { { .media_type = z, .digest = "q", .size = 9 }, plain[1] };
	auto_buf struct buf out = BUF(4096);
	auto_json json_t *doc = NULL;

	CHECK_OK(json_parse(sv_of(text), "text", 4096, &doc));
	compress_rewrite(doc, plain, sent, 2, &out);
	CHECK_STR(
	    buf_text(&out),
	    "{\"schemaVersion\":2,\"x\":{\"y\":[1]},\"layers\":[{\"mediaType\":\"z\",\"digest\":\"q\","
	    "\"size\":9,\"annotations\":{\"k\":\"v\"}},{\"mediaType\":\"b\",\"digest\":\"e\",\"size\":2}]}");
}

TEST(any_failing_call_leaves_no_half_layer)
{
	auto_fd int null = sys_open("/dev/null", O_WRONLY, 0);
	auto_report struct report *report = report_new(null, -1);
	struct store *store = NULL;

	FAULT_SWEEP (EIO) {
		struct descriptor plain, got = { 0 };
		struct err *e;

		CHECK_OK(store_open(t_tmpdir(), &store));
		plain = put_plain(store, false);
		t_sweep_on();
		e = compress_layer(store, report, usual, &plain, &got);
		t_sweep_off();
		if (!e)
			check_gzip(store, &got, plain.digest);
		free(got.media_type);
		err_free(e);
		store_close(store);
		CHECK_OK(store_open(t_tmpdir(), &store)); /* cleans what an unlink that failed left */
		auto_fd int tmp = sys_openat(t_tmpdir(), "tmp", O_RDONLY | O_DIRECTORY, 0);
		CHECK_INT(t_entries(tmp), 0);
		store_close(store);
	}
}

TEST(how_is_parsed)
{
	struct compress_how how;

	CHECK_OK(compress_parse(NULL, 0, &how));
	CHECK(how.kind == ZIP_GZIP && how.level == 4);
	CHECK_OK(compress_parse("zstd", 19, &how));
	CHECK(how.kind == ZIP_ZSTD && how.level == 19);
	CHECK_ERR(ERR_INVALID, compress_parse("gzip", 10, &how));
	CHECK_ERR(ERR_INVALID, compress_parse("xz", 0, &how));
}
