/* hoy.c - the command line. */
#include "cli/cmd.h"
#include "sys/proc.h"
#include "sys/self.h"
#include "sys/sys.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

/*
 * SECURITY: steps of a build run as children of this very program; see sys/self.h. On success its file is out
 * of reach; perhaps it has begun again for that. Containers are run by a keeper, which is started so.
 */
static int shield(char *argv[])
{
	char path[PATH_MAX];
	int fd, r = sys_self_is_shielded();

	if (r != 0)
		return r;
	if ((r = (int)sys_readlink(AT_FDCWD, "/proc/self/exe", path, sizeof path)) < 0)
		return r;
	fd = sys_shield_in_place(argv);
	if (setenv("HOY_SELF", path, 1) < 0)
		return -errno;
	if (fd == 0)
		return 0;
	fd = sys_shield(path);
	return fd < 0 ? fd : sys_shield_exec(fd, argv);
}

static bool builds(char *argv[])
{
	for (int i = 1; argv[0] && argv[i]; i++)
		if (strcmp(argv[i], "build") == 0)
			return true;
	return false;
}

int main(int argc, char *argv[])
{
	int r = builds(argv) ? shield(argv) : 0;

	(void)argc;
	(void)sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t) "hoy", 0, 0);
	if (r < 0) {
		(void)fprintf(stderr, "hoy: protect the program from the steps of a build: %s\n",
			      strerror(-r));
		return 1;
	}
	(void)signal(SIGPIPE, SIG_IGN); /* a reader that went away is an error of write, not our end */
	return cmd_main(argv);
}
