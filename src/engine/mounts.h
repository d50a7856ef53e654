/*
 * mounts.h - what a create body wants mounted: as the record's Mounts array, and at each start as mounts of
 * an OCI specification.
 *
 * Layer: engine (internal).  Shapes: API MountPoint plus what is ours: HoyOptions (array of mount options),
 * HoyFlat (bind, not rbind), HoyTopOnly, HoyNoCopy, HoySubpath, HoyChown, HoyOverlay, HoyIdmap,
 * HoyAnonymous, HoyLayers and HoyImage (of type image).
 */
#pragma once
#include "base/err.h"
#include "base/vec.h"
#include "codec/json.h"
#include "engine/image.h"

/* What a creation keeps from being removed until its record names it. */
struct mounts_hold {
	VEC(int) fds; /* owned */
};
void mounts_hold_fini(struct mounts_hold *h);

/*
 * Sets doc.Mounts from HostConfig.VolumesFrom, .Binds, .Mounts, .Tmpfs and Config.Volumes, in the order of
 * their depth. Named volumes that are not there are made; an empty volume gets what the image has at its
 * place. ERR_INVALID "invalid volume specification …", "Duplicate mount point: …"; ERR_NOT_FOUND "bind source
 * path does not exist: …" (type bind; -v makes a directory), "No such container: …". hold (empty) is filled
 * also on error: to be ended after the record was written, or not. Volumes that were made for doc alone are
 * then volume_forget_of's.
 */
FALLIBLE mounts_plan(struct engine *e, const struct engine_image *image, json_t *doc,
		     struct mounts_hold *hold);

/*
 * doc.Mounts as OCI mounts, owned array. views: what must stay open until the container was started (images that are
 * mounted). Makes what they need (directories for overlays, missing volume
 * directories) and gives files to the container's user where that was asked for. root_fd: where users are
 * looked up. ERR_INVALID a source that can't be given away or shared.
 */
FALLIBLE mounts_spec(struct engine *e, const json_t *doc, int root_fd, struct mounts_hold *views, json_t **out_mounts);

/* Whether doc has a mount at a place. */
bool mounts_at(const json_t *doc, const char *target);
/* The layers (diff ids) and the ids of the images that doc has mounted; added to the lists (NULL: not wanted). */
void mounts_images(const json_t *doc, char ***layers, char ***ids);
