/*
 * format.h - a manifest or an index of one family (OCI image-spec, Docker schema 2) as one of the other: the media
 * types change, blobs do not; so digests of documents do.
 *
 * Source: image-spec media-types.md "Compatibility Matrix". Layer: registry.  Pure.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "image/manifest.h"
#include <stdbool.h>

enum format { FORMAT_AS_IS, FORMAT_OCI, FORMAT_DOCKER };
/* "oci", "v2s2", NULL: as it is. ERR_UNSUPPORTED v2s1; ERR_INVALID. */
FALLIBLE format_parse(const char *text, enum format *out_format);
/*
 * Changes doc, a copy of m->doc, whose parts may already be others than m's; *out_media_type is the document's then
 * (borrowed, static). ERR_UNSUPPORTED what has no place in that family: zstd layers, artifacts, a subject in docker's.
 */
FALLIBLE format_apply(enum format format, const struct manifest *m, json_t *doc, const char **out_media_type);
