/*
 * verify.h - whether everything in the store is what it should be, and mending what is not.
 *
 * Read are: every record of the database, every blob (against its digest), every layer (against its blob,
 * entry by entry), index.json and oci-layout. A blob is mended from what else is in the store, or fetched by
 * digest from the registry that its image's name stands for; a layer from its blob; a record from index.json,
 * or it goes when it is only a note. Layer: engine.  Blocks: as long as reading everything takes.  Threads:
 * one call at a time per handle.
 */
#pragma once
#include "base/err.h"
#include "engine/image.h"
#include <stdbool.h>
#include <stdint.h>

struct verify_opts {
	char *const *images; /* only these, what they are made of; NULL or empty: everything */
	bool repair;
	struct engine_transfer_opts transfer;      /* for what must be fetched */
	void (*tell)(void *ctx, const char *line); /* each thing found, mended or not, without newline */
	void *ctx;
};
struct verify_result {
	unsigned blobs, layers, records; /* checked */
	unsigned unchecked;              /* layers whose blob is not in the store */
	uint64_t bytes;                  /* of blobs */
	unsigned damaged;                /* things found damaged at first */
	unsigned left;                   /* … and still so at the end */
};
/*
 * Before the engine is opened: whether the database can be read at all. With repair it is made again from its
 * log. ERR_CORRUPT names the repair, or says that it is not possible. tell as above.
 */
FALLIBLE engine_verify_database(const struct engine_opts *o, const struct verify_opts *v);
/*
 * Damage is a result, not an error; errors tell why the store could not be read. ERR_NOT_FOUND: an image that
 * was named. With repair what no image, container or cache needs is removed, too.
 */
FALLIBLE engine_verify(struct engine *e, const struct verify_opts *o, struct verify_result *out_result);
