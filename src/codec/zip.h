/*
 * zip.h - gzip and zstd as streams, xz and bzip2 to read; the kind of a compressed stream is read from its first bytes, never from a name.
 *
 * Layer: codec.  Threads: one per stream.  Blocks: as the source or sink does.
 * Limits: 1 GiB and 1,100 times the bytes that went in, more than gzip can: ERR_LIMIT, a bomb. Zeros in zstd are packed 30,000 times
 * smaller: what is known by its digest to be what was asked for is read without (unzip_is_proven).
 * Errors: ERR_CORRUPT for damaged or truncated input; what the source or sink said, unchanged.
 */
#pragma once
#include "base/err.h"
#include <stddef.h>
#include <stdint.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * A source of bytes: fills up to n bytes, *out_n == 0 at the end. A sink takes all n bytes. skip may be NULL; else it passes over up
 * to n bytes without copying them, as read does. zip_skip asks it and passes over all n; *out_n is less only at the end.
 */
struct zip_source {
	struct err *(*read)(void *ctx, void *p, size_t n, size_t *out_n);
	void *ctx;
	struct err *(*skip)(void *ctx, uint64_t n, uint64_t *out_n);
};
FALLIBLE zip_skip(const struct zip_source *source, uint64_t n, uint64_t *out_n);
struct zip_sink {
	struct err *(*write)(void *ctx, const void *p, size_t n);
	void *ctx;
};
struct zip_source zip_source_fd(const int *fd); /* reads at the file position; fd borrowed, must outlive the source */
struct zip_source zip_source_file(const int *fd); /* the same of a regular file, which can be skipped in */
struct zip_sink zip_sink_fd(const int *fd);

enum zip_kind { ZIP_NONE, ZIP_GZIP, ZIP_ZSTD, ZIP_XZ, ZIP_BZIP2 };
/* The kind by magic bytes; n may be short: then ZIP_NONE. _any also knows ZIP_XZ and ZIP_BZIP2. */
enum zip_kind zip_sniff(const void *p, size_t n);
enum zip_kind zip_sniff_any(const void *p, size_t n);

struct unzip; /* a decompressing reader; ZIP_NONE passes through; concatenated members are read on */
FALLIBLE unzip_open(struct zip_source source, struct unzip **out_unzip); /* sniffs */
/* Also xz and bzip2: for archives that somebody gives, not for what registries say are layers, which come in neither. */
FALLIBLE unzip_open_any(struct zip_source source, struct unzip **out_unzip);
enum zip_kind unzip_kind(const struct unzip *u);
FALLIBLE unzip_read(struct unzip *u, void *p, size_t n, size_t *out_n); /* *out_n == 0: the end, checksum verified */
void unzip_is_proven(struct unzip *u); /* no limit to the ratio: who keeps the bytes watches the room for them */
void unzip_close(struct unzip *u);

struct zip; /* a compressing writer; output is deterministic: no name, no time */
FALLIBLE zip_open(enum zip_kind kind, int level, struct zip_sink sink, struct zip **out_zip); /* level 0: default */
FALLIBLE zip_write(struct zip *z, const void *p, size_t n);
FALLIBLE zip_finish(struct zip *z); /* flushes; afterwards only zip_close */
void zip_close(struct zip *z);

/* The CRC-32 of gzip; sum: of what came before, at first 0. */
uint32_t zip_crc32(uint32_t sum, const void *p, size_t n);

static inline void own_unzip(struct unzip **slot)
{
	unzip_close(*slot);
}
static inline void own_zip(struct zip **slot)
{
	zip_close(*slot);
}
#define auto_unzip __attribute__((cleanup(own_unzip)))
#define auto_zip   __attribute__((cleanup(own_zip)))
