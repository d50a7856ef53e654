/* child_copy.c - tmpcopyup: what the image has at a mount point, copied into the tmpfs that covers it. No malloc. */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>

enum { COPY_DEPTH = 64, COPY_BUFFER = 4096 };

static int copy_file(int from_dir, int to_dir, const char *name, const struct stat *st)
{
	auto_fd int from = sys_openat(from_dir, name, O_RDONLY | O_NOFOLLOW, 0);
	auto_fd int to = from < 0 ? -1 : sys_openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	ssize_t n;

	if (from < 0 || to < 0)
		return from < 0 ? from : to;
	do
		n = sys_copy_range(from, to, 1 << 20);
	while (n > 0);
	if (n < 0)
		return (int)n;
	(void)sys_fchown(to, st->st_uid, st->st_gid);
	return sys_fchmod(to, st->st_mode & 07777);
}

static int copy_entry(int from_dir, int to_dir, const char *name, int depth);

static int copy_dir(int from, int to, int depth)
{
	char entries[COPY_BUFFER] __attribute__((aligned(8)));
	int n;

	if (depth > COPY_DEPTH)
		return -ELOOP;
	while ((n = sys_getdents(from, entries, sizeof entries)) > 0)
		for (int at = 0; at < n;) {
			struct dirent64 d;
			const char *name = entries + at + offsetof(struct dirent64, d_name);
			int r;

			memcpy(&d, entries + at, offsetof(struct dirent64, d_name));
			at += d.d_reclen;
			if (!strcmp(name, ".") || !strcmp(name, ".."))
				continue;
			if ((r = copy_entry(from, to, name, depth)) < 0)
				return r;
		}
	return n;
}

static int copy_entry(int from_dir, int to_dir, const char *name, int depth)
{
	struct stat st;
	char target[4096];
	int r = sys_fstatat(from_dir, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r < 0)
		return r;
	if (S_ISREG(st.st_mode))
		return copy_file(from_dir, to_dir, name, &st);
	if (S_ISLNK(st.st_mode)) {
		if ((r = (int)sys_readlink(from_dir, name, target, sizeof target)) < 0 ||
		    (r = sys_symlink(target, to_dir, name)) < 0)
			return r;
		return sys_fchownat(to_dir, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
	}
	if (S_ISDIR(st.st_mode)) {
		auto_fd int from = sys_openat(from_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0), to = -1;

		if (from < 0 || (r = sys_mkdir(to_dir, name, 0700)) < 0 ||
		    (to = sys_openat(to_dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0)) < 0)
			return from < 0 ? from : r < 0 ? r : to;
		(void)sys_fchown(to, st.st_uid, st.st_gid);
		if ((r = sys_fchmod(to, st.st_mode & 07777)) < 0)
			return r;
		return copy_dir(from, to, depth + 1);
	}
	if ((r = sys_mknod(to_dir, name, st.st_mode, st.st_rdev)) < 0)
		return r;
	return sys_fchownat(to_dir, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW);
}

int child_copy_tree(int from_fd, int to_fd)
{
	auto_fd int from = sys_openat(from_fd, ".", O_RDONLY | O_DIRECTORY, 0);

	return from < 0 ? from : copy_dir(from, to_fd, 0);
}
