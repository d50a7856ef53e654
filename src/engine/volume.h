/*
 * volume.h - named and anonymous volumes: directories ROOT/volumes/<name>/_data with a record in the database.
 *
 * Layer: engine.  JSON shapes: Docker Engine API Volume.  A volume is in use while a container's record names it.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/engine.h"
#include <stdint.h>

/* body: API VolumeCreate (Name, Driver, DriverOpts, Labels); the one that is there already is returned. Owned object. */
FALLIBLE volume_create(struct engine *e, const json_t *body, json_t **out_volume);
FALLIBLE volume_inspect(struct engine *e, const char *name, json_t **out_volume);
/* Array; filters as in the API (name, label, dangling) or NULL. */
FALLIBLE volume_list(struct engine *e, const json_t *filters, json_t **out_array);
/* ERR_CONFLICT "remove x: volume is in use - [id]". force: absent is no error. */
FALLIBLE volume_remove(struct engine *e, const char *name, bool force);
/* Unused anonymous ones (all: named too). Names removed, and bytes. */
FALLIBLE volume_prune(struct engine *e, bool all, json_t **out_names, uint64_t *out_bytes);
/* Its directory; owned path. */
char *volume_path(struct engine *e, const char *name);
