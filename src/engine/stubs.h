/*
 * stubs.h - mount points that the runtime had to make: empty files and directories in an upper directory, where the layers below
 * have nothing. They belong to the run, not to what was changed in it; docker keeps them in a layer of their own.
 *
 * Layer: engine (internal).  Threads: any.  view_fd: a read-only view of the layers below (rootfs_view). Paths: absolute.
 */
#pragma once
#include "snapshot/snapshot.h"

/* Removes those of the targets that are in upper_fd (both borrowed), and directories that were made on the way. */
void stubs_remove(int upper_fd, int view_fd, char *const *targets);
/*
 * Of the mount points that every container has, those that are nothing but stubs in r's upper directory: paths without leading slash,
 * an owned list, NULL when there is none. Nothing is changed: the container may be running. out_view_fd: owned.
 */
FALLIBLE stubs_of(const struct rootfs *r, char ***out_paths, int *out_view_fd);
