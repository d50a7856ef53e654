/*
 * store.h - blobs by digest in an OCI image layout (image-spec image-layout.md): ROOT/oci-layout, index.json, blobs/sha256.
 *
 * A blob is verified while it is written, durable before it is named, and never modified. A crash leaves only files in
 * ROOT/tmp, which store_open sweeps when nobody holds them (flock).
 * Layer: content.  Threads: a store is shared; an ingest belongs to one thread.  Blocks: fsync at commit.
 */
#pragma once
#include "base/err.h"
#include "codec/digest.h"
#include <stdbool.h>
#include <stdint.h>

struct store;
/* root_fd borrowed, must outlive the store: ROOT. Creates the layout when absent. */
FALLIBLE store_open(int root_fd, struct store **out_store);
void store_close(struct store *s);
int store_root_fd(const struct store *s); /* borrowed */

bool store_has(const struct store *s, const char *digest, uint64_t *out_size); /* out_size may be NULL */
/* Owned fd for reading. ERR_NOT_FOUND names the digest; ERR_CORRUPT when the size differs from want_size (0: any). */
FALLIBLE store_blob_open(const struct store *s, const char *digest, uint64_t want_size, int *out_fd);
/* Whole blob, verified against its digest, owned, NUL-terminated; for manifests and configs (max_bytes). ERR_CORRUPT. */
FALLIBLE store_blob_read(const struct store *s, const char *digest, size_t max_bytes, char **out_body, size_t *out_len);
FALLIBLE store_blob_delete(struct store *s, const char *digest); /* absent is no error */
/* Re-hashes one blob; ERR_CORRUPT when it is not what its name says. */
FALLIBLE store_blob_verify(const struct store *s, const char *digest);
FALLIBLE store_blob_each(const struct store *s, struct err *(*each)(void *ctx, const char *digest, uint64_t size), void *ctx);

struct ingest; /* one blob on its way in */
FALLIBLE ingest_begin(struct store *s, struct ingest **out_ingest);
FALLIBLE ingest_write(struct ingest *in, const void *p, size_t n);
uint64_t ingest_size(const struct ingest *in);
/*
 * Verifies against want_digest (NULL: take what it is) and want_size (0: any), syncs, names it. out_digest may be NULL.
 * Already there: the new copy is dropped. ERR_CORRUPT "digest mismatch: wanted …, got …": nothing is named.
 */
FALLIBLE ingest_commit(struct ingest *in, const char *want_digest, uint64_t want_size, char out_digest[DIGEST_MAX]);
void ingest_free(struct ingest *in); /* without commit: everything is removed */
/* All in one for small bodies. */
FALLIBLE store_put(struct store *s, const void *p, size_t n, char out_digest[DIGEST_MAX]);
static inline void own_ingest(struct ingest **slot)
{
	ingest_free(*slot);
}
#define auto_ingest __attribute__((cleanup(own_ingest)))
