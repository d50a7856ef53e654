/*
 * remote.h - what a registry has, without a store: documents by tag or digest, what a tag is, which tags there are.
 *
 * Specification: distribution-spec "Pulling manifests", "Listing Tags".
 * Layer: registry.  Blocks: yes.  Limits: documents MANIFEST_MAX; 100,000 tags.
 */
#pragma once
#include "base/err.h"
#include "codec/digest.h"
#include "image/ref.h"
#include "registry/client.h"

extern const char *const remote_accept[]; /* the header for every kind of manifest */

struct remote_doc { /* a manifest or an index, as it is */
	char digest[DIGEST_MAX];
	char *body, *media_type; /* owned; media_type: of the answer, maybe "" */
	size_t n;
	char *limits; /* owned; how often we may ask (fault_limits) */
};
void remote_doc_fini(struct remote_doc *d);
/* Asks for the manifest of a tag or digest, whatever the answer is. what: "manifests/REFERENCE". */
FALLIBLE remote_ask(struct registry *r, const char *what, struct http_response *out_answer);
/* want: the digest it must have, or NULL. In docker's words: ERR_NOT_FOUND, ERR_DENIED; ERR_CORRUPT another digest. */
FALLIBLE remote_get(struct registry *r, const struct ref *ref, const char *reference, const char *want,
		    struct remote_doc *out_doc);
/* What a tag is, by HEAD where the registry tells, which it does not count. */
FALLIBLE remote_digest(struct registry *r, const struct ref *ref, const char *tag, char out_digest[DIGEST_MAX]);
/* All tags, in the registry's order; owned list. */
FALLIBLE remote_tags(struct registry *r, const struct ref *ref, char ***out_tags);
/* What an answer other than 200 to a request for reference means. */
FALLIBLE remote_refusal(const struct ref *ref, const struct http_response *answer, const char *reference);

#define auto_remote_doc __attribute__((cleanup(remote_doc_fini)))
