/* cgroup.c - see cgroup.h. */
#include "sys/cgroup.h"
#include "sys/sys.h"
#include <sys/vfs.h>
#include <time.h>

int64_t sys_fs_magic(const char *path)
{
	struct statfs s;
	int r;

	SYS_FAULT("statfs");
	r = sys_ret(statfs(path, &s));
	return r < 0 ? r : (int64_t)s.f_type;
}

int64_t sys_fs_magic_fd(int fd, uint64_t *out_fsid)
{
	struct statfs s;
	int r;

	SYS_FAULT("fstatfs");
	r = sys_ret(fstatfs(fd, &s));
	if (r < 0)
		return r;
	*out_fsid = (uint32_t)s.f_fsid.__val[0] | (uint64_t)(uint32_t)s.f_fsid.__val[1] << 32;
	return (int64_t)s.f_type;
}

void sys_pause_ns(int64_t ns)
{
	struct timespec t = { ns / 1000000000, ns % 1000000000 };

	(void)nanosleep(&t, NULL);
}
