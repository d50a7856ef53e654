/*
 * sources.h - what the parent opens for the child's mounts, because the child could not any more or not with
 * the same effect.
 *
 * A child in a user namespace has no rights on the host's directories and can't id-map their mounts; a child
 * whose mounts were made private has lost the peer groups that slave and shared mounts need. Such mounts are
 * cloned by the parent, detached, and placed by the child. So are file systems on disks, which the child's
 * control group can't open, layers of an overlay, and parts of a directory (subpath). Layer: runtime, private.  Source: runtime-spec
 * config.md#mounts, mount_setattr(2).
 */
#pragma once
#include "runtime/plan.h"

struct sources {
	int *fds; /* per mount: what the parent made of it; a user namespace for a new file system with
		     idmap; -1: nothing */
	size_t n;
	int root; /* -1, or a clone of the root */
	int devices; /* -1, or a detached file system with the nodes "0", "1", … of the plan's devices, which
		      * only we can make for a user namespace; some may be missing */
};
#define SOURCES ((struct sources){ .fds = NULL, .root = -1, .devices = -1 })

/* Owned by out_sources (all fds close-on-exec), also on error. ERR_UNSUPPORTED: a file system that can't be
 * id-mapped. */
FALLIBLE sources_open(const struct plan *p, struct sources *out_sources);
void sources_fini(struct sources *s);
/* /proc/<pid>/{uid,gid}_map of a new user namespace; an empty set maps each of our own ids to itself. */
FALLIBLE sources_write_maps(pid_t pid, struct plan_idset uids, struct plan_idset gids);
