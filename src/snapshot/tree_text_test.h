/* tree_text_test.h - a tree on disk as one text, in the form of harness/erofs_read.h. */
#pragma once
#include "base/text.h"
#include "harness/erofs_read.h"
#include "snapshot/snapshot_test.h"
#include "sys/fs.h"
#include <sys/sysmacros.h>

static inline void put_xattrs(int dir_fd, const char *name, struct buf *out)
{
	char keys[65536], value[65536], *lines[256] = { NULL };
	ssize_t n = fs_xattr_list(dir_fd, name, keys, sizeof keys);
	size_t count = 0;

	for (char *k = keys; k < keys + (n < 0 ? 0 : n); k += strlen(k) + 1) {
		ssize_t len = fs_xattr_get(dir_fd, name, k, value, sizeof value);
		struct buf b = BUF(1 << 20);

		buf_fmt(&b, " %s=", k);
		for (ssize_t i = 0; i < len; i++)
			buf_fmt(&b, "%02x", (unsigned char)value[i]);
		lines[count++] = buf_take(&b);
	}
	qsort(lines, count, sizeof *lines, ecompare);
	for (size_t i = 0; i < count; i++) {
		buf_str(out, lines[i]);
		free(lines[i]);
	}
}

static inline uint64_t sum_of(int dir_fd, const char *name)
{
	auto_fd int fd = sys_openat(dir_fd, name, O_RDONLY, 0);
	static unsigned char chunk[65536];
	uint64_t sum = 1;
	ssize_t n;

	CHECK(fd >= 0);
	while ((n = sys_read(fd, chunk, sizeof chunk)) > 0)
		sum = csum(sum, chunk, (size_t)n);
	CHECK(n == 0);
	return sum;
}

static inline void text_of_dir(int dir_fd, const char *path, struct buf *out);

static inline void text_of(int dir_fd, const char *name, const char *path, struct buf *out)
{
	struct stat st;
	char link[4096] = "";

	CHECK_INT(sys_fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	buf_fmt(out, "%s %o %u:%u %lld.%09ld %u", path, st.st_mode, st.st_uid, st.st_gid,
		(long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (unsigned)st.st_nlink);
	if (S_ISREG(st.st_mode)) {
		buf_fmt(out, " %llu %llx", (unsigned long long)st.st_size,
			(unsigned long long)sum_of(dir_fd, name));
	} else if (S_ISLNK(st.st_mode)) {
		CHECK(sys_readlink(dir_fd, name, link, sizeof link) >= 0);
		buf_fmt(out, " -> %s", link);
	} else if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) {
		buf_fmt(out, " dev %x",
			(minor(st.st_rdev) & 0xff) | major(st.st_rdev) << 8 |
			    (minor(st.st_rdev) & ~0xffu) << 12);
	}
	put_xattrs(dir_fd, name, out);
	buf_ch(out, '\n');
	if (S_ISDIR(st.st_mode)) {
		auto_fd int fd = sys_openat(dir_fd, name, O_RDONLY | O_DIRECTORY, 0);

		text_of_dir(fd, path, out);
	}
}

static inline void text_of_dir(int dir_fd, const char *path, struct buf *out)
{
	auto_list char **names = NULL;

	CHECK(fs_list(dir_fd, &names) >= 0);
	for (size_t i = 0; names[i]; i++) {
		auto_free char *whole = xasprintf("%s/%s", path, names[i]);

		text_of(dir_fd, names[i], whole, out);
	}
}
