/*
 * manifest.h - manifests and indexes of OCI and Docker schema 2, as structs after strict checks; writing OCI manifests.
 *
 * Specification: image-spec manifest.md, image-index.md, descriptor.md; Docker image manifest v2, schema 2.
 * Layer: image.  Pure.  Limits: 4 MiB, 1024 descriptors.  Errors: ERR_INVALID naming what is wrong; ERR_UNSUPPORTED schema 1.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "image/platform.h"
#include <stdbool.h>
#include <stdint.h>

#define MANIFEST_MAX (4u << 20)

#define MEDIA_MANIFEST	    "application/vnd.oci.image.manifest.v1+json"
#define MEDIA_INDEX	    "application/vnd.oci.image.index.v1+json"
#define MEDIA_CONFIG	    "application/vnd.oci.image.config.v1+json"
#define MEDIA_LAYER	    "application/vnd.oci.image.layer.v1.tar"
#define MEDIA_DOCKER	    "application/vnd.docker.distribution.manifest.v2+json"
#define MEDIA_DOCKER_LIST   "application/vnd.docker.distribution.manifest.list.v2+json"
#define MEDIA_DOCKER_CONFIG "application/vnd.docker.container.image.v1+json"

struct descriptor {
	char *media_type; /* owned */
	char digest[DIGEST_MAX];
	uint64_t size;
};
struct manifest {
	bool is_index;
	char *media_type;	   /* owned; what the document says, else what its shape says */
	struct descriptor config;  /* of a manifest */
	struct descriptor *parts;  /* layers of a manifest, manifests of an index; owned */
	size_t n;
	json_t *doc;		   /* owned */
};
/* body: the exact bytes. content_type: what the transport said, or NULL (a document without mediaType takes it). */
FALLIBLE manifest_parse(struct sv body, const char *content_type, struct manifest *out_manifest);
void manifest_fini(struct manifest *m);
/* The part of an index for a platform: the one that fits best (platform_rank), of equals the first. ERR_NOT_FOUND names the platform and what is offered. */
FALLIBLE manifest_choose(const struct manifest *index, const struct platform *want, const struct descriptor **out_part);
/* Whether the layer is a tar, perhaps compressed; else it is an artifact's part and nothing to extract. */
bool manifest_is_layer(const char *media_type);
/* An OCI manifest of config and layers, compact; owned by out. */
void manifest_write(const struct descriptor *config, const struct descriptor *layers, size_t n, struct buf *out);
