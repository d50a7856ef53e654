/*
 * image.h - images as the faces see them: names, listing, removal, transport in and out.
 *
 * Layer: engine.  JSON shapes: Docker Engine API ImageSummary, ImageInspect, HistoryResponseItem.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "codec/zip.h"
#include "engine/engine.h"
#include "snapshot/snapshot.h"

/* An image that is ready to run: its layers are applied. All owned (engine_image_fini). */
struct engine_image {
	char *id;	  /* digest of the config: "sha256:…" */
	char *manifest;	  /* digest of the manifest */
	char *ref;	  /* the name it was found by, as familiar text, or the id */
	char **diff_ids;  /* bottom first */
	json_t *config;	  /* the whole image config document */
	int lease;	  /* keeps its names from prune until fini: fd + 1 of its locked manifest; 0: none */
};
void engine_image_fini(struct engine_image *i);
/* By name, id, id prefix or digest. ERR_NOT_FOUND "No such image: …". Applies layers that are not there yet. */
FALLIBLE engine_image_get(struct engine *e, const char *text, struct engine_image *out_image);

enum pull_policy { PULL_MISSING, PULL_ALWAYS, PULL_NEVER };
struct engine_progress { /* NULL functions are fine; lines without newline */
	void (*line)(void *ctx, const char *id, const char *status, int64_t current, int64_t total);
	void *ctx;
};
struct engine_access { /* what the command line says of a registry; not shown to its mirrors */
	bool strict, insecure, no_creds; /* strict: HTTPS with a certificate that is trusted, or an error */
	const char *creds, *authfile, *cert_dir; /* "USER[:PASSWORD]", a file, a directory; NULL: what the machine has */
};
struct engine_transfer_opts {
	const char *platform; /* NULL: ours */
	struct engine_access access;
	bool quiet;
	struct engine_progress progress;
	const char *compression, *compression_level; /* of layers that are pushed: "gzip" or "zstd", a number; NULL: as usual */
	/* Which of several registries a short name means (shortname.h); NULL: nobody to ask. */
	struct err *(*choose)(void *ctx, const char *text, char *const *names, size_t *out_index);
	void *choose_ctx;
	const char *to;	    /* push: the name there; NULL: the same as here */
	bool all_platforms; /* push: what the name is, an index with all its parts; else our platform's manifest */
};
/* Pulls through hoy-transfer, applies the layers, names the image. out_full: what ref stood for; out_digest: of what that resolved
 * to; both owned. */
FALLIBLE engine_image_pull(struct engine *e, const char *ref, const struct engine_transfer_opts *o, char **out_full,
			   char **out_digest);
/* out_digest (owned), out_bytes: of the manifest that stands there now. */
FALLIBLE engine_image_push(struct engine *e, const char *ref, const struct engine_transfer_opts *o, char **out_digest,
			   uint64_t *out_bytes);
struct engine_copy {
	const char *from, *to;
	struct engine_access source, destination; /* instead of the one of engine_transfer_opts */
	const char *format; /* of the manifest: "oci", "v2s2"; NULL: as it is */
	bool all;	    /* an index whole, else the part of the platform */
	bool preserve_digests;
};
/*
 * Copies an image between registries, OCI layouts, directories and archives (forms: docs/registry.md), byte for byte; nothing of
 * it stays here. out_digest: of what stands there now; owned.
 */
FALLIBLE engine_image_copy(struct engine *e, const struct engine_copy *c, const struct engine_transfer_opts *o,
			   char **out_digest);
/* engine_image_get, pulling before according to policy. */
FALLIBLE engine_image_ensure(struct engine *e, const char *ref, enum pull_policy policy,
			     const struct engine_transfer_opts *o, struct engine_image *out_image);

/* filters (filter.h): dangling, label, label!, reference (patterns), before and since (an image), until. Newest first. */
FALLIBLE engine_image_list(struct engine *e, const json_t *filters, json_t **out_array);
FALLIBLE engine_image_inspect(struct engine *e, const char *text, json_t **out_object);
FALLIBLE engine_image_history(struct engine *e, const char *text, json_t **out_array);
FALLIBLE engine_image_tag(struct engine *e, const char *source, const char *target);
/* docker's rules: untag, delete when the last name goes, refuse when a container uses it (unless force).
 * out_events: array of {"Untagged":…} / {"Deleted":…}. */
FALLIBLE engine_image_remove(struct engine *e, const char *text, bool force, json_t **out_events);
FALLIBLE engine_image_save(struct engine *e, char *const *refs, struct zip_sink sink);
FALLIBLE engine_image_load(struct engine *e, struct zip_source source, json_t **out_loaded); /* array of names or ids */
/*
 * What a URL (http, https) has, as a source of archives. The source ends only when all has come, else in the error that tells why not.
 * SECURITY: credentials inside a URL are refused; certificates are checked as those of registries.
 */
struct engine_fetch;
bool engine_is_url(const char *text);
FALLIBLE engine_fetch_new(const char *url, struct engine_fetch **out_fetch);
struct zip_source engine_fetch_source(struct engine_fetch *f); /* borrowed */
void engine_fetch_free(struct engine_fetch *f);
struct image_import {
	const char *ref;	       /* NULL: no name */
	const char *message, *platform; /* NULL: "Imported"; this host's */
	char *const *changes;	       /* Dockerfile instructions (CMD …) */
};
/* docker import: a root file system tar (maybe compressed) as one layer. out_id owned. */
FALLIBLE engine_image_import(struct engine *e, struct zip_source source, const struct image_import *how, char **out_id);
struct image_commit {
	const char *ref;	     /* NULL: no name */
	const char *message, *author; /* NULL: none */
	char *const *changes;	     /* as for import */
	bool pause;		     /* a running container stands still meanwhile */
};
/* docker commit: the container's image with a further layer, what the container changed. out_id owned. */
FALLIBLE engine_image_commit(struct engine *e, const char *container, const struct image_commit *how, char **out_id);
/*
 * Names an image made here (build, commit, import): stores config and manifest; every layer (uncompressed tar blob in the
 * store, and applied) is given by diff id. ref may be NULL. out_id owned.
 */
FALLIBLE engine_image_create(struct engine *e, const json_t *config, const char *ref, char **out_id);
/* Runs hoy-transfer with these arguments (login, inspect …); in_fd: its standard input, without o->access.creds; or -1. Owned
 * result object. */
FALLIBLE engine_transfer_run(char *const *args, int in_fd, const struct engine_transfer_opts *o, json_t **out_result);
