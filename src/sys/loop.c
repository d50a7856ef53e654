/* loop.c - see loop.h. A device is only believed to be of a file while we hold it open: until then it may go and come again. */
#include "sys/loop.h"
#include "base/own.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <stdio.h>
#include <sys/sysmacros.h>

enum { READ_AHEAD_SECTORS = 2048, TRIES = 64 };

struct search {
	struct stat file;
	char *path; /* out */
	int fd;     /* owned, or -1 */
};

static bool is_loop(const char *name)
{
	return strncmp(name, "loop", 4) == 0 && name[4] >= '0' && name[4] <= '9' && strlen(name) < SYS_LOOP_PATH_MAX - sizeof "/dev/";
}

/* The path of the file behind it; 0 bytes: none, it is not in use. */
static ssize_t backing(const char *name, char *out, size_t size)
{
	char path[64];
	auto_fd int fd = -1;
	ssize_t n;

	(void)snprintf(path, sizeof path, "/sys/block/%.20s/loop/backing_file", name);
	fd = sys_open(path, O_RDONLY, 0);
	n = fd < 0 ? 0 : sys_read(fd, out, size - 1);
	out[n > 0 ? n : 0] = 0;
	out[strcspn(out, "\n")] = 0;
	return n > 0 ? n : 0;
}

/* Ours: of this file from its start, to read, and it goes by itself. */
static bool is_of(int fd, const struct stat *file)
{
	struct loop_info64 info;

	return sys_ioctl(fd, LOOP_GET_STATUS64, &info) >= 0 && info.lo_device == file->st_dev && info.lo_inode == file->st_ino &&
	       info.lo_offset == 0 && info.lo_sizelimit == 0 && (info.lo_flags & LO_FLAGS_READ_ONLY) &&
	       (info.lo_flags & LO_FLAGS_AUTOCLEAR);
}

static int look(void *ctx, const char *name)
{
	struct search *s = ctx;
	char any[8];
	auto_fd int fd = -1;

	if (!is_loop(name) || backing(name, any, sizeof any) == 0)
		return 0;
	(void)snprintf(s->path, SYS_LOOP_PATH_MAX, "/dev/%.18s", name);
	fd = sys_open(s->path, O_RDONLY, 0);
	if (fd < 0 || !is_of(fd, &s->file))
		return 0;
	s->fd = TAKE_FD(fd);
	return 1;
}

static int configure(int device, int file_fd)
{
	struct loop_config c = { .fd = (unsigned)file_fd, .block_size = 512 };
	int r;

	c.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
	r = sys_ioctl(device, LOOP_CONFIGURE, &c);
	if (r != -EINVAL)
		return r;
	c.info.lo_flags &= ~(unsigned)LO_FLAGS_DIRECT_IO; /* newer kernels refuse it where the file system can't */
	return sys_ioctl(device, LOOP_CONFIGURE, &c);
}

static int make(int file_fd, char *path)
{
	auto_fd int control = sys_open("/dev/loop-control", O_RDWR, 0);

	if (control < 0)
		return control;
	for (int i = 0; i < TRIES; i++) { /* somebody else may get it first */
		int n = sys_ioctl_int(control, LOOP_CTL_GET_FREE, 0), r;
		auto_fd int fd = -1;

		if (n < 0)
			return n;
		(void)snprintf(path, SYS_LOOP_PATH_MAX, "/dev/loop%d", n);
		fd = sys_open(path, O_RDONLY, 0);
		r = fd < 0 ? fd : configure(fd, file_fd);
		if (r >= 0) {
			(void)sys_ioctl_int(fd, BLKRASET, READ_AHEAD_SECTORS);
			return TAKE_FD(fd);
		}
		if (r != -EBUSY)
			return r;
	}
	return -EBUSY;
}

int sys_loop_of(int file_fd, char out_path[SYS_LOOP_PATH_MAX])
{
	auto_fd int dir = sys_open("/sys/block", O_RDONLY | O_DIRECTORY, 0);
	struct search s = { .path = out_path, .fd = -1 };
	int r = sys_fstat(file_fd, &s.file);

	if (r >= 0 && dir >= 0)
		r = sys_each_entry(dir, look, &s);
	if (r < 0)
		return r;
	return s.fd >= 0 ? s.fd : make(file_fd, out_path);
}

struct listing {
	const char *dir;
	int (*each)(void *ctx, const char *device, const char *file);
	void *ctx;
};

static int list_one(void *ctx, const char *name)
{
	struct listing *l = ctx;
	char file[4096], path[SYS_LOOP_PATH_MAX];
	size_t n = strlen(l->dir);

	if (!is_loop(name) || backing(name, file, sizeof file) == 0 || strncmp(file, l->dir, n) != 0 || file[n] != '/')
		return 0;
	(void)snprintf(path, sizeof path, "/dev/%.18s", name);
	return l->each(l->ctx, path, file);
}

int sys_loop_each(const char *dir, int (*each)(void *ctx, const char *device, const char *file), void *ctx)
{
	auto_fd int blocks = sys_open("/sys/block", O_RDONLY | O_DIRECTORY, 0);
	struct listing l = { dir, each, ctx };

	return blocks < 0 ? 0 : sys_each_entry(blocks, list_one, &l);
}
