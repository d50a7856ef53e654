/*
 * prune.h - removing on request what nobody needs, and how much there is of it: docker's prunes and system
 * df.
 *
 * filters: API form or NULL: "until" (a moment or an age), "label", "label!"; others are ERR_INVALID. Bytes
 * are what is free on disk afterwards (usage.h), and are what engine_df called reclaimable before. Layer:
 * engine.  Threads: re-entrant.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/engine.h"
#include <stdbool.h>
#include <stdint.h>

/* Images without a name (all: every one that no container has). out_events: array of {"Untagged":…} /
 * {"Deleted":…}. */
FALLIBLE engine_image_prune(struct engine *e, bool all, const json_t *filters, json_t **out_events,
			    uint64_t *out_bytes);
/* Steps of builds that no image is made of (all: every one), last used before "until". out_keys: owned list,
 * NULL: none. */
FALLIBLE engine_cache_prune(struct engine *e, bool all, const json_t *filters, char ***out_keys,
			    uint64_t *out_bytes);
/* Containers that do not run; array of ids. */
FALLIBLE engine_container_prune(struct engine *e, const json_t *filters, json_t **out_ids,
				uint64_t *out_bytes);
/* Volumes of no container: anonymous ones (all, or the filter "all=true": named ones too); array of names. */
FALLIBLE engine_volume_prune(struct engine *e, bool all, const json_t *filters, json_t **out_names,
			     uint64_t *out_bytes);
/* Networks of the user's that no container has; array of names. */
FALLIBLE engine_network_prune(struct engine *e, const json_t *filters, json_t **out_names);
/*
 * What everything takes. Array of {"Type", "TotalCount", "Active", "Size", "Reclaimable", "Items"} for
 * Images, Containers, Local Volumes, Build Cache: bytes on disk; what images and cache share counts once,
 * with the images. Reclaimable: what image prune -a, container prune, volume prune -a, builder prune -a would
 * free. Items (with_items): one object each, as -v shows them.
 */
FALLIBLE engine_df(struct engine *e, bool with_items, json_t **out_rows);
/* Gives a container (of container_list or container_inspect) "SizeRw", what it takes on disk as engine_df counts it, and
 * "SizeRootFs", that and its image's layers. */
FALLIBLE engine_container_size(struct engine *e, json_t *container);
