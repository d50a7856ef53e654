/*
 * store.h - blobs by digest in an OCI image layout (image-spec image-layout.md): ROOT/oci-layout, index.json, blobs/sha256.
 *
 * A blob is verified while it is written, durable before it is named, and never modified. A crash leaves only files in
 * ROOT/tmp: ingest-* go at the next store_open when nobody holds them (flock); part-<hex>, what came of a blob from a
 * registry, waits a week for the pull that goes on with it, and so does upload-<hex>, where a push was.
 * Layer: content.  Threads: a store is shared; an ingest belongs to one thread.  Blocks: fsync at commit.
 */
#pragma once
#include "base/err.h"
#include "codec/digest.h"
#include "content/lease.h"
#include <stdbool.h>
#include <stdint.h>

#define STORE_LAYOUT "{\"imageLayoutVersion\":\"1.0.0\"}" /* what oci-layout says */
#define STORE_REPAIR "'hoy verify --repair' mends it" /* what every error about damage tells to do */

struct store;
/* root_fd borrowed, must outlive the store: ROOT. Creates the layout when absent. */
FALLIBLE store_open(int root_fd, struct store **out_store);
void store_close(struct store *s);
/* After this all blobs that are in the store now are so after a power cut, whichever process brought them. */
FALLIBLE store_sync(const struct store *s);
int store_root_fd(const struct store *s); /* borrowed */

/*
 * From now on l (borrowed; NULL: nobody) holds each blob that is asked for, opened or committed, before it is looked for, so that it
 * stays if it is there. store_blob_each holds nothing.
 */
void store_lease(struct store *s, struct lease *l);

bool store_has(const struct store *s, const char *digest, uint64_t *out_size); /* out_size may be NULL */
bool store_size(const struct store *s, const char *digest, uint64_t *out_size); /* the same for who only looks: nothing is held */
/* Owned fd for reading. ERR_NOT_FOUND names the digest; ERR_CORRUPT when the size differs from want_size (0: any). */
FALLIBLE store_blob_open(const struct store *s, const char *digest, uint64_t want_size, int *out_fd);
/* Whole blob, verified against its digest, owned, NUL-terminated; for manifests and configs (max_bytes). ERR_CORRUPT. */
FALLIBLE store_blob_read(const struct store *s, const char *digest, size_t max_bytes, char **out_body, size_t *out_len);
FALLIBLE store_blob_delete(struct store *s, const char *digest); /* absent is no error */
/* The name goes now, its room, which takes longer, with store_deleted_free or store_close. */
FALLIBLE store_blob_unname(struct store *s, const char *digest);
void store_deleted_free(struct store *s);
/*
 * A damaged blob out of the way of a good one, and back: put_back leaves a good one that has come meanwhile and removes the
 * other, which also goes without keep. What is kept is marked: the next ingest of the same content replaces it.
 */
FALLIBLE store_blob_set_aside(struct store *s, const char *digest); /* absent is no error */
FALLIBLE store_aside_open(const struct store *s, const char *digest, int *out_fd); /* owned, to read. ERR_NOT_FOUND */
FALLIBLE store_blob_put_back(struct store *s, const char *digest, bool keep);
FALLIBLE store_blobs_put_back(struct store *s); /* all that a repair cut short has left aside */
/* What got turned out to be of a blob that was read: NULL when that is its name, else ERR_CORRUPT. */
FALLIBLE store_blob_is(const char *digest, const char *got);
/* A file that nobody changes any more (fd borrowed) as the blob digest: a second name, or a copy where there can be none. ERR_CORRUPT. */
FALLIBLE store_put_file(struct store *s, int fd, const char *digest);
/* Re-hashes one blob; ERR_CORRUPT when it is not what its name says. */
FALLIBLE store_blob_verify(const struct store *s, const char *digest);
FALLIBLE store_blob_each(const struct store *s, struct err *(*each)(void *ctx, const char *digest, uint64_t size), void *ctx);

/*
 * A fact about a blob's bytes (its compressed form's name …), kept with the blob as an extended attribute and gone with it.
 * Only a hint: a file system without attributes keeps none. key: [a-z0-9-]; value at most NOTE_MAX bytes.
 */
#define NOTE_MAX 256
#define STORE_NOTE_FROM "from" /* "repository@digest": an image that had it, in the registry it was pulled from or pushed to */
void store_note_set(struct store *s, const char *digest, const char *key, const char *value);
bool store_note_get(const struct store *s, const char *digest, const char *key, char out[NOTE_MAX]);

struct ingest; /* one blob on its way in */
FALLIBLE ingest_begin(struct store *s, struct ingest **out_ingest);
/*
 * The same for a blob whose digest is known and that may take several goes: what ingest_keep left of it is there, hashed again
 * (ingest_size). NULL: somebody else is at it.
 */
FALLIBLE ingest_resume(struct store *s, const char *digest, struct ingest **out_ingest);
FALLIBLE ingest_write(struct ingest *in, const void *p, size_t n);
uint64_t ingest_size(const struct ingest *in); /* of what is hashed, from the first byte on */
/* What another process may read meanwhile: the name for store_ingest_open; borrowed. */
const char *ingest_file(const struct ingest *in);
/* Owned fd for reading what somebody has ingested of a blob so far. ERR_INVALID that is no name of one; ERR_NOT_FOUND. */
FALLIBLE store_ingest_open(const struct store *s, const char *file, int *out_fd);
/*
 * Out of order: puts n bytes at byte `at`; any thread, each byte at most once. Then ingest_claim, one thread at a time: hashes
 * the n bytes at ingest_size, which have been put: they are p (NULL: read back).
 */
FALLIBLE ingest_put_at(const struct ingest *in, uint64_t at, const void *p, size_t n);
FALLIBLE ingest_claim(struct ingest *in, const void *p, uint64_t n);
FALLIBLE ingest_restart(struct ingest *in); /* forgets every byte */
/*
 * Verifies against want_digest (NULL: take what it is) and want_size (0: any), syncs its bytes, names it (store_sync). out_digest may be NULL.
 * Already there: the new copy is dropped. ERR_CORRUPT "digest mismatch: wanted …, got …": nothing is named.
 */
FALLIBLE ingest_commit(struct ingest *in, const char *want_digest, uint64_t want_size, char out_digest[DIGEST_MAX]);
void ingest_free(struct ingest *in); /* without commit: everything is removed */
/* Instead of ingest_free: what is hashed waits for the next ingest_resume; of one that did not come from there nothing. */
void ingest_keep(struct ingest *in);
uint64_t store_part_size(const struct store *s, const char *digest); /* about what ingest_resume will find */
void store_parts_drop(struct store *s);				     /* all that nobody is at */
/* All in one for small bodies. */
FALLIBLE store_put(struct store *s, const void *p, size_t n, char out_digest[DIGEST_MAX]);
static inline void own_ingest(struct ingest **slot)
{
	ingest_free(*slot);
}
#define auto_ingest __attribute__((cleanup(own_ingest)))
