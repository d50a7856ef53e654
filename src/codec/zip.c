/*
 * zip.c - inflate by ISA-L (igzip: streaming, twice as fast as zlib), zstd by libzstd, xz by liblzma, bzip2 by libbz2; deflate by zlib, whose
 * output for a given level is stable across CPUs (ISA-L's depends on the vector unit), which reproducible
 * layers need.
 */
#include "codec/zip.h"
#include "base/mem.h"
#include "base/own.h"
#include <bzlib.h>
#include <isa-l/igzip_lib.h>
#include <lzma.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

enum { CHUNK = 128 << 10 };

static struct err *fd_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	for (;;) {
		ssize_t r = read(*(const int *)ctx, p, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return FAIL_OS(errno, "read");
		*out_n = (size_t)r;
		return NULL;
	}
}

static struct err *fd_write(void *ctx, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		ssize_t r = write(*(const int *)ctx, at, n);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return FAIL_OS(errno, "write");
		at += r;
		n -= (size_t)r;
	}
	return NULL;
}

struct zip_source zip_source_fd(const int *fd)
{
	return (struct zip_source){ fd_read, (void *)(uintptr_t)fd };
}

/* Not beyond the end, so that a file that was cut short is seen. */
static struct err *fd_skip(void *ctx, uint64_t n, uint64_t *out_n)
{
	int fd = *(const int *)ctx;
	off_t at = lseek(fd, 0, SEEK_CUR);
	struct stat st;

	if (at < 0 || fstat(fd, &st) < 0)
		return FAIL_OS(errno, "skip");
	*out_n = st.st_size <= at ? 0 : (uint64_t)(st.st_size - at) < n ? (uint64_t)(st.st_size - at) : n;
	return lseek(fd, (off_t)*out_n, SEEK_CUR) < 0 ? FAIL_OS(errno, "skip") : NULL;
}

struct zip_source zip_source_file(const int *fd)
{
	return (struct zip_source){ fd_read, (void *)(uintptr_t)fd, fd_skip };
}

struct err *zip_skip(const struct zip_source *source, uint64_t n, uint64_t *out_n)
{
	char junk[16384];

	*out_n = 0;
	while (*out_n < n) {
		uint64_t left = n - *out_n, step = 0;
		size_t got = 0;

		if (source->skip)
			TRY(source->skip(source->ctx, left, &step));
		else
			TRY(source->read(source->ctx, junk, left < sizeof junk ? (size_t)left : sizeof junk,
					 &got));
		if (step + got == 0)
			break;
		*out_n += step + got;
	}
	return NULL;
}

struct zip_sink zip_sink_fd(const int *fd)
{
	return (struct zip_sink){ fd_write, (void *)(uintptr_t)fd };
}

enum zip_kind zip_sniff(const void *p, size_t n)
{
	if (n >= 3 && memcmp(p, "\x1f\x8b\x08", 3) == 0)
		return ZIP_GZIP;
	if (n >= 4 && memcmp(p, "\x28\xb5\x2f\xfd", 4) == 0)
		return ZIP_ZSTD;
	/* a frame to be skipped, as pzstd writes in front of each (RFC 8878 3.1.2) */
	if (n >= 4 && (((const unsigned char *)p)[0] & 0xf0) == 0x50 && memcmp((const char *)p + 1, "\x2a\x4d\x18", 3) == 0)
		return ZIP_ZSTD;
	return ZIP_NONE;
}

enum zip_kind zip_sniff_any(const void *p, size_t n)
{
	if (n >= 6 && memcmp(p, "\xfd" "7zXZ\0", 6) == 0)
		return ZIP_XZ;
	if (n >= 4 && memcmp(p, "BZh", 3) == 0 && ((const char *)p)[3] >= '1' && ((const char *)p)[3] <= '9')
		return ZIP_BZIP2;
	return zip_sniff(p, n);
}

#define XZ_MEMORY  (UINT64_C(256) << 20) /* xz -9 wants 65 MiB to unpack */
#define BOMB_BYTES (UINT64_C(1) << 30)
#define BOMB_RATIO 1100u

struct unzip {
	struct zip_source source;
	enum zip_kind kind;
	unsigned char *in;
	size_t in_at, in_n;
	uint64_t in_bytes, out_bytes; /* in all */
	bool source_ended, member_open, any_member, is_proven;
	struct inflate_state *gzip;
	ZSTD_DCtx *zstd;
	lzma_stream xz;
	bz_stream bzip2;
};

static struct err *fill(struct unzip *u)
{
	if (u->in_at < u->in_n || u->source_ended)
		return NULL;
	u->in_at = u->in_n = 0;
	TRY(u->source.read(u->source.ctx, u->in, CHUNK, &u->in_n));
	u->source_ended = u->in_n == 0;
	u->in_bytes += u->in_n;
	return NULL;
}

void unzip_close(struct unzip *u)
{
	if (!u)
		return;
	free(u->gzip);
	(void)ZSTD_freeDCtx(u->zstd);
	lzma_end(&u->xz);
	if (u->kind == ZIP_BZIP2 && u->member_open)
		(void)BZ2_bzDecompressEnd(&u->bzip2);
	free(u->in);
	free(u);
}

static struct err *open_kind(struct zip_source source, enum zip_kind (*sniff)(const void *p, size_t n), struct unzip **out_unzip)
{
	auto_unzip struct unzip *u = xnew(struct unzip);

	u->source = source;
	u->in = xmalloc(CHUNK);
	u->xz = (lzma_stream)LZMA_STREAM_INIT;
	while (u->in_n < 6 && !u->source_ended) {
		size_t n = 0;

		TRY(source.read(source.ctx, u->in + u->in_n, CHUNK - u->in_n, &n));
		u->source_ended = n == 0;
		u->in_n += n;
		u->in_bytes += n;
	}
	u->kind = sniff(u->in, u->in_n);
	if (u->kind == ZIP_GZIP)
		u->gzip = xnew(struct inflate_state);
	else if (u->kind == ZIP_ZSTD)
		u->zstd = ZSTD_createDCtx();
	else if (u->kind == ZIP_XZ && lzma_stream_decoder(&u->xz, XZ_MEMORY, LZMA_CONCATENATED) != LZMA_OK)
		return FAIL(ERR_LIMIT, "xz: out of memory");
	*out_unzip = TAKE(u);
	return NULL;
}

struct err *unzip_open(struct zip_source source, struct unzip **out_unzip)
{
	return open_kind(source, zip_sniff, out_unzip);
}

struct err *unzip_open_any(struct zip_source source, struct unzip **out_unzip)
{
	return open_kind(source, zip_sniff_any, out_unzip);
}

enum zip_kind unzip_kind(const struct unzip *u)
{
	return u->kind;
}

static void gzip_begin(struct unzip *u)
{
	isal_inflate_init(u->gzip);
	u->gzip->crc_flag = ISAL_GZIP;
	u->member_open = true;
}

/* Zeros behind a stream, as tapes and disks pad with, are not of it (as gzip has it). */
static bool pass_zeros(struct unzip *u)
{
	while (u->in_at < u->in_n && u->in[u->in_at] == 0)
		u->in_at++;
	return u->in_at == u->in_n;
}

static struct err *gzip_read(struct unzip *u, void *p, size_t n, size_t *out_n)
{
	struct inflate_state *s = u->gzip;
	int r;

	for (;;) {
		TRY(fill(u));
		if (u->source_ended && u->in_at == u->in_n) {
			if (u->member_open)
				return FAIL(ERR_CORRUPT, "gzip stream is truncated");
			*out_n = 0;
			return NULL;
		}
		if (!u->member_open) {
			if (u->any_member && pass_zeros(u))
				continue;
			if (u->any_member && u->in[u->in_at] != 0x1f)
				return FAIL(ERR_CORRUPT, "garbage after the gzip stream");
			gzip_begin(u);
		}
		s->next_in = u->in + u->in_at;
		s->avail_in = (uint32_t)(u->in_n - u->in_at);
		s->next_out = p;
		s->avail_out = (uint32_t)(n < 1u << 30 ? n : 1u << 30);
		r = isal_inflate(s);
		u->in_at = u->in_n - s->avail_in;
		if (r != ISAL_DECOMP_OK)
			return FAIL(ERR_CORRUPT, "gzip stream is damaged (igzip error %d)", r);
		if (s->block_state == ISAL_BLOCK_FINISH) {
			u->member_open = false;
			u->any_member = true;
		}
		*out_n = n - s->avail_out;
		if (*out_n)
			return NULL;
	}
}

static struct err *zstd_read(struct unzip *u, void *p, size_t n, size_t *out_n)
{
	for (;;) {
		ZSTD_outBuffer out = { p, n, 0 };
		ZSTD_inBuffer in;
		size_t r;

		TRY(fill(u));
		if (u->source_ended && u->in_at == u->in_n && !u->member_open) {
			*out_n = 0;
			return NULL;
		}
		in = (ZSTD_inBuffer){ u->in, u->in_n, u->in_at };
		r = ZSTD_decompressStream(u->zstd, &out, &in);
		if (ZSTD_isError(r))
			return FAIL(ERR_CORRUPT, "zstd stream is damaged: %s", ZSTD_getErrorName(r));
		if (!out.pos && in.pos == u->in_at && u->source_ended)
			return FAIL(ERR_CORRUPT, "zstd stream is truncated");
		u->in_at = in.pos;
		u->member_open = r != 0;
		*out_n = out.pos;
		if (out.pos)
			return NULL;
	}
}

static struct err *xz_read(struct unzip *u, void *p, size_t n, size_t *out_n)
{
	lzma_ret r = LZMA_OK;

	for (*out_n = 0; !*out_n && r != LZMA_STREAM_END;) {
		TRY(fill(u));
		u->xz.next_in = u->in + u->in_at;
		u->xz.avail_in = u->in_n - u->in_at;
		u->xz.next_out = p;
		u->xz.avail_out = n;
		r = lzma_code(&u->xz, u->source_ended ? LZMA_FINISH : LZMA_RUN);
		u->in_at = u->in_n - u->xz.avail_in;
		*out_n = n - u->xz.avail_out;
		if (r == LZMA_BUF_ERROR)
			return FAIL(ERR_CORRUPT, "xz stream is truncated");
		if (r == LZMA_MEMLIMIT_ERROR)
			return FAIL(ERR_LIMIT, "the xz stream needs more than %llu MiB of memory to unpack",
				    (unsigned long long)(XZ_MEMORY >> 20));
		if (r != LZMA_OK && r != LZMA_STREAM_END)
			return FAIL(ERR_CORRUPT, "xz stream is damaged (liblzma error %d)", (int)r);
	}
	return NULL;
}

static struct err *bzip2_read(struct unzip *u, void *p, size_t n, size_t *out_n)
{
	for (*out_n = 0; !*out_n;) {
		int r;

		TRY(fill(u));
		if (!u->member_open && u->in_at == u->in_n)
			return NULL;
		if (!u->member_open && BZ2_bzDecompressInit(&u->bzip2, 0, 0) != BZ_OK)
			return FAIL(ERR_LIMIT, "bzip2: out of memory");
		u->member_open = true;
		u->bzip2.next_in = (char *)u->in + u->in_at;
		u->bzip2.avail_in = (unsigned)(u->in_n - u->in_at);
		u->bzip2.next_out = p;
		u->bzip2.avail_out = (unsigned)(n < 1u << 30 ? n : 1u << 30);
		*out_n = u->bzip2.avail_out;
		r = BZ2_bzDecompress(&u->bzip2);
		u->in_at = u->in_n - u->bzip2.avail_in;
		*out_n -= u->bzip2.avail_out;
		if (r != BZ_OK && r != BZ_STREAM_END)
			return FAIL(ERR_CORRUPT, "bzip2 stream is damaged (libbz2 error %d)", r);
		if (r == BZ_OK && !*out_n && u->source_ended)
			return FAIL(ERR_CORRUPT, "bzip2 stream is truncated");
		if (r == BZ_STREAM_END) { /* another may follow */
			(void)BZ2_bzDecompressEnd(&u->bzip2);
			u->member_open = false;
		}
	}
	return NULL;
}

static struct err *kind_read(struct unzip *u, void *p, size_t n, size_t *out_n)
{
	switch (u->kind) {
	case ZIP_GZIP:
		return gzip_read(u, p, n, out_n);
	case ZIP_ZSTD:
		return zstd_read(u, p, n, out_n);
	case ZIP_XZ:
		return xz_read(u, p, n, out_n);
	case ZIP_BZIP2:
		return bzip2_read(u, p, n, out_n);
	case ZIP_NONE:
		break;
	}
	return FAIL(ERR_INTERNAL, "unzip: kind %d", (int)u->kind);
}

void unzip_is_proven(struct unzip *u)
{
	u->is_proven = true;
}

struct err *unzip_read(struct unzip *u, void *p, size_t n, size_t *out_n)
{
	if (u->kind != ZIP_NONE) {
		TRY(kind_read(u, p, n, out_n));
		u->out_bytes += *out_n;
		if (!u->is_proven && u->out_bytes > BOMB_BYTES && (u->out_bytes - BOMB_BYTES) / BOMB_RATIO > u->in_bytes)
			return FAIL(ERR_LIMIT,
				    "the stream unpacks to more than %u times its size: it looks like a bomb",
				    BOMB_RATIO);
		return NULL;
	}
	TRY(fill(u));
	*out_n = u->in_n - u->in_at < n ? u->in_n - u->in_at : n;
	memcpy(p, u->in + u->in_at, *out_n);
	u->in_at += *out_n;
	return NULL;
}

struct zip {
	struct zip_sink sink;
	enum zip_kind kind;
	z_stream gzip;
	ZSTD_CCtx *zstd;
	unsigned char *out;
};

void zip_close(struct zip *z)
{
	if (!z)
		return;
	if (z->kind == ZIP_GZIP)
		(void)deflateEnd(&z->gzip);
	(void)ZSTD_freeCCtx(z->zstd);
	free(z->out);
	free(z);
}

struct err *zip_open(enum zip_kind kind, int level, struct zip_sink sink, struct zip **out_zip)
{
	auto_zip struct zip *z = xnew(struct zip);

	z->sink = sink;
	z->out = xmalloc(CHUNK);
	if (kind == ZIP_GZIP) {
		/* 15 + 16: gzip framing; zlib writes no name and time 0 */
		if (deflateInit2(&z->gzip, level ? level : Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8,
				 Z_DEFAULT_STRATEGY) != Z_OK)
			return FAIL(ERR_INVALID, "gzip level %d", level);
	} else if (kind == ZIP_ZSTD) {
		z->zstd = ZSTD_createCCtx();
		if (!z->zstd ||
		    ZSTD_isError(ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_compressionLevel, level ? level : 3)))
			return FAIL(ERR_INVALID, "zstd level %d", level);
		(void)ZSTD_CCtx_setParameter(z->zstd, ZSTD_c_checksumFlag, 1);
	}
	z->kind = kind;
	*out_zip = TAKE(z);
	return NULL;
}

static struct err *gzip_push(struct zip *z, const void *p, size_t n, int flush)
{
	z->gzip.next_in = (unsigned char *)(uintptr_t)p;
	z->gzip.avail_in = (uInt)n;
	do {
		z->gzip.next_out = z->out;
		z->gzip.avail_out = CHUNK;
		if (deflate(&z->gzip, flush) == Z_STREAM_ERROR)
			return FAIL(ERR_INTERNAL, "deflate: stream error");
		TRY(z->sink.write(z->sink.ctx, z->out, CHUNK - z->gzip.avail_out));
	} while (z->gzip.avail_out == 0);
	return NULL;
}

static struct err *zstd_push(struct zip *z, const void *p, size_t n, ZSTD_EndDirective mode)
{
	ZSTD_inBuffer in = { p, n, 0 };
	size_t left;

	do {
		ZSTD_outBuffer out = { z->out, CHUNK, 0 };

		left = ZSTD_compressStream2(z->zstd, &out, &in, mode);
		if (ZSTD_isError(left))
			return FAIL(ERR_INTERNAL, "zstd: %s", ZSTD_getErrorName(left));
		TRY(z->sink.write(z->sink.ctx, z->out, out.pos));
	} while (mode == ZSTD_e_end ? left != 0 : in.pos < in.size);
	return NULL;
}

struct err *zip_write(struct zip *z, const void *p, size_t n)
{
	const char *at = p;

	while (n) {
		size_t step = n < 1u << 30 ? n : 1u << 30;

		if (z->kind == ZIP_GZIP)
			TRY(gzip_push(z, at, step, Z_NO_FLUSH));
		else if (z->kind == ZIP_ZSTD)
			TRY(zstd_push(z, at, step, ZSTD_e_continue));
		else
			TRY(z->sink.write(z->sink.ctx, at, step));
		at += step;
		n -= step;
	}
	return NULL;
}

struct err *zip_finish(struct zip *z)
{
	if (z->kind == ZIP_GZIP)
		return gzip_push(z, NULL, 0, Z_FINISH);
	if (z->kind == ZIP_ZSTD)
		return zstd_push(z, NULL, 0, ZSTD_e_end);
	return NULL;
}

uint32_t zip_crc32(uint32_t sum, const void *p, size_t n)
{
	return n ? (uint32_t)crc32_z(sum, p, n) : sum;
}
