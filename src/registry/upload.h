/*
 * upload.h - one blob from the store into the registry, unless it is there.
 *
 * Specification: distribution-spec "Pushing blobs": HEAD, mount from another repository, else POST and one PUT; after a
 * cut the session goes on where the registry says (PATCH with Content-Range), also in the next process.
 * Layer: registry.  Threads: one per upload.
 * Limits: 4 attempts without progress.
 */
#pragma once
#include "base/err.h"
#include "content/store.h"
#include "image/manifest.h"
#include "registry/client.h"

struct upload_conf { /* all borrowed */
	struct registry *registry;
	struct store *store;
	const char *repository; /* for messages */
	const struct descriptor *d;
	const char *shown_digest; /* progress goes to the report under it; NULL: none */
	const char *mount_from;   /* a repository of this registry that has the blob, or NULL */
	struct err *(*bring)(void *ctx); /* brings the blob into the store when it is needed and not there; may be NULL */
	void *ctx;
};
/* ERR_DENIED, ERR_LIMIT, ERR_INVALID by the registry's word; ERR_NOT_FOUND the blob is not in the store. */
FALLIBLE upload_blob(const struct upload_conf *conf, struct http_client *http);
/* What an answer other than success to a push means; what: the object. */
FALLIBLE upload_refusal(const char *repository, const struct http_response *r, const char *what);
/* The document under a tag or its digest, after all that it names. One that has a subject is also listed where those look
 * who have no referrers API (referrers.h). */
FALLIBLE upload_manifest(struct registry *r, const char *repository, const char *reference, struct sv body,
			 const char *media_type);
