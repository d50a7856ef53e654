/*
 * driver.h - one way to keep layers on disk. A driver fills and names nothing itself: snapshot.c gives it an empty,
 * locked directory, syncs it and renames it to ROOT/layers/<hex>.
 *
 * Layer: snapshot, private.
 */
#pragma once
#include "base/err.h"
#include "codec/zip.h"
#include <stdbool.h>
#include <stdint.h>

struct layer_driver {
	const char *name;
	/* NULL, or why it can't work on this root. */
	struct err *(*probe)(int root_fd);
	/* Reads a plain tar to its end marker into directory dir_fd. *out_size: bytes of content. */
	struct err *(*fill)(int dir_fd, struct zip_source tar, uint64_t *out_size);
	const char *lower; /* the subdirectory of a layer that overlayfs takes as lower */
};
extern const struct layer_driver overlay_driver;

/*
 * extract.c: a plain tar into directory tree_fd (borrowed, empty). Symbolic links are resolved as inside a root and never
 * lead out. ERR_INVALID "NAME escapes the layer"; ERR_CORRUPT; as the kernel said. Stops at the end marker of the tar.
 * is_layer: .wh. names are whiteouts. Gives the calling thread a umask of its own.
 */
FALLIBLE extract_tar(int tree_fd, struct zip_source tar, bool is_layer, uint64_t *out_size);
