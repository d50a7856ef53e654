/*
 * record.h - named records in one directory, replaced atomically and durably.
 *
 * A reader sees the whole old body or the whole new one, also after a crash or on a full disk.
 * Layer: state (may use base, sys).  Format: docs/formats/state.md section 2.
 * Threads: different names are independent; for one name the caller serialises.  Blocks: yes (fsync).
 */
#pragma once
#include "base/err.h"
#include <stddef.h>

#define RECORD_NAME_MAX 64	   /* bytes, [a-z0-9._-], not starting with '.' */
#define RECORD_BODY_MAX (16u << 20) /* bytes; the index of the images is the largest */

/*
 * Replaces record `name` in directory `dir_fd` (borrowed) by the `len` bytes at `body` (borrowed).
 * Returns once the bytes and the directory entry are on disk.
 * Errors: ERR_INVALID bad name; ERR_LIMIT body too large, disk full; else as the kernel said.
 * On error the old record stands, unless only the last directory sync failed: then either may.
 */
FALLIBLE record_write(int dir_fd, const char *name, const void *body, size_t len);
/* The same without the syncs: for the run directory on tmpfs, where a reboot empties it anyway. */
FALLIBLE record_write_volatile(int dir_fd, const char *name, const void *body, size_t len);
/* The body, owned and NUL-terminated; ERR_NOT_FOUND. */
FALLIBLE record_read(int dir_fd, const char *name, char **out_body, size_t *out_len);
