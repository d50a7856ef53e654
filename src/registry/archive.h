/*
 * archive.h - a tar archive as files by name: an index of where each stands; bytes are read where they are.
 *
 * Nothing is extracted, so names can be anything; links lead to other files of the archive only. A compressed
 * archive, or one from a pipe, is unpacked into an unnamed file below ROOT/tmp first. SECURITY: a name that
 * stands there twice is refused when it is asked for: of two readers one might take the first, one the last.
 * Layer: registry (internal).  Threads: read only after archive_open.
 * Limits: 65,536 files; 8 links one after the other; unpacked as zip.h.
 */
#pragma once
#include "base/err.h"
#include "codec/zip.h"
#include <stdint.h>

struct archive;
struct archive_file {
	const struct archive *archive; /* borrowed */
	uint64_t at, size;             /* bytes */
	uint64_t done;                 /* how many of them were read */
};
/* root_fd: ROOT. ERR_NOT_FOUND, ERR_CORRUPT no tar, ERR_LIMIT; the path is named. */
FALLIBLE archive_open(int root_fd, const char *path, struct archive **out_archive);
void archive_close(struct archive *a);
/* ERR_NOT_FOUND the archive has no such file; ERR_INVALID it has two, or one with holes. */
FALLIBLE archive_find(const struct archive *a, const char *name, struct archive_file *out_file);
/* A whole small file, owned, NUL-terminated. ERR_LIMIT. */
FALLIBLE archive_text(const struct archive *a, const char *name, size_t max_bytes, char **out_body,
		      size_t *out_n);
struct zip_source archive_source(struct archive_file *file); /* borrowed */

static inline void own_archive(struct archive **slot)
{
	archive_close(*slot);
}
#define auto_archive __attribute__((cleanup(own_archive)))
