/*
 * temp.h - files in ROOT/tmp: each is flocked by whoever writes it, so that what a crash left is told from what somebody is at.
 *
 * ingest-* and lease-* are worth nothing without an owner; part-<hex> and upload-<hex> wait.
 * Layer: content, private.  Threads: any.
 */
#pragma once
#include <stdint.h>

/* Created, empty and locked. Owned fd, or -errno. */
int temp_create(int tmp_fd, const char *name, int flags);
/* Removes all that nobody holds; of what waits only what has done so for part_seconds, or is a blob's second name. */
void temp_sweep(int tmp_fd, int64_t part_seconds);
