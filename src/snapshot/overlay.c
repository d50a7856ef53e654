/*
 * overlay.c - the driver that keeps a layer as a directory tree, with whiteouts as overlayfs has them:
 * ROOT/layers/<hex>/tree.
 */
#include "base/map.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "snapshot/driver.h"
#include "snapshot/pump.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

static struct err *overlay_probe(int root_fd, int scratch_fd)
{
	auto_fd int fs = sys_fsopen("overlay");

	(void)root_fd;
	(void)scratch_fd;
	if (fs == -ENODEV)
		return FAIL(ERR_UNSUPPORTED, "this kernel has no overlay file system (modprobe overlay)");
	if (fs == -EPERM)
		return FAIL(ERR_DENIED, "mounting needs root");
	return fs < 0 ? FAIL_OS(-fs, "open the overlay file system") : NULL;
}

static struct err *overlay_begin(struct layer_draft *d, struct zip_sink *out_copy)
{
	auto_fd int tree = -1;
	int r = sys_mkdir(d->dir_fd, "tree", 0755);

	(void)out_copy;
	if (r < 0 || (tree = sys_openat(d->dir_fd, "tree", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(r < 0 ? -r : -tree, "make the layer's tree");
	/* of a setgid parent's and the umask's making nothing stays */
	r = sys_fchown(tree, 0, 0);
	if (r < 0 || (r = sys_fchmod(tree, 0755)) < 0)
		return FAIL_OS(-r, "make the layer's tree");
	return NULL;
}

static struct err *overlay_fill(struct layer_draft *d, struct zip_source tar)
{
	auto_fd int tree = sys_openat(d->dir_fd, "tree", O_RDONLY | O_DIRECTORY, 0);

	return tree < 0 ? FAIL_OS(-tree, "open the layer's tree") : extract_tar(tree, tar, true, &d->size);
}

static struct err *fill(void *ctx, struct zip_source tar)
{
	return overlay_fill(ctx, tar);
}

/* ---- a directory becomes a layer ---- */

/* A tree that becomes a layer: bytes of content (a file with several names counts once), and times as its tar
 * has them. */
struct settling {
	struct map seen;
	uint64_t size;
	int64_t clamp_ns;
};

static void settling_fini(struct settling *s)
{
	map_fini(&s->seen);
}

static void settle_size(struct settling *s, const struct stat *st)
{
	char key[32];
	void **slot = NULL;

	(void)snprintf(key, sizeof key, "%llx", (unsigned long long)st->st_ino);
	if (st->st_nlink > 1)
		slot = map_put(&s->seen, key);
	if (!slot || !*slot)
		s->size += (uint64_t)st->st_size;
	if (slot)
		*slot = s;
}

static FALLIBLE settle_time(const struct settling *s, int dir_fd, const char *name, const struct stat *st)
{
	const struct timespec to = { s->clamp_ns / 1000000000, s->clamp_ns % 1000000000 };
	const struct timespec times[2] = { to, to };
	int r;

	if (s->clamp_ns < 0 || st->st_mtim.tv_sec * INT64_C(1000000000) + st->st_mtim.tv_nsec <= s->clamp_ns)
		return NULL;
	r = sys_utimens(dir_fd, name, times, AT_SYMLINK_NOFOLLOW);
	return r < 0 ? FAIL_OS(-r, "set the time of %s", name) : NULL;
}

static FALLIBLE settle(struct settling *s, int dir_fd)
{
	auto_list char **names = NULL;
	int r = fs_list(dir_fd, &names);

	if (r < 0)
		return FAIL_OS(-r, "list a directory of the layer");
	for (size_t i = 0; names[i]; i++) {
		struct stat st;

		if ((r = sys_fstatat(dir_fd, names[i], &st, AT_SYMLINK_NOFOLLOW)) < 0)
			return FAIL_OS(-r, "look at %s", names[i]);
		if (S_ISDIR(st.st_mode)) {
			auto_fd int fd = sys_openat(dir_fd, names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);

			if (fd < 0)
				return FAIL_OS(-fd, "open %s", names[i]);
			TRY(settle(s, fd));
		} else if (S_ISREG(st.st_mode)) {
			settle_size(s, &st);
		}
		TRY(settle_time(s, dir_fd, names[i], &st));
	}
	return NULL;
}

static struct err *overlay_adopt(struct layer_draft *d, int tar_fd, const char *upper, int64_t clamp_ns)
{
	CLEANUP(settling_fini) struct settling settling = { .clamp_ns = clamp_ns };
	auto_fd int tree = sys_open(upper, O_RDONLY | O_DIRECTORY, 0);
	int r;

	(void)tar_fd;
	if (tree < 0)
		return FAIL_OS(-tree, "adopt %s as a layer", upper);
	TRY(settle(&settling, tree));
	if ((r = sys_renameat(AT_FDCWD, upper, d->dir_fd, "tree", 0)) < 0)
		return FAIL_OS(-r, "adopt %s as a layer", upper);
	d->size = settling.size;
	return NULL;
}

/* One syncfs for all of its files. */
static struct err *overlay_seal(struct layer_draft *d, const char *diff_id)
{
	char text[32];
	auto_fd int fd = sys_openat(d->dir_fd, "size", O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int n = snprintf(text, sizeof text, "%llu\n", (unsigned long long)d->size);
	int r = fd < 0 ? fd : sys_write_all(fd, text, (size_t)n);

	(void)diff_id;
	if (r >= 0)
		r = sys_syncfs(d->dir_fd);
	return r < 0 ? FAIL_OS(-r, "sync") : NULL;
}

static uint64_t overlay_size(int layer_fd)
{
	auto_fd int fd = sys_openat(layer_fd, "size", O_RDONLY | O_NONBLOCK, 0); /* of a rotten inode a pipe may have become */
	char text[32];
	ssize_t n = fd < 0 ? -1 : sys_read(fd, text, sizeof text);
	uint64_t size = 0;

	if (n > 0)
		err_free(num_parse(sv_trim(sv_from(text, (size_t)n)), 10, 0, UINT64_MAX, &size));
	return size;
}

static int overlay_tree(int layer_fd)
{
	return sys_openat(layer_fd, "tree", O_RDONLY | O_DIRECTORY, 0);
}

static struct err *overlay_lower(int layer_fd, const char *path, char **out_path, int *out_mount)
{
	(void)layer_fd;
	*out_path = xasprintf("%s/tree", path);
	*out_mount = -1;
	return NULL;
}

/* The tar is extracted once more, and the two trees compared. */
static struct err *overlay_verify(int layer_fd, const char *diff_id, struct zip_source tar, int scratch_fd,
				  const struct layer_tell *tell, uint64_t *out_size)
{
	auto_fd int have = sys_openat(layer_fd, "tree", O_RDONLY | O_DIRECTORY, 0), want = -1;
	struct layer_draft again = { .dir_fd = scratch_fd, .tar_fd = -1, .image_fd = -1 };
	struct zip_sink none;
	char got[DIGEST_MAX];

	if (!tar.read)
		return FAIL(ERR_UNSUPPORTED, "its blob is not in the store");
	if (scratch_fd < 0)
		return FAIL(ERR_UNSUPPORTED, "the disk is read-only");
	TRY(overlay_begin(&again, &none));
	TRY(pump_run(tar, &(struct pump_job){ fill, &again }, got));
	*out_size = again.size;
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

const struct layer_driver overlay_driver = {
	.name = "overlay",
	.mark = "tree",
	.probe = overlay_probe,
	.begin = overlay_begin,
	.fill = overlay_fill,
	.adopt = overlay_adopt,
	.seal = overlay_seal,
	.size = overlay_size,
	.tree = overlay_tree,
	.lower = overlay_lower,
	.verify = overlay_verify,
};
