#include "content/temp.h"
#include "base/own.h"
#include "base/time.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>

int temp_create(int tmp_fd, const char *name, int flags)
{
	for (int tries = 0; tries < 100; tries++) {
		auto_fd int fd = sys_openat(tmp_fd, name, O_RDWR | O_CREAT | O_TRUNC | flags, 0600);
		struct stat st;
		int r = fd < 0 ? fd : sys_flock(fd, LOCK_EX); /* a sweeper lets go at once */

		if (r >= 0)
			r = sys_fstat(fd, &st);
		if (r < 0 && fd >= 0)
			(void)sys_unlink(tmp_fd, name);
		if (r < 0)
			return r;
		if (st.st_nlink) /* else a sweeper has taken it for a dead one's between the two */
			return TAKE_FD(fd);
	}
	return -EBUSY;
}

/* One that is a blob's second name (killed after naming it) goes as well. */
static void sweep_file(int tmp_fd, const char *name, int64_t part_seconds)
{
	bool waits = strncmp(name, "part-", 5) == 0 || strncmp(name, "upload-", 7) == 0;
	auto_fd int file = -1;
	struct stat st;

	if (!waits && strncmp(name, "ingest-", 7) != 0 && strncmp(name, "lease-", 6) != 0)
		return;
	file = sys_openat(tmp_fd, name, O_RDONLY, 0);
	if (file < 0 || sys_flock(file, LOCK_EX | LOCK_NB) < 0 || sys_fstat(file, &st) < 0)
		return;
	if (!waits || st.st_nlink > 1 || time_now_ns() / 1000000000 - st.st_mtime >= part_seconds)
		(void)sys_unlink(tmp_fd, name);
}

void temp_sweep(int tmp_fd, int64_t part_seconds)
{
	int fd = sys_openat(tmp_fd, ".", O_RDONLY | O_DIRECTORY, 0);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (!d) {
		own_close(&fd);
		return;
	}
	for (struct dirent *e; (e = readdir(d));)
		sweep_file(tmp_fd, e->d_name, part_seconds);
	(void)closedir(d);
}
