/* program.c - see program.h. */
#include "supervise/program.h"
#include "base/mem.h"
#include "sys/spawn.h"

pid_t program_run(const struct keeper_conf *c, const char *command, int in_fd)
{
	union {
		const char *in;
		char *out;
	} u[7] = { { .in = c->hoy }, { .in = "--root" }, { .in = c->root }, { .in = "--run" },
		   { .in = c->run }, { .in = command },  { .in = c->id } };
	const int fds[3] = { in_fd, -1, -1 };
	char *argv[8] = { NULL };

	for (size_t i = 0; i < LEN(u); i++)
		argv[i] = u[i].out;
	return sys_spawn_run(&(struct sys_spawn){ .path = argv[0], .argv = argv, .fds = fds, .n_fds = LEN(fds) }, NULL);
}
