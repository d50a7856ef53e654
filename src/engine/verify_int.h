/* verify_int.h - what verify.c finds and verify_repair.c mends. Layer: engine (internal). */
#pragma once
#include "base/map.h"
#include "base/vec.h"
#include "engine/image_store.h"
#include "engine/verify.h"
#include "state/db.h"

enum damage_kind { DAMAGE_BLOB, DAMAGE_LAYER, DAMAGE_RECORD, DAMAGE_INDEX, DAMAGE_LAYOUT, DAMAGE_COPY };
struct damage {
	enum damage_kind kind;
	enum db_table table; /* of a record */
	bool is_rotten;      /* its checksum is wrong */
	char *name;          /* digest, key, file; owned */
	char *owner;         /* full reference of an image that needs it, or NULL; owned */
	char *source;        /* of a blob: where it once came from or went to, or NULL; owned */
};
struct verify_layer { /* a layer that an image has; one for each blob that holds it */
	char diff_id[DIGEST_MAX];
	struct descriptor blob; /* media_type owned */
	char *owner;            /* owned, or NULL */
};
struct verify {
	struct engine *e;
	const struct verify_opts *o;
	struct verify_result *result;
	struct map blobs; /* digest -> BLOB_GOOD, BLOB_BAD: checked in this round */
	VEC(struct verify_layer) layers;
	VEC(struct damage) damages;
	bool is_again; /* after a repair: only what is still damaged is told */
};

void verify_tell(const struct verify *v, const char *owner, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* The blob a layer can be made of: of its image, or of whatever else holds it. ERR_NOT_FOUND.
 * out_blob->media_type owned. */
FALLIBLE verify_layer_blob(struct verify *v, const char *diff_id, struct descriptor *out_blob);
/* verify_blob.c: every damaged blob. With the content lock. */
FALLIBLE verify_mend_blobs(struct verify *v);
void verify_tell_failure(const struct verify *v, const struct damage *d, struct err *err); /* consumes err */
/* Mends what it can; what it cannot is told with the reason. Errors: the store cannot be written at all. */
FALLIBLE verify_repair(struct verify *v);
