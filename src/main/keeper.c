/* keeper.c - hoy-keeper; under the name docker-init (bound into a container by --init) it is that container's init. */
#include "supervise/keeper.h"
#include "sys/proc.h"
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>

int main(int argc, char *argv[])
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";

	(void)sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t)name, 0, 0); /* executed by fd: else a number, see sys/self.h */
	return strcmp(name, "docker-init") == 0 ? init_main(argv) : keeper_main();
}
