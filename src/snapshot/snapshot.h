/*
 * snapshot.h - layers as root file systems, behind one driver table (driver.h).
 *
 * A layer is named by its diff id; it is complete and durable or absent. ROOT/layers/<hex of diff id>/…
 * What a container sees is described as data (struct rootfs) and mounted by the runtime inside the container's own mount
 * namespace, so nothing of it ever stands in the host's mount table.
 * Layer: snapshot.  Threads: a snapshotter is shared; different layers in parallel.  Blocks: disk.
 */
#pragma once
#include "base/err.h"
#include "codec/digest.h"
#include "codec/zip.h"
#include "content/lease.h"
#include <stdbool.h>
#include <stdint.h>

struct snapshotter;
struct snapshotter_opts {
	const char *driver; /* "erofs", "erofs-loop", "overlay"; NULL or "": the first of these that works on this root and kernel */
	bool has_run;
	int run_fd; /* RUN, borrowed: where running containers share their layers */
};
/*
 * root_fd (borrowed): ROOT; o NULL: none of the options. A driver that was asked for and can't work is ERR_UNSUPPORTED or ERR_DENIED
 * with the cause; where a full disk or a read-only one does not let that be found out, when the first layer is made. Layers of the other driver that are there already are used all the same.
 */
FALLIBLE snapshotter_open(int root_fd, const struct snapshotter_opts *o, struct snapshotter **out_s);
void snapshotter_close(struct snapshotter *s);
/* The driver of new layers, and why one that would come before it is not used ("erofs: …") or NULL; borrowed. Probes at first use. Where
 * that is not to be found out now (a full or read-only disk): what was asked for or "unknown", and the cause. */
FALLIBLE snapshotter_driver(struct snapshotter *s, const char **out_name, const char **out_why_not);

/* From now on l (borrowed; NULL: nobody) holds each layer that is asked for (layer_exists) or made, before it is looked for or named. */
void snapshotter_lease(struct snapshotter *s, struct lease *l);

/* From now on layers that are mounted stay so until s is closed: for who mounts the same ones again and again. */
void snapshotter_keep_mounts(struct snapshotter *s);

/* Whether layer_adopt of a tar copies nothing. */
bool snapshotter_keeps_tars(struct snapshotter *s);
const char *layer_driver_name(const struct snapshotter *s, const char *diff_id); /* "" when it is not there */

bool layer_exists(const struct snapshotter *s, const char *diff_id);
uint64_t layer_size(const struct snapshotter *s, const char *diff_id); /* bytes of content as docker counts them */
/* A layer that is known before it is made: it is made once, whoever wants it, in whichever process. */
struct layer_want {
	const char *diff_id;
	/* ERR_CONFLICT when somebody else is making it; else they are waited for as long as they get on. Who waits should have
	 * all of source at hand: who makes it may be waiting for theirs. */
	bool is_ahead;
	/* NULL, or called when the content turned out to be diff_id and is on disk, before anybody sees the layer. Its error: there
	 * is none. */
	struct err *(*proven)(void *ctx);
	void *ctx;
};
/*
 * Reads a plain tar from source to its end, hashes it on the way, extracts it and names it durably. want NULL: take what it
 * is. Else nothing is read where the layer is there, or somebody else makes it meanwhile; out_diff_id is NULL then.
 * ERR_CORRUPT on mismatch; ERR_INVALID "… escapes the layer"; nothing left on error.
 */
FALLIBLE layer_apply(struct snapshotter *s, struct zip_source source, const struct layer_want *want,
		     char out_diff_id[DIGEST_MAX]);
FALLIBLE layer_delete(struct snapshotter *s, const char *diff_id); /* absent is no error */
/* The name goes now, its room, which takes longer, with layers_deleted_free or snapshotter_close. */
FALLIBLE layer_unname(struct snapshotter *s, const char *diff_id);
void layers_deleted_free(struct snapshotter *s);
/* Told of each thing in a layer that is not as it was applied: path below its root, and what ("mode is 0700, not 0755"). */
struct layer_tell {
	void (*tell)(void *ctx, const char *path, const char *what);
	void *ctx;
};
/*
 * Compares a layer, byte for byte, with what its plain tar makes. tar.read NULL: its blob is not at hand; ERR_UNSUPPORTED where
 * the driver needs it. Errors tell why it could not be compared; ERR_CORRUPT: tar is not that diff id. Needs room for a copy
 * of the layer where it is a tree.
 */
FALLIBLE layer_verify(struct snapshotter *s, const char *diff_id, struct zip_source tar, const struct layer_tell *tell);
/*
 * What a layer can do for a blob that is damaged: the plain tar that the driver keeps (owned fd; it may be the same file as the blob.
 * ERR_NOT_FOUND: it keeps none).
 */
FALLIBLE layer_tar_open(const struct snapshotter *s, const char *diff_id, int *out_fd);
/*
 * … or tar_fd (borrowed), a damaged plain tar of the layer, into sink: the content of files from the layer's tree, all else as it
 * is there, with zeros up to size (0: its own). ERR_NOT_FOUND: the layer has no tree of its own. Whether it is whole its digest tells.
 */
FALLIBLE layer_tar_patch(const struct snapshotter *s, const char *diff_id, int tar_fd, uint64_t size, struct zip_sink sink);
FALLIBLE layer_each(const struct snapshotter *s, struct err *(*each)(void *ctx, const char *diff_id, uint64_t size),
		    void *ctx);

/* What the runtime mounts. Lower paths topmost first, as overlayfs counts. All strings and fds owned. */
struct rootfs {
	char **lower;	/* NULL-terminated absolute paths of layer trees; topmost first. "/proc/self/fd/N", FS_LOWER_EROFS: one of mounts */
	int *mounts;	/* per lower: a detached mount, or -1 */
	char **layers;	/* per lower: hex of its diff id, or "" */
	char *upper;	/* absolute, or NULL: read-only */
	char *work;
	bool is_volatile; /* --rm: the upper needs no durability */
	bool is_user;	  /* overlayfs's marks are user attributes (fs_marks_are_user) */
};
void rootfs_fini(struct rootfs *r);
/* The lowers as another process names them while we live: a list, owned. */
char **rootfs_lower_of(const struct rootfs *r, int pid);
/* The lowers for one child of ours, which may use our mounts up: a list, owned. */
char **rootfs_lower_once(const struct rootfs *r);
/*
 * Says that process pid holds a copy of the mount of lower i as fd first_fd + i: whoever mounts the same layer while that process
 * lives takes it from there, so that its pages are in memory once.
 */
void rootfs_share(struct snapshotter *s, const struct rootfs *r, int pid, int first_fd);
/* diff_ids bottom first, as in an image config. dir: absolute path of an existing private directory, or NULL (read-only);
 * upper/ and work/ are created in it. ERR_NOT_FOUND names the missing layer. */
FALLIBLE rootfs_prepare(struct snapshotter *s, char *const *diff_ids, const char *dir, struct rootfs *out_rootfs);
/*
 * A private view for ourselves (docker cp, build COPY, export): an owned fd of the root of a detached mount; closing it
 * unmounts it. Nothing appears in any mount table.
 */
FALLIBLE rootfs_view(const struct rootfs *r, int *out_root_fd);
/* The same to read only, also where r can be written: closing it costs less, because nothing needs to be synced. */
FALLIBLE rootfs_view_read(const struct rootfs *r, int *out_root_fd);
/*
 * The difference of an upper directory (as overlayfs left it) to its lowers as a reproducible plain tar: sorted by name,
 * whiteouts as .wh. files, overlay xattrs dropped, sockets skipped. mtimes above clamp_ns (if >= 0) are set to it. skip: paths without
 * leading slash that are left out with all below them, or NULL.
 */
FALLIBLE rootfs_diff(const char *upper, char *const *skip, int64_t clamp_ns, struct zip_sink sink);
/*
 * The same for people: each change in order of paths ("/etc/x"), kind 'A' added, 'C' changed, 'D' deleted. A directory is changed when
 * something in it is, or its owner, mode or time. below_fd (borrowed): a view of the layers below. Errors of each end it.
 */
FALLIBLE rootfs_changes(const char *upper, int below_fd, char *const *skip, struct err *(*each)(void *ctx, char kind, const char *path),
			void *ctx);
/*
 * A layer of what is in the store already: tar_fd (borrowed, at its start) is a blob, the plain tar of diff_id, verified and on disk.
 * upper, when not NULL: the directory it was made of by rootfs_diff with clamp_ns. The overlay driver takes upper as the layer, or
 * extracts the tar; the erofs driver indexes the blob and gives it a second name: no byte is copied. Who else makes it is waited for.
 */
FALLIBLE layer_adopt(struct snapshotter *s, int tar_fd, const char *upper, int64_t clamp_ns, const char *diff_id);
/*
 * A tar (perhaps compressed) into directory tree_fd (borrowed), over what is there, never leading out of it, even when a
 * container changes the tree meanwhile. Names with .wh. are ordinary. What was extracted before an error stays.
 */
FALLIBLE snapshot_extract(int tree_fd, struct zip_source source);
/* The other way: the tree of an open directory (borrowed), its own entry "." first, as a reproducible plain tar; sockets skipped. */
FALLIBLE snapshot_archive(int tree_fd, struct zip_sink sink);
/* One entry of the directory with all below it, under its name. */
FALLIBLE snapshot_archive_entry(int dir_fd, const char *name, struct zip_sink sink);
