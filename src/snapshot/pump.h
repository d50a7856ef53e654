/*
 * pump.h - a stream read by the calling thread while others, where that helps, hash and consume it a few
 * buffers behind.
 *
 * Layer: snapshot, private.
 */
#pragma once
#include "base/err.h"
#include "codec/digest.h"
#include "codec/zip.h"

/*
 * Reads source to its end in the calling thread; consume gets the same bytes from `tar`, in a thread of its
 * own where there is more than one processor, and may stop early. copy (write NULL: none) gets all of them
 * whole, in consume's thread, each before consume sees it. Returns after all ended: source's error before
 * consume's and copy's; source is not read on after an error of these. out_digest: of everything source gave.
 */
struct pump_job {
	struct err *(*consume)(void *ctx, struct zip_source tar);
	void *ctx;
	struct zip_sink copy;
};
FALLIBLE pump_run(struct zip_source source, const struct pump_job *job, char out_digest[DIGEST_MAX]);
/* The two ways of it. */
FALLIBLE pump_threads(struct zip_source source, const struct pump_job *job, char out_digest[DIGEST_MAX]);
FALLIBLE pump_alone(struct zip_source source, const struct pump_job *job, char out_digest[DIGEST_MAX]);
