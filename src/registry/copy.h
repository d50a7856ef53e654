/*
 * copy.h - images from one place to another, byte for byte: registries, OCI layouts, directories of skopeo's
 * kind.
 *
 * Names: "docker://NAME" or NAME a registry; "oci:PATH[:TAG]" an OCI image layout; "dir:PATH" a directory
 * (version 1.1: blobs and manifest.json side by side). Digests stay what they are: documents are never
 * rewritten, what has an unknown media type goes along. Between repositories of one registry blobs are
 * mounted. Bytes pass through the store, where what an interrupted copy has brought waits; the caller sweeps
 * it. Layer: registry.  Blocks: yes.
 */
#pragma once
#include "base/err.h"
#include "registry/transfer.h"

struct copy_conf { /* all borrowed */
	struct transfer
	    t; /* store, report, daemon, retry_ms, is_insecure (of both), platform; ref is not looked at */
	const char *from, *to;
	bool is_all; /* an index with all its parts; else of an index the part of the platform */
};
/* out_result: digest of what stands at `to` now. Errors as of pull and push. */
FALLIBLE transfer_copy(const struct copy_conf *conf, struct transfer_result *out_result);
