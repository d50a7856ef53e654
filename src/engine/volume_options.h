/*
 * volume_options.h - options of the driver "local" (docker's: type, o, device, size): what they mean for a
 * container's mount.
 *
 * Layer: engine (internal).
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/engine.h"

/* ERR_INVALID "create x: invalid option: …", "missing required option: …". options may be NULL. */
FALLIBLE volume_options_check(const char *name, const json_t *options);
/* size: gives the volume's directory its quota (doc gets "HoyProject"). ERR_UNSUPPORTED, with why, where
 * there is none. */
FALLIBLE volume_options_apply(struct engine *e, json_t *doc);
/* Takes the limit of a volume that goes away; what can't be taken back limits nothing any more. */
void volume_options_release(struct engine *e, const json_t *doc);
/*
 * How a container mounts the volume of record doc. *out_type: "bind" or a file system; *out_source owned;
 * options are appended to the array. An address by name (nfs, cifs) is looked up: ERR_NOT_FOUND.
 */
FALLIBLE volume_options_mount(struct engine *e, const json_t *doc, const char **out_type, char **out_source,
			      json_t *options);
