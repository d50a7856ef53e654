/*
 * compress.h - layers made here are plain tars; over the network and in registries they are gzip or zstd.
 *
 * The same layer gives the same bytes on every machine (zlib, zstd, one thread, the same version and level), so a registry recognises it.
 * Layer: registry.  Threads: any.  Blocks: about 15 s per GiB.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "codec/zip.h"
#include "content/store.h"
#include "image/manifest.h"
#include "registry/report.h"
#include <stdbool.h>

struct compress_how {
	enum zip_kind kind; /* ZIP_GZIP, ZIP_ZSTD */
	int level;          /* 0: 4 for gzip, 3 for zstd */
};
/* "gzip" or "zstd" (NULL: gzip), level 0 (the usual) to 9 or 19. ERR_INVALID. */
FALLIBLE compress_parse(const char *format, uint64_t level, struct compress_how *out_how);
/* Whether a layer of this media type is an uncompressed tar that has a compressed form. */
bool compress_applies(const char *media_type);
/*
 * The compressed form of plain in the store, described by out_layer (media_type owned). When that is no smaller: a
 * copy of plain. What became of it is noted for compress_known. ERR_CANCELLED when the report's reader is gone.
 */
FALLIBLE compress_layer(struct store *store, struct report *report, struct compress_how how,
			const struct descriptor *plain, struct descriptor *out_layer);
/* The same of a plain layer that source gives, and that need not be in the store; ERR_CORRUPT when it is not plain. */
FALLIBLE compress_stream(struct store *store, struct report *report, struct compress_how how,
			 const struct descriptor *plain, struct zip_source source,
			 struct descriptor *out_layer);
/* What compress_layer has given for the layer before, without doing it (media_type owned); false: not known. */
bool compress_known(const struct store *store, struct compress_how how, const struct descriptor *plain,
		    struct descriptor *out_layer);
/* The manifest doc with its n layers, plain[i], replaced by layers[i]; compact. Everything else stays. */
void compress_rewrite(const json_t *doc, const struct descriptor *plain, const struct descriptor *layers,
		      size_t n, struct buf *out);
