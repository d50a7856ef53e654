/*
 * compress.h - layers made here are plain tars; over the network and in registries they are gzip, as other
 * tools keep them.
 *
 * The same layer gives the same bytes on every machine (zlib, fixed level), so a registry recognises it.
 * Layer: registry.  Threads: any.  Blocks: about 15 s per GiB.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "content/store.h"
#include "image/manifest.h"
#include "registry/report.h"
#include <stdbool.h>

/* Whether a layer of this media type is an uncompressed tar that has a gzip form. */
bool compress_applies(const char *media_type);
/*
 * The gzip form of plain in the store, described by out_layer (media_type owned). When that is no smaller: a
 * copy of plain. ERR_CANCELLED when the report's reader is gone.
 */
FALLIBLE compress_layer(struct store *store, struct report *report, const struct descriptor *plain,
			struct descriptor *out_layer);
/* The manifest doc with its n layers, plain[i], replaced by layers[i]; compact. Everything else stays. */
void compress_rewrite(const json_t *doc, const struct descriptor *plain, const struct descriptor *layers,
		      size_t n, struct buf *out);
