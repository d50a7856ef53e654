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

void sys_pause_ns(int64_t ns)
{
	struct timespec t = { ns / 1000000000, ns % 1000000000 };

	(void)nanosleep(&t, NULL);
}
