/* runtime.c - hoy-runtime, the OCI runtime for other engines. */
#include "codec/json.h"
#include "runtime/oci.h"
#include "sys/entropy.h"
#include "sys/entry.h"
#include "sys/proc.h"
#include "sys/self.h"
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

/* Of these commands a process of ours enters a container. */
const char *const sys_entry_words[] = { "create", "run", "exec", "restore", "mounts", NULL };

static bool enters(char *argv[])
{
	for (int i = 1; argv[0] && argv[i]; i++)
		for (size_t k = 0; sys_entry_words[k]; k++)
			if (strcmp(argv[i], sys_entry_words[k]) == 0)
				return true;
	return false;
}

/*
 * SECURITY: see sys/self.h. 1: our file is out of reach, for we were executed again before main (sys/entry.h) or now; or from a
 * read-only mount in the first place.
 */
static int shield(char *argv[])
{
	int fd, r = sys_self_is_shielded();

	if (r != 0)
		return r;
	fd = sys_shield("/proc/self/exe");
	return fd < 0 ? fd : sys_shield_exec(fd, argv);
}

int main(int argc, char *argv[])
{
	int r = enters(argv) ? shield(argv) : 0;

	if (r < 0) {
		(void)fprintf(stderr, "hoy-runtime: protect the program from the container: %s\n",
			      strerror(-r));
		return 1;
	}
	if (r > 0) /* perhaps executed by a descriptor, which then is our name */
		(void)sys_prctl(PR_SET_NAME, (unsigned long)(uintptr_t) "hoy-runtime", 0, 0);
	/* one short command: the heap grows in few calls and nothing is given back before the end */
	(void)mallopt(M_TOP_PAD, 1 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
	json_region_begin();
	json_object_seed(sys_random_below(UINT32_MAX) +
			 1); /* its own way is to read /dev/urandom: three calls */
	return oci_main(argc, argv);
}
