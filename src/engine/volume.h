/*
 * volume.h - named and anonymous volumes: directories ROOT/volumes/<name>/_data with a record in the
 * database.
 *
 * A volume is in use while a container's record names it, and then stays. It is filled as a whole or not at
 * all, also when the power goes (volume_work.h). Options of the driver "local" as docker's: type, o, device
 * describe a file system or a directory of the user's, which containers mount themselves: nothing of it
 * stands in the host's mount table, so a tmpfs is each container's own. size: a project quota, where the file
 * system has them, else an error. Layer: engine.  JSON shapes: Docker Engine API Volume.  Threads: any.
 * Blocks: disk; while somebody else makes, fills or removes the same volume.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "codec/zip.h"
#include "engine/engine.h"
#include <stdint.h>

/* The label of those that were made without a name. */
#define VOLUME_ANONYMOUS "com.docker.volume.anonymous"
/*
 * body: API VolumeCreate (Name, Driver, DriverOpts, Labels); the one that is there already is returned,
 * unless other driver options are asked for (ERR_CONFLICT). Owned object. ERR_INVALID a name or option;
 * ERR_UNSUPPORTED a size that can't be kept.
 */
FALLIBLE volume_create(struct engine *e, const json_t *body, json_t **out_volume);
/* ERR_NOT_FOUND "get x: no such volume". Owned object. */
FALLIBLE volume_inspect(struct engine *e, const char *name, json_t **out_volume);
/* Array by name; filters as in the API (name, label, driver, dangling) or NULL. */
FALLIBLE volume_list(struct engine *e, const json_t *filters, json_t **out_array);
/* ERR_CONFLICT "remove x: volume is in use - [id]". force: absent is no error. */
FALLIBLE volume_remove(struct engine *e, const char *name, bool force);
/* Its content as a plain tar, names sorted: the same content gives the same bytes. */
FALLIBLE volume_export(struct engine *e, const char *name, struct zip_sink sink);
/* A tar (also compressed) over what the volume holds; on error the volume is as it was. */
FALLIBLE volume_import(struct engine *e, const char *name, struct zip_source source);

/* Its directory; owned path. */
char *volume_path(struct engine *e, const char *name);
/* Whether driver options make it a directory of the user's, bound. doc: the record. */
bool volume_is_bind(const json_t *doc);
