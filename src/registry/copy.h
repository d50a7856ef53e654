/*
 * copy.h - images from one place to another, byte for byte: registries, OCI layouts, directories of skopeo's
 * kind, archives.
 *
 * Names: "docker://NAME" or NAME a registry; "oci:PATH[:TAG]" an OCI image layout; "oci-archive:PATH[:TAG]" that as a
 * tar; "dir:PATH" a directory (version 1.1: blobs and manifest.json side by side); "docker-archive:PATH[:NAME[:TAG]]"
 * what docker save writes (as a source also PATH:@INDEX). Digests stay what they are, but for a format that is asked
 * for, layers from a docker-archive, which go to a registry compressed, and such an archive itself, which holds them
 * unpacked. What has an unknown media type goes along. Between repositories of one registry blobs are
 * mounted. Bytes pass through the store, where what an interrupted copy has brought waits; the caller sweeps
 * it. Layer: registry.  Blocks: yes.
 */
#pragma once
#include "base/err.h"
#include "registry/format.h"
#include "registry/transfer.h"

struct copy_conf { /* all borrowed */
	struct transfer
	    t; /* store, report, daemon, patience, platform, compress; ref and access are not looked at */
	const char *from, *to;
	struct access source, destination;
	enum format format;
	bool keep_digests; /* an error instead of another digest */
	bool is_all;       /* an index with all its parts; else of an index the part of the platform */
};
/* out_result: digest of what stands at `to` now. Errors as of pull and push. */
FALLIBLE transfer_copy(const struct copy_conf *conf, struct transfer_result *out_result);
