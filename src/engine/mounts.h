/*
 * mounts.h - what a create body wants mounted, as the record's Mounts array; volumes made and filled on the way.
 *
 * Layer: engine (internal).  Shapes: API MountPoint plus HoyOptions (tmpfs options), HoyFlat, HoyAnonymous.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/image.h"

/*
 * Sets doc.Mounts from HostConfig.Binds, .Mounts, .Tmpfs and Config.Volumes, in the order of their depth. Named volumes that
 * are not there are made; an empty volume gets what the image has at its place. ERR_INVALID "invalid volume specification …",
 * "Duplicate mount point: …"; ERR_NOT_FOUND "bind source path does not exist: …" (type bind; -v makes a directory).
 */
FALLIBLE mounts_plan(struct engine *e, const struct engine_image *image, json_t *doc);
