/*
 * end.h - the two ends of a copy: a registry, an OCI layout or a directory, behind one table of functions.
 *
 * As a source an end gives documents and brings blobs into the store; as a destination it takes blobs from
 * the store and then documents, the named one last. SECURITY: names inside a layout or directory are made of
 * digests alone. Layer: registry (internal).
 */
#pragma once
#include "registry/copy.h"
#include "registry/remote.h"

struct end;
struct end_ops {
	/* reference: a digest, or NULL: what the end is about. */
	struct err *(*document)(struct end *end, const char *digest, struct remote_doc *out_doc);
	/* The blob is in the store afterwards, verified. */
	struct err *(*fetch)(struct end *end, struct http_client *http, const struct descriptor *d);
	/* source: asked for the bytes when they are needed. */
	struct err *(*put)(struct end *end, struct http_client *http, const struct descriptor *d,
			   struct end *source);
	struct err *(*put_document)(struct end *end, const struct remote_doc *doc, const char *media_type,
				    bool is_top);
	void (*close)(struct end *end);
};
struct end { /* embedded first by each kind */
	const struct end_ops *ops;
	const struct copy_conf *conf;
	struct registry *registry; /* NULL when it is none; borrowed */
	const struct ref *ref;     /* the same */
	const char *text;          /* as it was written, borrowed */
};
/* Nothing is made yet. ERR_INVALID no such form. source: the other end of a destination; NULL when it is the
 * source. */
FALLIBLE end_open(const struct copy_conf *conf, const char *text, const struct end *source,
		  struct end **out_end);
FALLIBLE end_open_registry(const struct copy_conf *conf, const char *name, const struct end *source,
			   struct end **out_end);
FALLIBLE end_open_oci(const struct copy_conf *conf, const char *path, bool is_source, struct end **out_end);
FALLIBLE end_open_dir(const struct copy_conf *conf, const char *path, bool is_source, struct end **out_end);
void end_close(struct end *end);

static inline void own_end(struct end **slot)
{
	end_close(*slot);
}
#define auto_end __attribute__((cleanup(own_end)))
