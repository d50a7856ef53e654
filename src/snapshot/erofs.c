/*
 * erofs.c - the driver that unpacks nothing: ROOT/layers/<hex>/layer.tar, the plain tar, and layer.erofs, the
 * metadata that makes a file system of it.
 */
#include "snapshot/erofs.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "codec/tar.h"
#include "snapshot/driver.h"
#include "snapshot/pump.h"
#include "sys/cgroup.h"
#include "sys/fs.h"
#include "sys/loop.h"
#include "sys/mount.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/file.h>

#define TAR_NAME   "layer.tar"
#define IMAGE_NAME "layer.erofs"
enum { CHUNK = 1 << 18, BEHIND = 8 << 20 };

/* ---- mounts ---- */

/* Options are at most 255 bytes: so files are named by fd. */
static int set_file(int fs, const char *key, int fd)
{
	char path[40];

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return sys_fsconfig(fs, FSCONFIG_SET_STRING, key, path);
}

/* ---- read-ahead ---- */

/* The kernel numbers what reads for a superblock ("erofs-25862") and tells nobody which is whose: so the one
 * that is new is ours. */
struct readers {
	unsigned long long highest, since; /* the highest number; how many are above since */
	unsigned n_new;
};

static int look_at_reader(void *ctx, const char *name)
{
	struct readers *r = ctx;
	uint64_t n = 0;
	struct err *e =
	    strncmp(name, "erofs-", 6) == 0 ? num_parse(sv_of(name + 6), 10, 0, UINT64_MAX, &n) : NULL;

	err_free(e);
	r->n_new += n > r->since;
	r->highest = n > r->highest ? n : r->highest;
	return 0;
}

static struct readers readers_above(unsigned long long since)
{
	struct readers r = { .since = since };
	auto_fd int dir = sys_open("/sys/class/bdi", O_RDONLY | O_DIRECTORY, 0);

	if (dir >= 0)
		(void)sys_each_entry(dir, look_at_reader, &r);
	return r;
}

/* The default of 128 KiB makes four times as many page faults when programs start. Without /sys, or when
 * somebody else mounted at the same time, it stays at that. */
static void read_ahead(unsigned long long before)
{
	struct readers now = readers_above(before);
	char path[64];
	auto_fd int fd = -1;

	if (now.n_new != 1)
		return;
	(void)snprintf(path, sizeof path, "/sys/class/bdi/erofs-%llu/read_ahead_kb", now.highest);
	fd = sys_open(path, O_WRONLY, 0);
	if (fd >= 0)
		(void)sys_write(fd, "1024", 4);
}

int erofs_mount(int image_fd, int tar_fd)
{
	auto_fd int fs = sys_fsopen("erofs"), mount = -1;
	unsigned long long before = fs < 0 ? 0 : readers_above(ULLONG_MAX).highest;
	int r = fs < 0 ? fs : set_file(fs, "source", image_fd);

	if (r >= 0)
		r = set_file(fs, "device", tar_fd);
	if (r >= 0)
		r = sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL);
	if (r < 0 || (mount = sys_fsmount(fs, MOUNT_ATTR_RDONLY)) < 0)
		return r < 0 ? r : mount;
	read_ahead(before);
	return TAKE_FD(mount);
}

bool erofs_is_mount_of(int mount_fd, const char *hex)
{
	uint64_t fsid = 0, want = 0;

	for (size_t i = 0; i < 8; i++) {
		char pair[3] = { hex[2 * i], hex[2 * i + 1], 0 },
		     other[3] = { hex[2 * i + 16], hex[2 * i + 17], 0 };

		want |= (uint64_t)(strtoul(pair, NULL, 16) ^ strtoul(other, NULL, 16)) << 8 * i;
	}
	return sys_fs_magic_fd(mount_fd, &fsid) == EROFS_SUPER_MAGIC_V1 && fsid == want;
}

/* ---- whether it works here ---- */

static struct err *give(void *ctx, const void *p, size_t n)
{
	const int *fd = ctx;
	int r = sys_write_all(*fd, p, n);

	return r < 0 ? FAIL_OS(-r, "write") : NULL;
}

static FALLIBLE make_sample(int tar_fd, int image_fd)
{
	const struct tar_entry e = { .name = "file", .link = "", .type = '0', .mode = 0644, .size = 3 };
	auto_tar_writer struct tar_writer *w = NULL;
	uint64_t size;
	off_t r;

	TRY(tar_writer_new((struct zip_sink){ give, &tar_fd }, &w));
	TRY(tar_add(w, &e));
	TRY(tar_write(w, "abc", 3));
	TRY(tar_finish(w));
	if ((r = sys_lseek(tar_fd, 0, SEEK_SET)) < 0)
		return FAIL_OS((int)-r, "seek");
	return erofs_index(zip_source_file(&tar_fd), image_fd, &size);
}

static FALLIBLE mount_failed(int r, const char *what)
{
	if (r == -ENODEV)
		return FAIL(ERR_UNSUPPORTED, "this kernel has no EROFS (modprobe erofs)");
	if (r == -ENOTBLK)
		return FAIL(ERR_UNSUPPORTED,
			    "this kernel (6.12 can) or the file system of the root cannot mount a file");
	if (r == -EPERM)
		return FAIL(ERR_DENIED, "mounting needs root");
	return FAIL_OS(-r, "mount %s", what);
}

/* lower: of the sample, as overlayfs gets it; mount: the same. */
static FALLIBLE try_lower(const char *lower, int mount, int scratch_fd)
{
	auto_fd int file = sys_openat(mount, "file", O_RDONLY, 0), overlay = -1;
	char link[40], upper[PATH_MAX], text[4] = "";
	const char *const both[] = { upper, lower, NULL };
	int r;

	if (file < 0 || sys_read(file, text, 3) != 3 || strcmp(text, "abc") != 0)
		return FAIL(ERR_UNSUPPORTED, "a sample cannot be read (blocks of 512 bytes need 6.4)");
	(void)snprintf(link, sizeof link, "/proc/self/fd/%d", scratch_fd);
	if ((r = (int)sys_readlink(AT_FDCWD, link, upper, sizeof upper)) < 0) /* by path: it may be mounted in another namespace */
		return FAIL_OS(-r, "find the path of a sample");
	overlay = fs_overlay_mount(&(struct fs_overlay){ .lower = both, .n_lower = 2 }, MOUNT_ATTR_RDONLY);
	return overlay < 0 ? FAIL_OS(-overlay, "stack upon a sample") : NULL;
}

/* Overlayfs and the keeper want copies of mounts that have no place. */
static FALLIBLE check_copy(int mount)
{
	auto_fd int copy = sys_open_tree(mount, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);

	return copy < 0 ? FAIL(ERR_UNSUPPORTED, "this kernel cannot copy a mount that has no place (6.15 can)") : NULL;
}

static FALLIBLE loops_failed(int r)
{
	if (r == -ENOENT || r == -ENODEV)
		return FAIL(ERR_UNSUPPORTED, "no loop devices here (modprobe loop)");
	if (r == -EPERM || r == -EACCES)
		return FAIL(ERR_DENIED, "loop devices need root");
	return FAIL_OS(-r, "make a loop device");
}

/* As overlayfs and the keeper of a container get it. */
static FALLIBLE mount_loops(int image_fd, int tar_fd, char **out_lower, int *out_mount)
{
	char image_path[SYS_LOOP_PATH_MAX], tar_path[SYS_LOOP_PATH_MAX];
	auto_fd int image = sys_loop_of(image_fd, image_path), tar = image < 0 ? image : sys_loop_of(tar_fd, tar_path);
	int r;

	if (tar < 0)
		return loops_failed(tar);
	r = fs_erofs_mount(image_path, tar_path);
	if (r < 0)
		return mount_failed(r, image_path);
	*out_lower = xasprintf(FS_LOWER_EROFS "%s:%s", image_path, tar_path);
	*out_mount = r;
	return NULL;
}

/* One caller at a time, so that two share their devices. The device keeps our open file, and with it the lock: so that is given back. */
static FALLIBLE lower_of_loops(int image_fd, int tar_fd, char **out_lower, int *out_mount)
{
	int r = sys_flock(image_fd, LOCK_EX);
	struct err *e = r < 0 ? FAIL_OS(-r, "lock a layer") : mount_loops(image_fd, tar_fd, out_lower, out_mount);

	(void)sys_flock(image_fd, LOCK_UN);
	return e;
}

static FALLIBLE try_sample(int tar_fd, int image_fd, int scratch_fd)
{
	auto_fd int mount = erofs_mount(image_fd, tar_fd);
	char lower[40];

	if (mount < 0)
		return mount_failed(mount, "a sample");
	TRY(check_copy(mount));
	(void)snprintf(lower, sizeof lower, "/proc/self/fd/%d", mount);
	return try_lower(lower, mount, scratch_fd);
}

static FALLIBLE try_loops(int tar_fd, int image_fd, int scratch_fd)
{
	auto_free char *lower = NULL;
	auto_fd int mount = -1;

	TRY(lower_of_loops(image_fd, tar_fd, &lower, &mount));
	return try_lower(lower, mount, scratch_fd);
}

static FALLIBLE probe(int scratch_fd, struct err *(*try)(int tar_fd, int image_fd, int scratch_fd))
{
	auto_fd int tar = sys_openat(scratch_fd, TAR_NAME, O_RDWR | O_CREAT | O_TRUNC, 0600);
	auto_fd int image = sys_openat(scratch_fd, IMAGE_NAME, O_RDWR | O_CREAT | O_TRUNC, 0600);

	if (tar < 0 || image < 0)
		return FAIL_OS(tar < 0 ? -tar : -image, "make a sample");
	TRY(make_sample(tar, image));
	return try(tar, image, scratch_fd);
}

static struct err *erofs_probe(int root_fd, int scratch_fd)
{
	(void)root_fd;
	return probe(scratch_fd, try_sample);
}

/* Where mounts without a place can be copied (6.15), files can be mounted as well (6.12). */
static bool loops_are_for_here(void)
{
	auto_fd int fs = sys_fsopen("tmpfs"), mount = -1;
	struct err *e;
	bool can_copy;

	if (fs < 0 || sys_fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL) < 0 || (mount = sys_fsmount(fs, 0)) < 0)
		return false;
	e = check_copy(mount);
	can_copy = !e;
	err_free(e);
	return !can_copy;
}

static struct err *loops_probe(int root_fd, int scratch_fd)
{
	(void)root_fd;
	return probe(scratch_fd, try_loops);
}

/* ---- making ---- */

/* The disk writes while others compute: little is left for the sync at the end. */
static struct err *copy_tar(void *ctx, const void *p, size_t n)
{
	struct layer_draft *d = ctx;
	int r = sys_write_all(d->tar_fd, p, n);

	if (r < 0)
		return FAIL_OS(-r, "write the layer's tar");
	d->written += (off_t)n;
	if (d->written - d->behind >= BEHIND) {
		(void)sys_write_behind(d->tar_fd, d->behind, d->written - d->behind);
		d->behind = d->written;
	}
	return NULL;
}

static FALLIBLE make(struct layer_draft *d, const char *name, int *out_fd)
{
	int r = sys_openat(d->dir_fd, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	if (r < 0)
		return FAIL_OS(-r, "make %s", name);
	*out_fd = r;
	return NULL;
}

static struct err *erofs_begin(struct layer_draft *d, struct zip_sink *out_copy)
{
	TRY(make(d, TAR_NAME, &d->tar_fd));
	TRY(make(d, IMAGE_NAME, &d->image_fd));
	*out_copy = (struct zip_sink){ copy_tar, d };
	return NULL;
}

static struct err *erofs_fill(struct layer_draft *d, struct zip_source tar)
{
	return erofs_index(tar, d->image_fd, &d->size);
}

/* A second name for the blob; a copy where there can be none. */
static FALLIBLE link_tar(struct layer_draft *d, int tar_fd)
{
	int r = sys_link_fd(tar_fd, d->dir_fd, TAR_NAME);
	ssize_t n;
	off_t at;

	if (r >= 0)
		return NULL;
	if (r != -EXDEV && r != -EMLINK && r != -EPERM && r != -EOPNOTSUPP)
		return FAIL_OS(-r, "link the layer's tar");
	TRY(make(d, TAR_NAME, &d->tar_fd));
	if ((at = sys_lseek(tar_fd, 0, SEEK_SET)) < 0)
		return FAIL_OS((int)-at, "copy the layer's tar");
	while ((n = sys_copy_range(tar_fd, d->tar_fd, 1u << 30)) > 0)
		;
	return n < 0 ? FAIL_OS((int)-n, "copy the layer's tar") : NULL;
}

static struct err *erofs_adopt(struct layer_draft *d, int tar_fd, const char *upper, int64_t clamp_ns)
{
	(void)upper;
	(void)clamp_ns;
	TRY(make(d, IMAGE_NAME, &d->image_fd));
	TRY(erofs_index(zip_source_file(&tar_fd), d->image_fd, &d->size));
	return link_tar(d, tar_fd);
}

static struct err *erofs_seal(struct layer_draft *d, const char *diff_id)
{
	int r;

	TRY(erofs_stamp(d->image_fd, diff_id));
	if ((d->tar_fd >= 0 && (r = sys_fdatasync(d->tar_fd)) < 0) || (r = sys_fdatasync(d->image_fd)) < 0 ||
	    (r = sys_fsync(d->dir_fd)) < 0)
		return FAIL_OS(-r, "sync");
	return NULL;
}

/* ---- using ---- */

/* One of the two; of a rotten inode anything may have become: -ENOENT. */
static int open_file(int layer_fd, const char *name)
{
	auto_fd int fd = sys_openat(layer_fd, name, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;
	int r = fd < 0 ? fd : sys_fstat(fd, &st);

	if (r < 0)
		return r;
	return S_ISREG(st.st_mode) ? TAKE_FD(fd) : -ENOENT;
}

static uint64_t erofs_size(int layer_fd)
{
	auto_fd int fd = open_file(layer_fd, IMAGE_NAME);
	char diff_id[DIGEST_MAX];
	uint64_t size = 0;

	if (fd >= 0)
		err_free(erofs_look(fd, diff_id, &size));
	return size;
}

static int erofs_tar(int layer_fd)
{
	return open_file(layer_fd, TAR_NAME);
}

static FALLIBLE open_files(int layer_fd, const char *path, int *out_image, int *out_tar)
{
	auto_fd int image = open_file(layer_fd, IMAGE_NAME), tar = open_file(layer_fd, TAR_NAME);

	if (tar < 0 || image < 0)
		return FAIL(ERR_CORRUPT, "layer %s is damaged ('hoy verify --repair' mends it)", path);
	*out_image = TAKE_FD(image);
	*out_tar = TAKE_FD(tar);
	return NULL;
}

/* A head that the kernel does not understand, because ours are as it wants them. */
static FALLIBLE not_mounted(struct err *e, const char *path)
{
	bool is_damaged = e->os == EUCLEAN || e->os == EINVAL || e->os == EIO;

	return err_ctx(e, "mount layer %s%s", path, is_damaged ? ", which is damaged ('hoy verify --repair' mends it)" : "");
}

static struct err *loops_lower(int layer_fd, const char *path, char **out_path, int *out_mount)
{
	auto_fd int tar = -1, image = -1;
	struct err *e;

	TRY(open_files(layer_fd, path, &image, &tar));
	e = lower_of_loops(image, tar, out_path, out_mount);
	return e ? not_mounted(e, path) : NULL;
}

static struct err *erofs_lower(int layer_fd, const char *path, char **out_path, int *out_mount)
{
	auto_fd int tar = -1, image = -1, mount = -1;

	TRY(open_files(layer_fd, path, &image, &tar));
	mount = erofs_mount(image, tar);
	if (mount < 0)
		return not_mounted(mount_failed(mount, "it"), path);
	TRY(check_copy(mount));
	*out_path = xasprintf("/proc/self/fd/%d", mount);
	*out_mount = TAKE_FD(mount);
	return NULL;
}

static struct err *index_again(void *ctx, struct zip_source tar)
{
	struct layer_draft *d = ctx;

	return erofs_index(tar, d->image_fd, &d->size);
}

/* Where two files of a layer begin to differ; -1: nowhere. */
static FALLIBLE difference(int a, int b, int64_t *out_at)
{
	auto_free char *x = xmalloc(CHUNK), *y = xmalloc(CHUNK);
	off_t at = 0;
	ssize_t n, m;

	*out_at = -1;
	do {
		n = sys_pread(a, x, CHUNK, at);
		m = sys_pread(b, y, CHUNK, at);
		if (n < 0 || m < 0)
			return FAIL_OS((int)-(n < 0 ? n : m), "read the layer's index");
		for (ssize_t i = 0; i < n || i < m; i++)
			if (i >= n || i >= m || x[i] != y[i]) {
				*out_at = at + i;
				return NULL;
			}
		at += n;
	} while (n > 0);
	return NULL;
}

/* The tar is hashed, and its image made again. The blob is not needed. */
static struct err *erofs_verify(int layer_fd, const char *diff_id, struct zip_source tar, int scratch_fd,
				const struct layer_tell *tell, uint64_t *out_size)
{
	auto_fd int have_tar = open_file(layer_fd, TAR_NAME), have = open_file(layer_fd, IMAGE_NAME);
	auto_fd int again = scratch_fd < 0 ? sys_memfd("hoy-index")
					   : sys_openat(scratch_fd, IMAGE_NAME, O_RDWR | O_CREAT | O_TRUNC, 0600);
	struct layer_draft d = { .dir_fd = scratch_fd, .tar_fd = -1, .image_fd = again };
	char got[DIGEST_MAX], what[96];
	int64_t at;
	struct err *e;

	(void)tar;
	*out_size = erofs_size(layer_fd);
	if (have_tar == -ENOENT || have == -ENOENT) {
		tell->tell(tell->ctx, have_tar == -ENOENT ? TAR_NAME : IMAGE_NAME, "is missing");
		return NULL;
	}
	if (have_tar < 0 || have < 0 || again < 0)
		return FAIL_OS(have_tar < 0 ? -have_tar : have < 0 ? -have : -again, "open the layer");
	e = pump_run(zip_source_fd(&have_tar), &(struct pump_job){ index_again, &d }, got);
	if (e && e->kind != ERR_CORRUPT && e->kind != ERR_INVALID)
		return e;
	if (e || strcmp(got, diff_id) != 0) {
		(void)snprintf(what, sizeof what, "is not %.71s", diff_id);
		tell->tell(tell->ctx, TAR_NAME, what);
		err_free(e);
		return NULL;
	}
	*out_size = d.size;
	TRY(erofs_stamp(again, diff_id));
	TRY(difference(have, again, &at));
	if (at >= 0) {
		(void)snprintf(what, sizeof what, "differs from byte %lld on", (long long)at);
		tell->tell(tell->ctx, IMAGE_NAME, what);
	}
	return NULL;
}

const struct layer_driver erofs_driver = {
	.name = "erofs",
	.mark = IMAGE_NAME,
	.keeps_tars = true,
	.probe = erofs_probe,
	.begin = erofs_begin,
	.fill = erofs_fill,
	.adopt = erofs_adopt,
	.seal = erofs_seal,
	.size = erofs_size,
	.tar = erofs_tar,
	.lower = erofs_lower,
	.verify = erofs_verify,
};

/* The same layers, on kernels that mount only devices, or stack only upon what has a place. */
const struct layer_driver erofs_loop_driver = {
	.name = "erofs-loop",
	.mark = IMAGE_NAME,
	.keeps_tars = true,
	.is_for_here = loops_are_for_here,
	.probe = loops_probe,
	.begin = erofs_begin,
	.fill = erofs_fill,
	.adopt = erofs_adopt,
	.seal = erofs_seal,
	.size = erofs_size,
	.tar = erofs_tar,
	.lower = loops_lower,
	.verify = erofs_verify,
};
