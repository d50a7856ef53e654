/*
 * overlay.c - the driver that keeps a layer as a directory tree, with whiteouts as overlayfs has them:
 * ROOT/layers/<hex>/tree.
 */
#include "base/own.h"
#include "snapshot/driver.h"
#include "snapshot/pump.h"
#include "sys/cgroup.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>

static struct err *overlay_probe(int root_fd)
{
	auto_fd int fs = sys_fsopen("overlay");
	char root[40];

	if (fs == -ENODEV)
		return FAIL(ERR_UNSUPPORTED, "this kernel has no overlay file system (modprobe overlay)");
	if (fs == -EPERM)
		return FAIL(ERR_DENIED, "mounting needs root");
	if (fs < 0)
		return FAIL_OS(-fs, "open the overlay file system");
	(void)snprintf(root, sizeof root, "/proc/self/fd/%d", root_fd);
	if (sys_fs_magic(root) == OVERLAYFS_SUPER_MAGIC)
		return FAIL(ERR_UNSUPPORTED,
			    "the root directory lies on an overlay itself, which can't hold another's upper "
			    "layer (put it on a volume: --root)");
	return NULL;
}

static struct err *overlay_fill(int dir_fd, struct zip_source tar, uint64_t *out_size)
{
	auto_fd int tree = -1;
	int r = sys_mkdir(dir_fd, "tree", 0755);

	if (r < 0 || (tree = sys_openat(dir_fd, "tree", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(r < 0 ? -r : -tree, "make the layer's tree");
	/* of a setgid parent's and the umask's making nothing stays */
	if ((r = sys_fchown(tree, 0, 0)) < 0 || (r = sys_fchmod(tree, 0755)) < 0)
		return FAIL_OS(-r, "make the layer's tree");
	return extract_tar(tree, tar, true, out_size);
}

struct filling {
	int dir_fd;
	uint64_t *size;
};

static struct err *fill(void *ctx, struct zip_source tar)
{
	struct filling *f = ctx;

	return overlay_fill(f->dir_fd, tar, f->size);
}

/* The tar is extracted once more, and the two trees compared. */
static struct err *overlay_verify(int dir_fd, const char *diff_id, struct zip_source tar, int scratch_fd,
				  const struct layer_tell *tell, uint64_t *out_size)
{
	auto_fd int have = sys_openat(dir_fd, "tree", O_RDONLY | O_DIRECTORY, 0), want = -1;
	struct filling f = { scratch_fd, out_size };
	char got[DIGEST_MAX];

	if (!tar.read)
		return FAIL(ERR_UNSUPPORTED, "its blob is not in the store");
	TRY(pump_run(tar, fill, &f, got));
	if (strcmp(got, diff_id) != 0)
		return FAIL(ERR_CORRUPT, "its blob holds %s", got);
	if (have == -ENOENT) {
		tell->tell(tell->ctx, "/", "is missing");
		return NULL;
	}
	if (have >= 0)
		want = sys_openat(scratch_fd, "tree", O_RDONLY | O_DIRECTORY, 0);
	if (have < 0 || want < 0)
		return FAIL_OS(have < 0 ? -have : -want, "open the layer's tree");
	return compare_trees(have, want, tell);
}

const struct layer_driver overlay_driver = { "overlay", overlay_probe, overlay_fill, "tree", overlay_verify };
