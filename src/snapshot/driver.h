/*
 * driver.h - one way to keep layers on disk. A driver names nothing itself: snapshot.c gives it an empty,
 * locked directory and, when the driver has made it durable, renames it to ROOT/layers/<hex>.
 *
 * Layer: snapshot, private.
 */
#pragma once
#include "base/err.h"
#include "base/vec.h"
#include "codec/zip.h"
#include "snapshot/snapshot.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct layer_draft {
	int dir_fd;            /* borrowed */
	int tar_fd, image_fd;  /* the erofs driver's, owned; else -1 */
	uint64_t size;         /* bytes of content */
	off_t written, behind; /* bytes of the tar; of them on their way to disk */
};
struct layer_driver {
	const char *name;
	const char
	    *mark; /* the name in a layer's directory by which the layer is known to be this driver's */
	/* NULL, or whether this kernel is one that it is for: else it is used only when it was asked for. */
	bool (*is_for_here)(void);
	/* NULL, or why it can't work on this root: ERR_UNSUPPORTED, ERR_DENIED. scratch_fd: an empty
	 * directory on its file system. */
	struct err *(*probe)(int root_fd, int scratch_fd);
	/* Begins a layer; out_copy is set when the driver wants the tar's bytes, too. */
	struct err *(*begin)(struct layer_draft *d, struct zip_sink *out_copy);
	/* Reads a plain tar to its end marker. */
	struct err *(*fill)(struct layer_draft *d, struct zip_source tar);
	bool
	    keeps_tars; /* a file that holds the plain tar and never changes can become the layer by itself */
	/* Instead of both: tar_fd (borrowed, at its start) is such a file; upper the directory it was made
	 * of, with times clamped to clamp_ns, which may be taken. NULL: there is none; only of a driver that
	 * keeps tars. */
	struct err *(*adopt)(struct layer_draft *d, int tar_fd, const char *upper, int64_t clamp_ns);
	/* Stamps it, and brings all of it to disk, names too. */
	struct err *(*seal)(struct layer_draft *d, const char *diff_id);
	uint64_t (*size)(int layer_fd); /* 0: not to be told */
	/* Either may be NULL. Owned fd of the plain tar that is kept; of the tree. Or -errno. */
	int (*tar)(int layer_fd);
	int (*tree)(int layer_fd);
	/*
	 * What overlayfs takes as lower: an absolute path (owned), or the mount it stands for (owned) in
	 * *out_mount, and a path to that, or its description (FS_LOWER_EROFS). path: of the layer's directory.
	 * ERR_UNSUPPORTED: of a driver whose probe says so.
	 */
	struct err *(*lower)(int layer_fd, const char *path, char **out_path, int *out_mount);
	/*
	 * Compares the layer in layer_fd with its plain tar and tells each difference, with its place.
	 * scratch_fd: an empty directory that goes afterwards, -1: the disk is read-only. tar.read NULL: its blob is
	 * not at hand. A driver that cannot do without says ERR_UNSUPPORTED. ERR_CORRUPT: the tar is not diff_id.
	 * *out_size: bytes of content, as fill gives them.
	 */
	struct err *(*verify)(int layer_fd, const char *diff_id, struct zip_source tar, int scratch_fd,
			      const struct layer_tell *tell, uint64_t *out_size);
};
extern const struct layer_driver overlay_driver, erofs_driver, erofs_loop_driver;
/* The driver of the layer in layer_fd; NULL: none knows it. What both erofs drivers can read is erofs_driver's. */
const struct layer_driver *layer_driver_of(int layer_fd);

/*
 * extract.c: a plain tar into directory tree_fd (borrowed, empty). Symbolic links are resolved as inside a
 * root and never lead out. ERR_INVALID "NAME escapes the layer"; ERR_CORRUPT; as the kernel said. Stops at
 * the end marker of the tar. is_layer: .wh. names are whiteouts. Gives the calling thread a umask of its own.
 */
FALLIBLE extract_tar(int tree_fd, struct zip_source tar, bool is_layer, uint64_t *out_size);
/* SECURITY: what steers overlayfs is ours alone; what security modules of the host decide on is theirs. */
bool extract_wants_xattr(const char *key);

/* patch.c: see layer_tar_patch. tree_fd borrowed. */
FALLIBLE patch_tar(int tree_fd, int tar_fd, uint64_t size, struct zip_sink sink);

/* compare.c: tells where the tree below have_fd is not as that below want_fd (both borrowed). */
FALLIBLE compare_trees(int have_fd, int want_fd, const struct layer_tell *tell);

/* shared.c: mounts of layers that running containers hold, see docs/why/erofs.md. shared_fd: RUN/shared, or
 * -1: none. */
int shared_take(int shared_fd, const char *hex); /* an owned copy of one, or -ENOENT */
void shared_give(int shared_fd, const char *hex, const char *name, const char *path); /* best effort */

/* shared.c: mounts that this process asked to keep, for it mounts the same layers again and again. */
struct kept_layer {
	char hex[DIGEST_MAX];
	int fd;	     /* owned */
	bool hides_all;
};
struct kept {
	pthread_mutex_t lock; /* guards all */
	bool is_on;
	VEC(struct kept_layer) layers;
};
void kept_fini(struct kept *k);
/* An owned fd of one, or -ENOENT. */
int kept_take(struct kept *k, const char *hex, bool *out_hides);
void kept_give(struct kept *k, const char *hex, int mount_fd, bool hides); /* best effort; mount_fd is borrowed */

/* rootfs.c: what it needs of a snapshotter. */
struct rootfs_store {
	int layers_fd, shared_fd; /* borrowed */
	struct kept *kept;	  /* borrowed */
	const char *layers_path;
	bool wants_loops; /* erofs-loop was asked for */
};
struct rootfs_store snapshotter_store(struct snapshotter *s);
