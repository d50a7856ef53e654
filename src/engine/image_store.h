/*
 * image_store.h - what the engine's image files share: names in the database, documents in the store.
 *
 * DB_IMAGE: full reference -> {"digest": of the manifest or index the name resolved to, "manifest": of our platform's manifest,
 * "media_type": of that, "created_ns", "no_digest"}. DB_BLOB_INFO: compressed layer digest -> {"diff_id"}.
 * Layer: engine (internal).
 */
#pragma once
#include "base/err.h"
#include "base/vec.h"
#include "codec/json.h"
#include "engine/image.h"
#include "engine/usage.h"
#include "image/config.h"
#include "image/manifest.h"

struct db_txn;
struct map;

struct image_name {
	char *ref; /* full, or "<none>@<manifest>"; owned */
	char digest[DIGEST_MAX], manifest[DIGEST_MAX];
	char media_type[96]; /* of the manifest */
	int64_t created_ns;  /* of the name */
	bool has_no_digest;  /* of a tag: repository@digest was removed, and does not find it */
};
struct image_names {
	VEC(struct image_name) v;
};
FALLIBLE image_names_load(struct engine *e, struct image_names *out_names);
void image_names_fini(struct image_names *n);
/* How many real names an image has. */
size_t image_names_of(const struct image_names *names, const char *manifest);
/* When it got the latest of them; 0: it has none. */
int64_t image_named_ns(const struct image_names *names, const char *manifest);
/* An image's id, the digest of its configuration, which may come in several compressions. Of a damaged one: its manifest's. */
void image_config_of(struct engine *e, const char *manifest, char out_id[DIGEST_MAX]);
/* The record that an image without a name has. */
bool image_name_is_none(const char *ref);
#define IMAGE_NONE_MAX (sizeof "<none>@" + DIGEST_MAX)
/* One by its full reference; absent: *out_found false. out_name->ref owned. */
FALLIBLE image_name_get(struct engine *e, const char *ref, struct image_name *out_name, bool *out_found);

/* What index.json must say; owned. image_index_write makes it say so. */
FALLIBLE image_index_text(struct engine *e, char **out_text);
FALLIBLE image_index_write(struct engine *e);
FALLIBLE image_index_mend(struct engine *e); /* writes it only when it does not say so */
#define IMAGE_INDEX_DIRTY "index-dirty"	     /* in RUN: names were changed, and perhaps not the index */
FALLIBLE image_index_reconcile(struct engine *e, bool after_boot); /* mends it where there is such a mark, or after a boot */
/* Fetches what is not in the store of an image, "repository@digest"; names nothing. out_manifest: of our platform. */
FALLIBLE image_refetch(struct engine *e, const char *full, const struct engine_transfer_opts *o, char out_manifest[DIGEST_MAX]);

/* The documents of one image. */
struct image_docs {
	char digest[DIGEST_MAX]; /* of the manifest */
	struct manifest manifest;
	json_t *config;
	char **diff_ids;
};
/* digest: of a manifest in the store. ERR_NOT_FOUND, ERR_CORRUPT. */
FALLIBLE image_docs_load(struct engine *e, const char *digest, struct image_docs *out_docs);
void image_docs_fini(struct image_docs *d);
/* Whether err tells that an image's documents are not what they should be, rather than that they could not be read. */
bool image_is_damage(const struct err *err);
/*
 * Who is about to use an image holds its manifest's blob locked shared (flock: the kernel lets go when it dies): prune, which takes it
 * alone or leaves the image, cannot come between, and a sweep keeps all of it. Owned fd; -1: the blob is not there, damage that whoever
 * reads it tells.
 */
FALLIBLE image_lease(struct engine *e, const char *manifest, bool exclusive, int *out_fd); /* exclusive: ERR_CONFLICT, not waiting */
/* The manifest (of our platform) that text names: reference, id, id prefix, digest. out_ref: the full reference it was found
 * by (owned) or NULL. ERR_NOT_FOUND "No such image: …". */
FALLIBLE image_find(struct engine *e, const char *text, char out_manifest[DIGEST_MAX], char **out_ref);
/* The same, held by image_lease; found once more then, so that it was not too late. */
FALLIBLE image_find_leased(struct engine *e, const char *text, char out_manifest[DIGEST_MAX], char **out_ref, int *out_lease);
/* Under a lease of the engine: all of the image belongs to it. */
FALLIBLE image_hold(struct engine *e, const char *manifest);
/*
 * The record of a name, as it is, else of what a short name stands for, with all of the image held by the engine's lease: looked up
 * once more then, so no removal came between. Absent: *out_found false. out_name->ref owned.
 */
FALLIBLE image_name_held(struct engine *e, const char *text, struct image_name *out_name, bool *out_found);
/* That a layer blob holds the layer diff_id; nothing for a plain tar, which is its own name. */
FALLIBLE image_blob_remember(struct engine *e, const char *blob, const char *diff_id);
/* What a layer blob is known to hold; "" when nothing is known. */
FALLIBLE image_blob_diff_id(struct engine *e, const char *blob, char out_diff_id[DIGEST_MAX]);
/* Whether the layer of a blob is applied, as far as is known. */
FALLIBLE image_blob_applied(struct engine *e, const char *blob, bool *out_applied);
/*
 * Applies one layer from its blob, unless it is there. Who else does so is waited for, or with is_ahead ERR_CONFLICT.
 * ERR_UNSUPPORTED it is no file system layer; ERR_CORRUPT it is not that diff id.
 */
FALLIBLE image_apply_layer(struct engine *e, const struct descriptor *blob, const char *diff_id, bool is_ahead);
/* Before an image gets a name: every layer blob is there and holds what the configuration says, also where the layer was
 * applied before from another blob. ERR_CORRUPT. */
FALLIBLE image_check_layers(struct engine *e, const struct image_docs *d);
/* Applies every layer of an image that is not there yet. */
FALLIBLE image_apply(struct engine *e, const struct image_docs *d);
/*
 * A second copy of an image's manifest and configuration, and of what its name resolved to, in the database (DB_DOCUMENT: digest -> {"text"}); of what cannot be read,
 * or is longer than 64 KiB, none. load: before the transaction that keeps them (it reads blobs, which a lease then holds).
 * keep_all: of all names. A sweep takes those that it does not reach.
 */
struct image_copy {
	char digest[DIGEST_MAX];
	char *record; /* owned */
};
struct image_copies {
	VEC(struct image_copy) v;
};
void image_copies_load(struct engine *e, const char *manifest, struct image_copies *c); /* adds to c */
void image_copies_fini(struct image_copies *c);
FALLIBLE image_copies_keep(struct db_txn *txn, const struct image_copies *c);
FALLIBLE image_copies_keep_all(struct engine *e);
bool image_document_is(const char *digest, struct sv value); /* whether the record holds what its key says */
/* The document of the store, else its copy; owned. Errors as of store_blob_read. */
FALLIBLE image_document_read(struct engine *e, const char *digest, char **out_body, size_t *out_n);
FALLIBLE image_document_restore(struct engine *e, const char *digest); /* into the store, from its copy. ERR_NOT_FOUND */
/* Gives ref (full; NULL: none) to a manifest of the store; an image that had it keeps a record without a name. index.json of
 * the layout follows. ERR_NOT_FOUND, ERR_CORRUPT: the manifest. */
FALLIBLE image_name_set(struct engine *e, const char *ref, const char *digest, const char *manifest);
/* No more than the record, into a database that is being made (lost.h). ref NULL: without a name. */
FALLIBLE image_name_put(struct db_txn *txn, const char *ref, const char *manifest, const char *media_type);
/* From now on repository@digest does not find it. */
FALLIBLE image_name_hide_digest(struct engine *e, const char *ref);
/* keep: an image that loses its last name by it stays, without a name. */
FALLIBLE image_name_delete(struct engine *e, const char *ref, bool keep);
/* Removes blobs and layers that no name, container, cache entry or lease reaches. */
FALLIBLE image_sweep(struct engine *e);
#define IMAGE_SWEEP_WANTED "sweep-wanted" /* in RUN: one had to leave what somebody held */
void image_sweep_wanted(struct engine *e); /* does it where there is such a mark and nobody holds anything */
FALLIBLE image_sweep_count(struct engine *e, uint64_t *out_bytes); /* what it freed, on disk */
/* What is reached from one image, from all names, containers, the build cache: digests of blobs and layers as keys. */
FALLIBLE image_reach(struct engine *e, const char *manifest, struct map *m);
FALLIBLE image_reach_names(struct engine *e, struct map *m);
FALLIBLE image_reach_containers(struct engine *e, struct map *m);
FALLIBLE image_reach_cache(struct engine *e, struct map *m);
/* What leases hold, and of images whose manifest is not in m but leased, all; with all leases stopped. */
FALLIBLE image_reach_leased(struct engine *e, struct map *m);
/* Adds the blobs and layers of these digests. */
FALLIBLE image_usage(struct engine *e, struct usage *u, char *const *digests);
/* Dockerfile instructions (CMD, ENV …; NULL: none) upon an image's "config" object. ERR_INVALID names the change. */
FALLIBLE image_config_change(json_t *config, char *const *changes);
uint64_t image_size(struct engine *e, const struct image_docs *d);
/* A layer of a tar source (perhaps compressed): the blob as it stands (keep) or the plain tar, ingested and applied in one
 * pass. out: the descriptor of the plain tar; media_type owned. */
FALLIBLE image_layer_import(struct engine *e, struct zip_source source, struct descriptor *out_layer);
/* The media type of a layer blob by its first bytes; owned. */
FALLIBLE image_blob_media(struct engine *e, const char *digest, char **out_type);
/* Which blob of the store holds the layer: its plain tar, else the compressed one it came from. Fills digest, size; media_type
 * owned. ERR_NOT_FOUND. */
FALLIBLE image_layer_blob(struct engine *e, const char *diff_id, struct descriptor *out_layer);
