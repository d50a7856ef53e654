/* keeper.c - hoy-keeper; under the name docker-init (bound into a container by --init) it is that container's init. */
#include "supervise/keeper.h"
#include <string.h>

int main(int argc, char *argv[])
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *name = slash ? slash + 1 : argc > 0 ? argv[0] : "";

	return strcmp(name, "docker-init") == 0 ? init_main(argv) : keeper_main();
}
