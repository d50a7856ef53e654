/*
 * transfer.h - images between a registry and the store; logging in and out.
 *
 * What is in the store afterwards is verified and durable; manifests and indexes are kept byte by byte as
 * blobs. Blobs of a pull that failed half-way stay when they are whole; of others what came, when the failure
 * may pass and it is a mebibyte or more: the next pull goes on from there. Layer: registry.  Blocks: yes;
 * progress and cancelling through the report.
 */
#pragma once
#include "base/err.h"
#include "content/store.h"
#include "image/platform.h"
#include "image/ref.h"
#include "registry/client.h"
#include "registry/compress.h"
#include "registry/daemon.h"
#include "registry/report.h"
#include <stdbool.h>
#include <stdint.h>

struct transfer {
	const char *root;      /* borrowed; path of ROOT, whose names tell what can be mounted */
	struct store *store;   /* borrowed */
	struct report *report; /* borrowed */
	const struct ref *ref; /* borrowed */
	const struct platform
	    *platform; /* borrowed; NULL: the host's, and no check against a single manifest */
	const struct daemon_conf *daemon; /* borrowed */
	struct access access;
	struct compress_how compress;	  /* of plain layers that are pushed */
	struct patience patience;
};
struct transfer_result {
	char digest[DIGEST_MAX];   /* what the reference is */
	char manifest[DIGEST_MAX]; /* that of our platform */
	uint64_t size_bytes; /* pulled: manifest, config and layers as transferred; pushed: of the manifest */
};
/* ERR_NOT_FOUND, ERR_DENIED, ERR_UNAVAILABLE, ERR_INVALID, ERR_CORRUPT, ERR_LIMIT, ERR_TIMEOUT,
 * ERR_UNSUPPORTED, ERR_CANCELLED. */
FALLIBLE transfer_pull(const struct transfer *t, struct transfer_result *out_result);
/*
 * digest: of a manifest or an index in the store; its blobs first, it last. Under a tag, plain layers are
 * compressed: then the result is the digest of another manifest, which is in the store, too.
 */
FALLIBLE transfer_push(const struct transfer *t, const char *digest, struct transfer_result *out_result);
/*
 * What the registry says of t->ref, layers not fetched. INSPECT_ALL: an object (docs/registry.md); RAW: the text of the
 * manifest, or index when t->platform is NULL; CONFIG: the text of the configuration.
 */
enum inspect_form { INSPECT_ALL, INSPECT_RAW, INSPECT_CONFIG };
FALLIBLE transfer_inspect(const struct transfer *t, enum inspect_form form, json_t **out);
FALLIBLE transfer_tags(const struct transfer *t, json_t **out_list); /* of t->ref's repository */
/* Asks the registry whether it takes access->cred, then keeps it. No cred: what is stored is asked about. ERR_DENIED,
 * ERR_NOT_FOUND nothing is stored. */
FALLIBLE transfer_login(struct report *report, const char *server, const struct access *access,
			const struct daemon_conf *daemon);
/* Whose name is stored, owned; "<token>" when it is none. ERR_NOT_FOUND. auth_file: NULL for docker's, as below. */
FALLIBLE transfer_who(const char *server, const char *auth_file, char **out_user);
FALLIBLE transfer_logout(const char *server, const char *auth_file, bool *out_found); /* server NULL: all */
