/*
 * oci_systemd.h - a container's scope (or slice) as a transient unit of systemd.
 *
 * systemd makes the group, we put the limits that it does not know beside its own and remove nothing of it by
 * hand. Layer: runtime, private.  Blocks until systemd's job is done (30 s at most).
 */
#pragma once
#include "codec/json.h"
#include <sys/types.h>

struct oci_unit {
	const char *name, *slice, *id;         /* "hoy-x.scope" or "x.slice" */
	pid_t pid;                             /* the first process; 0: none */
	const json_t *resources, *annotations; /* may be NULL */
};
/* StartTransientUnit; a failed unit of that name is forgotten first. ERR_EXISTS, ERR_UNAVAILABLE, ERR_INVALID
 * names the property. */
FALLIBLE oci_unit_start(const struct oci_unit *u);
FALLIBLE oci_unit_update(const char *name, const json_t *resources); /* SetUnitProperties */
FALLIBLE oci_unit_stop(const char *name);                            /* gone is no error */
/* "a-b.slice" is "a.slice/a-b.slice"; "-.slice" is "". Owned. ERR_INVALID. */
FALLIBLE oci_slice_path(const char *slice, char **out_path);
