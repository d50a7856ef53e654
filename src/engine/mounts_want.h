/*
 * mounts_want.h - one mount as it was asked for, whichever of docker's four ways was used.
 *
 * Layer: engine (internal).  mounts_parse.c reads it, mounts.c makes of it what the record says.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include <stdbool.h>

struct want {
	const char *type; /* bind volume tmpfs image */
	char *source, *target, *subpath, *mode,
	    *idmap; /* owned, NULL when not given; idmap "" is the container's own mapping */
	const char *propagation;
	bool read_only;
	bool is_flat;     /* bind, not rbind */
	bool is_top_only; /* read-only without what is mounted below */
	bool no_copy, make_source, want_chown, is_overlay;
	json_t *options; /* owned array: further mount options, in the runtime's words */
	const json_t *labels, *driver_options;
	const char *driver;
};
void want_fini(struct want *w);
/* "source:target[:modes]" of HostConfig.Binds. ERR_INVALID in docker's words, here and below. */
FALLIBLE want_from_bind(const char *text, struct want *w);
/* An object of HostConfig.Mounts. */
FALLIBLE want_from_object(const json_t *m, struct want *w);
/* A pair of HostConfig.Tmpfs. */
FALLIBLE want_from_tmpfs(const char *target, const char *options, struct want *w);
/* A key of Config.Volumes. */
FALLIBLE want_from_path(const char *target, struct want *w);
/* "container[:ro|rw|z|Z|nocopy]" of HostConfig.VolumesFrom; out_container owned. */
FALLIBLE want_from_container(const char *text, char **out_container, bool *out_read_only);
