/*
 * download.h - one blob from the registry into the store, over cuts, processes and mirrors: what has arrived
 * is not asked for again.
 *
 * A big blob is fetched in parts by several connections. What came of one that fails in a way that may pass
 * waits in the store (ingest_resume) for the next pull, be it from another mirror. Layer: registry.  Threads:
 * the jobs of one download run on any threads; the rest belongs to one. Limits: 5 failures in a row with less
 * than 1 MiB of progress between them.
 */
#pragma once
#include "base/err.h"
#include "content/store.h"
#include "image/manifest.h"
#include "registry/client.h"

struct download;
struct download_conf { /* all borrowed */
	struct registry *registry;
	struct store *store;
	const struct descriptor *d;
	bool is_shown; /* progress goes to the report */
};
/* Touches nothing yet; never NULL. */
struct download *download_new(const struct download_conf *conf);
/* Before its jobs: the report shall also tell whoever unpacks the layer what has come so far. diff_id borrowed. */
void download_announce(struct download *w, const char *diff_id);
size_t download_jobs(const struct download *w); /* at least 1 */
/*
 * Does job 0..n-1, each once, in any order; the one that is through last sets *out_done: the blob, verified,
 * is in the store. ERR_CORRUPT the bytes are not what d says; ERR_NOT_FOUND; ERR_DENIED; else as http_call.
 */
FALLIBLE download_job(struct download *w, struct http_client *http, size_t index, bool *out_done);
/* How many bytes are still to come, as far as the store knows; 0 when it has the blob. */
uint64_t download_missing(const struct download *w);
void download_free(struct download *w);
/* All in one, part after part. */
FALLIBLE download_all(const struct download_conf *conf);
/* The same without telling. */
FALLIBLE download_blob(struct registry *r, struct http_client *http, struct store *store, const struct descriptor *d);
