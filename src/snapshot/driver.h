/*
 * driver.h - one way to keep layers on disk. A driver fills and names nothing itself: snapshot.c gives it an empty,
 * locked directory, syncs it and renames it to ROOT/layers/<hex>.
 *
 * Layer: snapshot, private.
 */
#pragma once
#include "base/err.h"
#include "codec/zip.h"
#include "snapshot/snapshot.h"
#include <stdbool.h>
#include <stdint.h>

struct layer_driver {
	const char *name;
	/* NULL, or why it can't work on this root. */
	struct err *(*probe)(int root_fd);
	/* Reads a plain tar to its end marker into directory dir_fd. *out_size: bytes of content. */
	struct err *(*fill)(int dir_fd, struct zip_source tar, uint64_t *out_size);
	const char *lower; /* the subdirectory of a layer that overlayfs takes as lower */
	/*
	 * Compares the layer in dir_fd with its plain tar and tells each difference, with its place. scratch_fd: an empty
	 * directory that goes afterwards. tar.read NULL: its blob is not at hand; a driver that cannot do without it says
	 * ERR_UNSUPPORTED. ERR_CORRUPT: the tar is not diff_id. *out_size: bytes of content, as fill gives them.
	 */
	struct err *(*verify)(int dir_fd, const char *diff_id, struct zip_source tar, int scratch_fd, const struct layer_tell *tell,
			      uint64_t *out_size);
};
extern const struct layer_driver overlay_driver;

/*
 * extract.c: a plain tar into directory tree_fd (borrowed, empty). Symbolic links are resolved as inside a root and never
 * lead out. ERR_INVALID "NAME escapes the layer"; ERR_CORRUPT; as the kernel said. Stops at the end marker of the tar.
 * is_layer: .wh. names are whiteouts. Gives the calling thread a umask of its own.
 */
FALLIBLE extract_tar(int tree_fd, struct zip_source tar, bool is_layer, uint64_t *out_size);
/* compare.c: tells where the tree below have_fd is not as that below want_fd (both borrowed). */
FALLIBLE compare_trees(int have_fd, int want_fd, const struct layer_tell *tell);
/* SECURITY: what steers overlayfs is ours alone; what security modules of the host decide on is theirs. */
bool extract_wants_xattr(const char *key);
