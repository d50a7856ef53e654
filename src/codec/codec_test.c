#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "codec/json_plain.h"
#include "codec/tar.h"
#include "codec/zip.h"
#include "harness/t.h"
#include <bzlib.h>
#include <fcntl.h>
#include <lzma.h>
#include <stdio.h>

struct memory {
	struct buf b;
	size_t at;
	size_t step; /* most bytes per read; 0: any */
};

static struct err *memory_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct memory *m = ctx;
	size_t left = m->b.n - m->at;

	if (m->step && n > m->step)
		n = m->step;
	*out_n = n < left ? n : left;
	if (*out_n)
		memcpy(p, m->b.data + m->at, *out_n);
	m->at += *out_n;
	return NULL;
}

static struct err *memory_write(void *ctx, const void *p, size_t n)
{
	struct memory *m = ctx;

	buf_add(&m->b, p, n);
	return buf_check(&m->b, "memory");
}

#define MEMORY ((struct memory){ .b = BUF(64 << 20) })
static struct zip_source source(struct memory *m)
{
	m->at = 0;
	return (struct zip_source){ memory_read, m };
}
static struct zip_sink sink(struct memory *m)
{
	return (struct zip_sink){ memory_write, m };
}

TEST(a_digest_is_sha256_in_oci_form)
{
	char d[DIGEST_MAX];
	auto_digest struct digest_state *s = digest_new();

	digest_of("abc", 3, d);
	CHECK_STR(d, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	digest_add(s, "ab", 2);
	digest_add(s, "c", 1);
	digest_end(s, d);
	CHECK_STR(d, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	CHECK_OK(digest_check(sv_of(d)));
	d[10] = 'G';
	CHECK_ERR(ERR_INVALID, digest_check(sv_of(d)));
	CHECK_ERR(ERR_INVALID, digest_check(SV("md5:00")));
}

TEST(json_refuses_what_is_not_strict)
{
	static const char *const texts[] = {
		"", "{", "{\"a\":1,\"a\":2}", "[1,]", "nope", "{\"a\":\"\\x\"}"
	};
	json_t *v = NULL;

	for (size_t i = 0; i < LEN(texts); i++)
		CHECK_ERR(ERR_INVALID, json_parse(sv_of(texts[i]), "x", 100, &v));
	CHECK_ERR(ERR_LIMIT, json_parse(SV("[1,2,3]"), "x", 3, &v));
}

/* The quick way is jansson's way: it makes the same value, or leaves the text to it. */
TEST(plain_json_is_what_jansson_makes_of_it)
{
	static const char *const quick[] = { "{}", " [ ] ", "[1,-7,0,-0,999999999999999999]",
					     "{\"a\":{\"b\":[true,false,null]},\"c\":\"\"}\n",
					     "[\"\\\"q\\\\\\/\\b\\f\\n\\r\\t\",\"\xc3\xa4\",\"\\\\n\"]" };
	static const char *const left[] = { "",
					    "1",
					    "\"s\"",
					    "[1.5]",
					    "[1e3]",
					    "[01]",
					    "[-]",
					    "[1,]",
					    "[,1]",
					    "[1 2]",
					    "{\"a\":1,\"a\":2}",
					    "{\"a\"}",
					    "{a:1}",
					    "[tru]",
					    "[truer]",
					    "[\"\\u0041\"]",
					    "[\"\\x\"]",
					    "[\"\xff\"]",
					    "[\"a\nb\"]",
					    "[\"a",
					    "[\"a\\",
					    "[",
					    "{\"a\":",
					    "[]]",
					    "[1000000000000000000]",
					    "nul" };

	for (size_t i = 0; i < LEN(quick); i++) {
		auto_json json_t *a = json_plain(quick[i], strlen(quick[i])),
				 *b = json_loads(quick[i], JSON_REJECT_DUPLICATES, NULL);

		CHECK(a && b && json_equal(a, b));
	}
	for (size_t i = 0; i < LEN(left); i++)
		CHECK(!json_plain(left[i], strlen(left[i])));
	CHECK(!json_plain("[1]\0", 4));
}

TEST(json_integers_have_all_64_bits)
{
	static const char *const bad[] = { "[18446744073709551616]", "[-9223372036854775809]",
					   "[99999999999999999999999]" };
	auto_json json_t *v = NULL;
	json_t *none = NULL;
	uint64_t n = 0;

	CHECK_OK(json_parse(SV("{\"18446744073709551615\":[18446744073709551615,9223372036854775808,7,-7],"
			       "\"s\":\"\\\"9223372036854775809\"}"),
			    "x", 1000, &v));
	CHECK(json_u64(json_array_get(json_object_get(v, "18446744073709551615"), 0), &n) && n == UINT64_MAX);
	CHECK(json_u64(json_array_get(json_object_get(v, "18446744073709551615"), 1), &n) &&
	      n == (uint64_t)INT64_MAX + 1);
	CHECK(json_u64(json_array_get(json_object_get(v, "18446744073709551615"), 2), &n) && n == 7);
	CHECK(!json_u64(json_array_get(json_object_get(v, "18446744073709551615"), 3), &n));
	CHECK_STR(json_str_at(v, "s", ""), "\"9223372036854775809");
	for (size_t i = 0; i < LEN(bad); i++)
		CHECK_ERR(ERR_INVALID, json_parse(sv_of(bad[i]), "x", 100, &none));
}

TEST(json_values_are_found_by_path)
{
	auto_json json_t *v = NULL;
	auto_list char **list = NULL;

	CHECK_OK(json_parse(SV("{\"a\":{\"b\":\"x\",\"n\":7,\"t\":true,\"l\":[\"p\",\"q\"],\"bad\":[1]}}"),
			    "x", 1000, &v));
	CHECK_STR(json_str_at(v, "a.b", ""), "x");
	CHECK_INT(json_int_at(v, "a.n", 0), 7);
	CHECK(json_bool_at(v, "a.t", false));
	CHECK_STR(json_str_at(v, "a.none", "fallback"), "fallback");
	CHECK_OK(json_list_at(v, "a.l", &list));
	CHECK_STR(list[1], "q");
	text_list_free(TAKE(list));
	CHECK_ERR(ERR_INVALID, json_list_at(v, "a.bad", &list));
}

static void fill_text(struct buf *b, size_t n)
{
	unsigned x = 1;

	while (b->n < n) {
		x = x * 1103515245 + 12345;
		buf_fmt(b, "line %u of some text that compresses\n", x >> 20);
	}
}

static void round_trip(enum zip_kind kind, size_t step)
{
	struct memory plain = MEMORY, packed = MEMORY, back = MEMORY;
	auto_zip struct zip *z = NULL;
	auto_unzip struct unzip *u = NULL;
	char chunk[5000];
	size_t n = 1;

	fill_text(&plain.b, 1 << 20);
	CHECK_OK(zip_open(kind, 0, sink(&packed), &z));
	CHECK_OK(zip_write(z, plain.b.data, plain.b.n));
	CHECK_OK(zip_finish(z));
	packed.step = step;
	CHECK_OK(unzip_open(source(&packed), &u));
	CHECK(unzip_kind(u) == kind);
	while (n) {
		CHECK_OK(unzip_read(u, chunk, sizeof chunk, &n));
		buf_add(&back.b, chunk, n);
	}
	CHECK(back.b.n == plain.b.n && memcmp(back.b.data, plain.b.data, back.b.n) == 0);
	buf_fini(&plain.b);
	buf_fini(&packed.b);
	buf_fini(&back.b);
}

TEST(gzip_and_zstd_round_trip_in_small_steps)
{
	round_trip(ZIP_GZIP, 7);
	round_trip(ZIP_ZSTD, 7);
	round_trip(ZIP_NONE, 7);
	round_trip(ZIP_GZIP, 0);
}

static struct err *drain_as(struct memory *m, bool is_proven)
{
	auto_unzip struct unzip *u = NULL;
	char chunk[4096];
	size_t n = 1;

	TRY(unzip_open(source(m), &u));
	if (is_proven)
		unzip_is_proven(u);
	while (n)
		TRY(unzip_read(u, chunk, sizeof chunk, &n));
	return NULL;
}

static struct err *drain(struct memory *m)
{
	return drain_as(m, false);
}

TEST(a_truncated_or_damaged_stream_is_corrupt)
{
	static const enum zip_kind kinds[] = { ZIP_GZIP, ZIP_ZSTD };

	for (size_t k = 0; k < LEN(kinds); k++) {
		struct memory packed = MEMORY, plain = MEMORY;
		auto_zip struct zip *z = NULL;
		size_t whole;

		fill_text(&plain.b, 3000);
		CHECK_OK(zip_open(kinds[k], 0, sink(&packed), &z));
		CHECK_OK(zip_write(z, plain.b.data, plain.b.n));
		CHECK_OK(zip_finish(z));
		whole = packed.b.n;
		for (packed.b.n = 5; packed.b.n < whole; packed.b.n++)
			CHECK_ERR(ERR_CORRUPT, drain(&packed));
		CHECK_OK(drain(&packed));
		packed.b.data[whole / 2] ^= 1;
		CHECK_ERR(ERR_CORRUPT, drain(&packed));
		buf_fini(&packed.b);
		buf_fini(&plain.b);
	}
}

static struct err *drain_any(struct memory *m, size_t step, struct buf *out)
{
	auto_unzip struct unzip *u = NULL;
	char chunk[4096];
	size_t n = 1;

	m->at = 0;
	buf_reset(out);
	TRY(unzip_open_any(source(m), &u));
	while (n) {
		TRY(unzip_read(u, chunk, step, &n));
		buf_add(out, chunk, n);
	}
	return NULL;
}

TEST(what_stands_around_a_stream_is_passed_over)
{
	static const char skipped[] = "\x53\x2a\x4d\x18\x04\0\0\0skip", zeros[600] = "";
	static const enum zip_kind kinds[] = { ZIP_GZIP, ZIP_ZSTD };

	for (size_t k = 0; k < LEN(kinds); k++) {
		struct memory packed = MEMORY;

		for (int member = 0; member < 2; member++) {
			auto_zip struct zip *z = NULL;

			if (kinds[k] == ZIP_ZSTD) /* as pzstd writes */
				buf_add(&packed.b, skipped, sizeof skipped - 1);
			CHECK_OK(zip_open(kinds[k], 0, sink(&packed), &z));
			CHECK_OK(zip_write(z, "half", 4));
			CHECK_OK(zip_finish(z));
		}
		if (kinds[k] == ZIP_GZIP) /* as tapes have it */
			buf_add(&packed.b, zeros, sizeof zeros);
		CHECK(zip_sniff(packed.b.data, packed.b.n) == kinds[k]);
		for (packed.step = 0; packed.step < 3; packed.step++) {
			struct memory back = MEMORY;

			CHECK_OK(drain_any(&packed, 3, &back.b));
			CHECK_STR(buf_text(&back.b), "halfhalf");
			buf_fini(&back.b);
		}
		buf_str(&packed.b, "x");
		packed.at = 0;
		CHECK_ERR(ERR_CORRUPT, drain(&packed));
		buf_fini(&packed.b);
	}
}

static void pack_xz(const struct buf *plain, struct buf *out)
{
	uint8_t room[300000];
	size_t n = 0;

	CHECK(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC64, NULL, (const uint8_t *)plain->data, plain->n, room, &n, sizeof room) == LZMA_OK);
	buf_add(out, (const char *)room, n);
}

static void pack_bzip2(const struct buf *plain, struct buf *out)
{
	char room[300000];
	unsigned n = sizeof room;

	CHECK(BZ2_bzBuffToBuffCompress(room, &n, plain->data, (unsigned)plain->n, 1, 0, 0) == BZ_OK);
	buf_add(out, room, n);
}

/* What people compress themselves: two members behind one another, in steps of any size, cut and damaged anywhere. */
static void unpack_any(void (*pack)(const struct buf *plain, struct buf *out))
{
	struct memory packed = MEMORY, plain = MEMORY, back = MEMORY;
	const size_t steps[] = { 1, 7, 4096 };
	size_t whole;

	fill_text(&plain.b, 20000);
	pack(&plain.b, &packed.b);
	whole = packed.b.n;
	for (packed.b.n = 6; packed.b.n < whole; packed.b.n += 1 + packed.b.n / 50)
		CHECK_ERR(ERR_CORRUPT, drain_any(&packed, 4096, &back.b));
	packed.b.n = whole;
	packed.b.data[whole / 2] ^= 1;
	CHECK_ERR(ERR_CORRUPT, drain_any(&packed, 4096, &back.b));
	packed.b.data[whole / 2] ^= 1;
	pack(&plain.b, &packed.b);
	for (size_t i = 0; i < LEN(steps); i++) {
		packed.step = i ? 0 : 5;
		CHECK_OK(drain_any(&packed, steps[i], &back.b));
		CHECK(back.b.n == 2 * plain.b.n && memcmp(back.b.data, plain.b.data, plain.b.n) == 0 &&
		      memcmp(back.b.data + plain.b.n, plain.b.data, plain.b.n) == 0);
	}
	CHECK(zip_sniff(packed.b.data, packed.b.n) == ZIP_NONE); /* no layer comes in it */
	buf_fini(&packed.b);
	buf_fini(&plain.b);
	buf_fini(&back.b);
}

TEST(xz_and_bzip2_are_read)
{
	unpack_any(pack_xz);
	unpack_any(pack_bzip2);
}

static struct err *count_write(void *ctx, const void *p, size_t n)
{
	(void)p;
	*(size_t *)ctx += n;
	return NULL;
}

TEST(a_bomb_is_told_from_what_packs_well)
{
	struct memory packed = MEMORY;
	auto_zip struct zip *z = NULL, *honest = NULL;
	auto_free char *zeros = calloc(1, 1 << 20);
	size_t gzip_bytes = 0;

	CHECK_OK(zip_open(ZIP_ZSTD, 3, sink(&packed), &z));
	for (int i = 0; i < 1200; i++)
		CHECK_OK(zip_write(z, zeros, 1 << 20));
	CHECK_OK(zip_finish(z));
	CHECK_ERR(ERR_LIMIT, drain(&packed));
	CHECK_OK(drain_as(&packed, true));
	buf_fini(&packed.b);
	/* the best gzip can do is below the ratio, so no gzip layer is refused */
	CHECK_OK(zip_open(ZIP_GZIP, 9, (struct zip_sink){ count_write, &gzip_bytes }, &honest));
	for (int i = 0; i < 64; i++)
		CHECK_OK(zip_write(honest, zeros, 1 << 20));
	CHECK_OK(zip_finish(honest));
	CHECK(gzip_bytes * 1100 > 64u << 20);
}

TEST(json_is_not_deeper_than_it_says)
{
	auto_buf struct buf b = BUF(1 << 12);
	auto_json json_t *v = NULL, *w = NULL;

	for (int i = 0; i < 128; i++)
		buf_str(&b, "[");
	buf_str(&b, "\"[[[[\\\"[[[\"");
	for (int i = 0; i < 128; i++)
		buf_str(&b, "]");
	CHECK_OK(json_parse(sv_from(b.data, b.n), "t", 1 << 12, &v));
	buf_reset(&b);
	for (int i = 0; i < 129; i++)
		buf_str(&b, i % 2 ? "{\"a\":" : "[");
	CHECK_ERR(ERR_LIMIT, json_parse(sv_from(b.data, b.n), "t", 1 << 12, &w));
}

static void write_sample(struct memory *m)
{
	static const struct tar_xattr x[] = { { "user.a", "1\n2", 3 }, { "user.b", "", 0 } };
	auto_tar_writer struct tar_writer *w = NULL;
	char longname[300];
	struct tar_entry e[] = {
		{ .name = "d", .link = "", .type = '5', .mode = 0755 },
		{ .name = "d/f",
		  .link = "",
		  .type = '0',
		  .mode = 04755,
		  .uid = 70000000,
		  .size = 5,
		  .mtime_ns = 1500000001,
		  .xattrs = x,
		  .n_xattrs = 2 },
		{ .name = longname, .link = "", .type = '0', .mode = 0600 },
		{ .name = "l", .link = "../x", .type = '2', .mode = 0777 },
		{ .name = "h", .link = "d/f", .type = '1', .mode = 04755 },
		{ .name = "c", .link = "", .type = '3', .mode = 0600, .dev_major = 1, .dev_minor = 3 },
	};

	memset(longname, 'n', sizeof longname - 1);
	longname[sizeof longname - 1] = '\0';
	CHECK_OK(tar_writer_new(sink(m), &w));
	for (size_t i = 0; i < LEN(e); i++) {
		CHECK_OK(tar_add(w, &e[i]));
		if (e[i].size)
			CHECK_OK(tar_write(w, "hello", 5));
	}
	CHECK_OK(tar_finish(w));
}

TEST(tar_times_survive_a_round_trip)
{
	static const int64_t times[] = { 0, 1, -1, -1500000000, 1700000000000000000, 8589934591000000000, 8589934592000000000,
					 9000000000000000000 }; /* 1970 to 2255; a header takes them up to 2242 */

	for (size_t i = 0; i < LEN(times); i++) {
		struct memory m = MEMORY;
		auto_tar_writer struct tar_writer *w = NULL;
		auto_tar_reader struct tar_reader *r = NULL;
		const struct tar_entry *e;

		CHECK_OK(tar_writer_new(sink(&m), &w));
		CHECK_OK(tar_add(w, &(struct tar_entry){ .name = "f", .link = "", .type = '0', .mtime_ns = times[i] }));
		CHECK_OK(tar_finish(w));
		CHECK_OK(tar_reader_new(source(&m), &r));
		CHECK_OK(tar_next(r, &e));
		CHECK_INT(e->mtime_ns, times[i]);
		buf_fini(&m.b);
	}
}

TEST(times_beyond_ours_are_the_last)
{
	static const char *const dates[] = { "@99999999999", "@-99999999999" };

	for (size_t i = 0; i < 2 * LEN(dates); i++) {
		auto_tar_reader struct tar_reader *r = NULL;
		auto_fd int fd = -1;
		const struct tar_entry *e;
		char command[900];

		FILE *p;

		(void)snprintf(command, sizeof command, "cd %s && echo hi >f && tar --format=%s --mtime=%s -V label -cf f.tar f && echo ok",
			       t_tmppath(), i < LEN(dates) ? "gnu" : "posix", dates[i % LEN(dates)]);
		p = popen(command, "r");
		CHECK(p && fgets(command, sizeof command, p));
		CHECK(pclose(p) == 0);
		fd = openat(t_tmpdir(), "f.tar", O_RDONLY | O_CLOEXEC);
		CHECK_OK(tar_reader_new(zip_source_fd(&fd), &r));
		CHECK_OK(tar_next(r, &e));
		CHECK(e && strcmp(e->name, "f") == 0); /* and the archive's label is no entry */
		CHECK_INT(e->mtime_ns / 1000000000, (i % 2 ? -1 : 1) * (INT64_MAX / 1000000000 - 1));
	}
}

TEST(tar_entries_survive_a_round_trip)
{
	struct memory m = MEMORY;
	auto_tar_reader struct tar_reader *r = NULL;
	const struct tar_entry *e;
	char text[16];
	size_t n = 0;

	write_sample(&m);
	CHECK_OK(tar_reader_new(source(&m), &r));
	CHECK_OK(tar_next(r, &e));
	CHECK_STR(e->name, "d");
	CHECK(e->type == '5' && e->mode == 0755);
	CHECK_OK(tar_next(r, &e));
	CHECK_STR(e->name, "d/f");
	CHECK(e->mode == 04755 && e->uid == 70000000 && e->size == 5 && e->mtime_ns == 1500000001);
	CHECK(e->n_xattrs == 2 && e->xattrs[0].n == 3);
	CHECK_STR(e->xattrs[0].value, "1\n2");
	CHECK_OK(tar_read(r, text, sizeof text, &n));
	CHECK(n == 5 && memcmp(text, "hello", 5) == 0);
	CHECK_OK(tar_next(r, &e));
	CHECK_INT(strlen(e->name), 299);
	CHECK(e->n_xattrs == 0);
	CHECK_OK(tar_next(r, &e));
	CHECK_STR(e->link, "../x");
	CHECK_OK(tar_next(r, &e));
	CHECK(e->type == '1');
	CHECK_OK(tar_next(r, &e));
	CHECK(e->dev_major == 1 && e->dev_minor == 3);
	CHECK_OK(tar_next(r, &e));
	CHECK(!e);
	buf_fini(&m.b);
}

static struct err *walk(struct memory *m)
{
	auto_tar_reader struct tar_reader *r = NULL;
	const struct tar_entry *e;

	TRY(tar_reader_new(source(m), &r));
	do
		TRY(tar_next(r, &e));
	while (e);
	return NULL;
}

TEST(a_tar_cut_anywhere_inside_an_entry_is_corrupt)
{
	struct memory m = MEMORY;
	size_t whole;

	write_sample(&m);
	whole = m.b.n;
	for (m.b.n = 0; m.b.n < whole; m.b.n += 37) {
		struct err *e = walk(&m);

		CHECK(m.b.n % 512 == 0 || m.b.n > whole - 1024 || (e && e->kind == ERR_CORRUPT));
		err_free(e);
	}
	m.b.n = 0;
	CHECK_ERR(ERR_CORRUPT, walk(&m));
	buf_fini(&m.b);
}

TEST(every_flipped_header_byte_is_noticed)
{
	struct memory m = MEMORY;

	write_sample(&m);
	for (size_t i = 0; i < 345; i++) {
		m.b.data[i] ^= 0x11;
		CHECK_ERR(ERR_CORRUPT, walk(&m));
		m.b.data[i] ^= 0x11;
	}
	CHECK_OK(walk(&m));
	buf_fini(&m.b);
}

/* Old writers took bytes above 127 for negative; fields that nobody reads may be full of them. */
TEST(checksums_of_both_kinds_are_right)
{
	struct memory m = MEMORY;

	for (int is_signed = 0; is_signed < 3; is_signed++) { /* 2: neither */
		unsigned char *h;
		int sum = 8 * ' ';

		buf_reset(&m.b);
		write_sample(&m);
		h = (unsigned char *)m.b.data;
		memset(h + 265, 0xff, 64); /* names of the owner */
		memset(h + 500, 0xfe, 12);
		for (size_t i = 0; i < 512; i++)
			if (i < 148 || i >= 156)
				sum += is_signed ? (signed char)h[i] : h[i];
		(void)snprintf((char *)h + 148, 8, "%06o", (unsigned)sum + (is_signed == 2));
		if (is_signed == 2)
			CHECK_ERR(ERR_CORRUPT, walk(&m));
		else
			CHECK_OK(walk(&m));
	}
	buf_fini(&m.b);
}

TEST(gnu_tar_reads_what_we_write)
{
	struct memory m = MEMORY;
	char command[600];
	FILE *p;
	char line[512] = "";
	auto_fd int fd = openat(t_tmpdir(), "x.tar", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	write_sample(&m);
	CHECK(write(fd, m.b.data, m.b.n) == (ssize_t)m.b.n);
	(void)snprintf(command, sizeof command, "tar -tf %s/x.tar 2>&1 | wc -l", t_tmppath());
	p = popen(command, "r");
	CHECK(p && fgets(line, sizeof line, p));
	CHECK_STR(line, "6\n");
	(void)pclose(p);
	buf_fini(&m.b);
}

TEST(gnu_tars_formats_are_read)
{
	static const char *const formats[] = { "v7", "ustar", "gnu", "posix" };

	for (size_t i = 0; i < LEN(formats); i++) {
		auto_tar_reader struct tar_reader *r = NULL;
		auto_fd int fd = -1;
		const struct tar_entry *e;
		struct zip_source s;
		char command[900];
		size_t n = 0;
		FILE *p;

		(void)snprintf(
		    command, sizeof command,
		    "cd %s && rm -rf t t.tar && mkdir t && echo hi >t/a && truncate -s 1M t/sparse && "
		    "printf x | dd of=t/sparse bs=1 seek=500000 conv=notrunc 2>/dev/null && "
		    "tar %s --format=%s -cf t.tar t && echo ok",
		    t_tmppath(), i >= 2 ? "--sparse" : "", formats[i]);
		p = popen(command, "r");
		CHECK(p && fgets(command, sizeof command, p));
		CHECK(pclose(p) == 0);
		fd = openat(t_tmpdir(), "t.tar", O_RDONLY | O_CLOEXEC);
		s = zip_source_fd(&fd);
		CHECK_OK(tar_reader_new(s, &r));
		for (CHECK_OK(tar_next(r, &e)); e; CHECK_OK(tar_next(r, &e))) {
			uint64_t at = 0, where = 0;
			char chunk[4096];

			n++;
			if (strcmp(e->name, "t/sparse") != 0)
				continue;
			for (;;) {
				size_t got = 0;
				const char *x;

				CHECK_OK(tar_read(r, chunk, sizeof chunk, &got));
				x = memchr(chunk, 'x', got);
				if (x)
					where = at + (uint64_t)(x - chunk);
				at += got;
				if (!got)
					break;
			}
			CHECK_INT(at, 1 << 20);
			CHECK_INT(where, 500000);
		}
		CHECK_INT(n, 3);
	}
}

TEST(json_memory_of_a_region_goes_at_once)
{
	json_t *v = NULL;

	json_region_begin();
	for (int round = 0; round < 3; round++) {
		auto_buf struct buf text = BUF(4 << 20), again = BUF(4 << 20);

		buf_add(&text, "[0", 2);
		for (int i = 1; i < 100000; i++) /* more than one block */
			buf_fmt(&text, ",%d", i);
		buf_add(&text, "]", 1);
		CHECK_OK(json_parse(sv_of(buf_text(&text)), "x", 4 << 20, &v));
		json_print(v, &again);
		CHECK(again.n == text.n && memcmp(again.data, text.data, text.n) == 0);
		json_decref(v);
		json_region_drop();
	}
}
