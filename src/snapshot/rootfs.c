/*
 * rootfs.c - layers above each other: what a container's root is made of, and views of it for ourselves.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "snapshot/driver.h"
#include "sys/fs.h"
#include "sys/mount.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

void rootfs_fini(struct rootfs *r)
{
	for (size_t i = 0; r->mounts && r->lower[i]; i++)
		own_close(&r->mounts[i]);
	free(r->mounts);
	text_list_free(r->lower);
	text_list_free(r->layers);
	free(r->upper);
	free(r->work);
	*r = (struct rootfs){ 0 };
}

/* mount: owned, or -1. */
static void add_lower(struct rootfs *r, const char *path, int mount, const char *hex)
{
	size_t n = text_list_len(r->lower);

	r->mounts = xrealloc(r->mounts, (n + 1) * sizeof *r->mounts);
	r->mounts[n] = mount;
	text_list_add(&r->lower, path);
	text_list_add(&r->layers, hex);
}

/* Where we can read it. */
static char *path_of(const char *lower, int mount)
{
	return mount < 0 ? xstrdup(lower) : xasprintf("/proc/self/fd/%d", mount);
}

char **rootfs_lower_of(const struct rootfs *r, int pid)
{
	char **list = NULL;

	for (size_t i = 0; r->lower[i]; i++) {
		auto_free char *path = r->mounts[i] < 0 || r->lower[i][0] != '/'
					   ? xstrdup(r->lower[i])
					   : xasprintf("/proc/%d/fd/%d", pid, r->mounts[i]);

		text_list_add(&list, path);
	}
	return list;
}

char **rootfs_lower_once(const struct rootfs *r)
{
	char **list = NULL;

	for (size_t i = 0; r->lower[i]; i++) {
		auto_free char *path =
		    r->mounts[i] < 0 || r->lower[i][0] == '/' ? xstrdup(r->lower[i]) : xasprintf(FS_LOWER_FD "%d", r->mounts[i]);

		text_list_add(&list, path);
	}
	return list;
}

void rootfs_share(struct snapshotter *s, const struct rootfs *r, int pid, int first_fd)
{
	struct rootfs_store at = snapshotter_store(s);

	for (size_t i = 0; at.shared_fd >= 0 && r->lower[i]; i++) {
		auto_free char *name = xasprintf("%d", pid),
			       *path = xasprintf("/proc/%d/fd/%d", pid, first_fd + (int)i);

		if (r->mounts[i] >= 0 && r->lower[i][0] == '/') /* devices are found by their files */
			shared_give(at.shared_fd, r->layers[i], name, path);
	}
}

/* An image without layers (FROM scratch): overlayfs wants one lower. */
static FALLIBLE rootfs_empty(const struct rootfs_store *s, struct rootfs *r)
{
	auto_free char *path = xasprintf("%s/empty", s->layers_path);
	int e = sys_mkdir(s->layers_fd, "empty", 0755);

	if (e == 0)
		e = sys_chmodat(s->layers_fd, "empty", 0755); /* whatever the umask */
	if (e < 0 && e != -EEXIST)
		return FAIL_OS(-e, "make %s", path);
	add_lower(r, path, -1, "");
	return NULL;
}

/* The upper directory is the container's root directory: it gets the mode and owner of the image's. */
static FALLIBLE make_upper(const char *dir, const char *lower, struct rootfs *r)
{
	auto_fd int at = sys_open_dir(dir), upper = -1;
	struct stat st;
	int made, e;

	if (at < 0)
		return FAIL_OS(-at, "open %s", dir);
	made = sys_mkdir(at, "upper", 0755);
	e = sys_mkdir(at, "work", 0700);
	if ((made < 0 && made != -EEXIST) || (e < 0 && e != -EEXIST))
		return FAIL_OS(made < 0 && made != -EEXIST ? -made : -e, "make directories in %s", dir);
	r->upper = xasprintf("%s/upper", dir);
	r->work = xasprintf("%s/work", dir);
	if (made == -EEXIST)
		return NULL;
	if ((e = sys_fstatat(AT_FDCWD, lower, &st, 0)) < 0)
		return FAIL_OS(-e, "look at %s", lower);
	if ((upper = sys_openat(at, "upper", O_RDONLY | O_DIRECTORY, 0)) < 0)
		return FAIL_OS(-upper, "open %s", r->upper);
	if ((e = sys_fchown(upper, st.st_uid, st.st_gid)) < 0 ||
	    (e = sys_fchmod(upper, st.st_mode & 07777)) < 0)
		return FAIL_OS(-e, "prepare %s", r->upper);
	return NULL;
}

/* overlayfs always merges the roots, so a layer whose root is opaque ends the list instead. */
static bool hides_all(const char *lower)
{
	auto_fd int fd = sys_open(lower, O_RDONLY | O_DIRECTORY, 0);
	char v[4];

	return fd >= 0 && fs_xattr_get(fd, ".", fs_mark_key(FS_MARK_OPAQUE), v, sizeof v) == 1 && v[0] == 'y';
}

/* One that a running container holds already, else a new one. */
static FALLIBLE lower_of(const struct rootfs_store *s, const char *hex, int layer_fd, char **out_path,
			 int *out_mount)
{
	const struct layer_driver *driver = layer_driver_of(layer_fd);
	auto_free char *dir = xasprintf("%s/%s", s->layers_path, hex);
	struct err *e;

	if (!driver)
		return FAIL(ERR_CORRUPT, "layer sha256:%s is damaged ('hoy verify --repair' mends it)", hex);
	if (driver == &erofs_driver && s->wants_loops)
		driver = &erofs_loop_driver;
	if (driver == &erofs_driver && (*out_mount = shared_take(s->shared_fd, hex)) >= 0) {
		*out_path = path_of("", *out_mount);
		return NULL;
	}
	e = driver->lower(layer_fd, dir, out_path, out_mount);
	if (!e || driver != &erofs_driver || e->kind != ERR_UNSUPPORTED)
		return e;
	err_free(e); /* an older kernel */
	return erofs_loop_driver.lower(layer_fd, dir, out_path, out_mount);
}

static FALLIBLE prepare_layer(const struct rootfs_store *s, const char *diff_id, struct rootfs *r,
			      bool *out_hides)
{
	const char *hex = digest_hex(diff_id);
	auto_fd int mount = kept_take(s->kept, hex, out_hides), fd = -1;
	auto_free char *path = NULL, *at = NULL;

	if (mount >= 0) {
		path = path_of("", mount);
	} else {
		fd = sys_openat(s->layers_fd, hex, O_RDONLY | O_DIRECTORY, 0);
		if (fd < 0)
			return FAIL_OS(-fd, "open layer %s", diff_id);
		TRY(lower_of(s, hex, fd, &path, &mount));
		at = path_of(path, mount);
		*out_hides = hides_all(at);
		if (mount >= 0 && path[0] == '/')
			kept_give(s->kept, hex, mount, *out_hides);
	}
	add_lower(r, path, TAKE_FD(mount), hex);
	return NULL;
}

/* A layer that comes again higher up is hidden there entirely by itself, and overlayfs refuses to have it
 * twice. */
static bool comes_again(char *const *diff_ids, size_t i)
{
	for (char *const *above = diff_ids + i + 1; *above; above++)
		if (strcmp(*above, diff_ids[i]) == 0)
			return true;
	return false;
}

FALLIBLE rootfs_prepare(struct snapshotter *s, char *const *diff_ids, const char *dir,
			struct rootfs *out_rootfs)
{
	size_t n = text_list_len(diff_ids);
	CLEANUP(rootfs_fini) struct rootfs r = { 0 };
	struct rootfs_store store = snapshotter_store(s);
	bool hidden = false;

	r.is_user = fs_marks_are_user();
	for (size_t i = n; i-- > 0;) {
		if (comes_again(diff_ids, i))
			continue;
		if (!layer_exists(s, diff_ids[i]))
			return FAIL(ERR_NOT_FOUND, "layer %s is missing ('hoy verify --repair' mends it)",
				    diff_ids[i]);
		if (!hidden)
			TRY(prepare_layer(&store, diff_ids[i], &r, &hidden));
	}
	if (n == 0)
		TRY(rootfs_empty(&store, &r));
	if (dir) {
		auto_free char *top = path_of(r.lower[0], r.mounts[0]);

		TRY(make_upper(dir, top, &r));
	}
	*out_rootfs = r;
	r = (struct rootfs){ 0 };
	return NULL;
}

/*
 * A work directory of our own: overlayfs empties the one it is given, which would be the running container's.
 * It also refuses one that a volatile mount has used.
 */
static FALLIBLE view_work(const struct rootfs *r, char **out_path)
{
	auto_free char *path = xasprintf("%s.view", r->work);
	int e = sys_mkdir(AT_FDCWD, path, 0700);

	if (e < 0 && e != -EEXIST)
		return FAIL_OS(-e, "make %s", path);
	*out_path = TAKE(path);
	return NULL;
}

FALLIBLE rootfs_view(const struct rootfs *r, int *out_root_fd)
{
	/* SECURITY: we only look at files; a device in an image must not open */
	struct mount_attr safe = { .attr_set = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC };
	struct fs_overlay o = { .lower = (const char *const *)r->lower,
				.n_lower = text_list_len(r->lower),
				.upper = r->upper,
				.is_user = r->is_user };
	auto_free char *work = NULL;
	auto_fd int fd = -1;
	int e;

	if (!r->upper)
		safe.attr_set |= MOUNT_ATTR_RDONLY;
	if (r->upper)
		TRY(view_work(r, &work));
	o.work = work;
	if (o.n_lower == 1 && !r->upper) {
		fd = fs_lower_mount(r->lower[0]);
		if (fd >= 0 && (e = sys_mount_setattr(fd, "", 0, &safe)) < 0)
			return FAIL_OS(-e, "view %s", r->lower[0]);
	} else {
		fd = fs_overlay_mount(&o, (unsigned)safe.attr_set);
	}
	if (fd == -E2BIG)
		return FAIL(ERR_UNSUPPORTED, "this kernel stacks %d layers at most (6.7 more)",
			    FS_OVERLAY_OLD_MAX);
	if (fd < 0)
		return FAIL_OS(-fd, "mount the layers");
	*out_root_fd = TAKE_FD(fd);
	return NULL;
}

FALLIBLE rootfs_view_read(const struct rootfs *r, int *out_root_fd)
{
	auto_list char **lower = NULL;
	struct rootfs below = { .is_user = r->is_user };

	if (!r->upper)
		return rootfs_view(r, out_root_fd);
	text_list_add(&lower, r->upper);
	for (size_t i = 0; r->lower[i]; i++)
		text_list_add(&lower, r->lower[i]);
	below.lower = lower;
	return rootfs_view(&below, out_root_fd);
}
