/*
 * download.h - one blob from the registry into the store, over cuts: what has arrived is not asked for again.
 *
 * Layer: registry.  Threads: one per download.  Limits: 5 failures in a row with less than 1 MiB of progress
 * between them.
 */
#pragma once
#include "base/err.h"
#include "content/store.h"
#include "image/manifest.h"
#include "registry/client.h"

/*
 * The blob of d, verified, is in the store afterwards. is_shown: progress goes to the report.
 * ERR_CORRUPT the bytes are not what d says; ERR_NOT_FOUND; ERR_DENIED; else as http_call.
 */
FALLIBLE download_blob(struct registry *r, struct http_client *http, struct store *store,
		       const struct descriptor *d, bool is_shown);
