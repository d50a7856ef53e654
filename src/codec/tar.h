/*
 * tar.h - tar archives: reading v7, ustar, GNU and pax; writing pax, byte for byte the same for the same entries.
 *
 * Reader: names are handed out as they stand (without a leading "./" or "/" and trailing "/"); whether they escape is for
 * the extractor (sys/fs) to refuse. Format: POSIX.1-2017 pax, GNU tar manual "Standard".
 * Layer: codec.  Threads: one per stream.
 * Limits: name and link 4095 bytes, 1 MiB of pax records per entry, 1024 xattrs. Times beyond those of int64_t (1677, 2262) are its last.
 * Errors: ERR_CORRUPT (checksum, truncation, bad number) naming the offset; ERR_LIMIT.
 */
#pragma once
#include "base/err.h"
#include "codec/zip.h"
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct tar_xattr {
	const char *name; /* "security.capability" */
	const char *value;
	size_t n;
};
struct tar_entry {
	const char *name;	/* borrowed until the next tar_next */
	const char *link;	/* target of hard and symbolic links, else "" */
	char type;		/* '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' directory, '6' fifo */
	mode_t mode;		/* permission bits only (07777) */
	uid_t uid;
	gid_t gid;
	uint64_t size;		/* bytes of content (type '0') */
	uint64_t data_at;	/* where in the archive these bytes stand, in one piece; not of sparse files. A multiple of 512 */
	bool is_sparse;
	int64_t mtime_ns;
	unsigned dev_major, dev_minor;
	const struct tar_xattr *xattrs; /* SCHILY.xattr.* */
	size_t n_xattrs;
};

struct tar_reader;
FALLIBLE tar_reader_new(struct zip_source source, struct tar_reader **out_reader); /* plain tar; unzip before */
void tar_may_be_empty(struct tar_reader *r); /* no byte at all is an archive without entries: some tools make such layers */
/* The next entry, skipping what was not read of the last; *out_entry NULL at the end. */
FALLIBLE tar_next(struct tar_reader *r, const struct tar_entry **out_entry);
/* Content of the current entry (holes of sparse files filled with zeros); *out_n == 0 at its end. */
FALLIBLE tar_read(struct tar_reader *r, void *p, size_t n, size_t *out_n);
/* Passes over the hole that the current entry has at this place: its bytes, 0 when there is content, or the end. */
uint64_t tar_pass_hole(struct tar_reader *r);
void tar_reader_free(struct tar_reader *r);

struct tar_writer;
FALLIBLE tar_writer_new(struct zip_sink sink, struct tar_writer **out_writer);
/* Begins an entry; a file's content (exactly size bytes) follows by tar_write. */
FALLIBLE tar_add(struct tar_writer *w, const struct tar_entry *e);
FALLIBLE tar_write(struct tar_writer *w, const void *p, size_t n);
FALLIBLE tar_finish(struct tar_writer *w); /* two zero blocks; ERR_INTERNAL when content is missing */
void tar_writer_free(struct tar_writer *w);

static inline void own_tar_reader(struct tar_reader **slot)
{
	tar_reader_free(*slot);
}
static inline void own_tar_writer(struct tar_writer **slot)
{
	tar_writer_free(*slot);
}
#define auto_tar_reader __attribute__((cleanup(own_tar_reader)))
#define auto_tar_writer __attribute__((cleanup(own_tar_writer)))
