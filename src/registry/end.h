/*
 * end.h - the two ends of a copy: a registry, an OCI layout, a directory or an archive, behind one table of functions.
 *
 * As a source an end gives documents and brings blobs into the store; as a destination it takes blobs from
 * the store and then documents, the named one last. SECURITY: names inside a layout or directory are made of
 * digests alone. Layer: registry (internal).
 */
#pragma once
#include "registry/archive.h"
#include "registry/copy.h"
#include "registry/remote.h"

struct end;
struct end_ops {
	/* reference: a digest, or NULL: what the end is about. */
	struct err *(*document)(struct end *end, const char *digest, struct remote_doc *out_doc);
	/* The blob is in the store afterwards, verified. */
	struct err *(*fetch)(struct end *end, struct http_client *http, const struct descriptor *d);
	/* The blob's bytes, where they are; what source reads by is *out_file. NULL: they come by fetch. */
	struct err *(*stream)(struct end *end, const struct descriptor *d, struct archive_file *out_file);
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
	bool
	    is_plain; /* a source whose layers may be unpacked: on the way to a registry they are compressed */
};
/* Nothing is made yet. ERR_INVALID no such form. source: the other end of a destination; NULL when it is the
 * source. */
FALLIBLE end_open(const struct copy_conf *conf, const char *text, const struct end *source,
		  struct end **out_end);
FALLIBLE end_open_registry(const struct copy_conf *conf, const char *name, const struct end *source,
			   struct end **out_end);
FALLIBLE end_open_oci(const struct copy_conf *conf, const char *path, bool is_source, struct end **out_end);
FALLIBLE end_open_dir(const struct copy_conf *conf, const char *path, bool is_source, struct end **out_end);
/* An archive ("oci-archive:PATH[:TAG]", "docker-archive:PATH[:NAME[:TAG]|:@INDEX]"); text without the form. */
FALLIBLE end_open_archive(const struct copy_conf *conf, const char *text, bool is_docker,
			  struct end **out_end);
FALLIBLE end_make_archive(const struct copy_conf *conf, const char *text, bool is_docker,
			  struct end **out_end);
void end_close(struct end *end);

/* What the kinds of files share. */
/* The entry of a layout's index.json that tag names, or, without a tag, the only one. */
FALLIBLE end_layout_find(const char *path, struct sv body, const char *tag, char out[DIGEST_MAX]);
json_t *end_layout_entry(const struct remote_doc *doc, const char *media_type, const char *tag); /* owned */
/* All that source gives is the blob d, and goes into the store. ERR_CORRUPT. */
FALLIBLE end_store_blob(const struct end *end, const char *path, struct zip_source source,
			const struct descriptor *d);

static inline void own_end(struct end **slot)
{
	end_close(*slot);
}
#define auto_end __attribute__((cleanup(own_end)))
