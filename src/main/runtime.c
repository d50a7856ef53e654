/* runtime.c - hoy-runtime, the OCI runtime for other engines. */
#include "codec/json.h"
#include "runtime/oci.h"
#include <malloc.h>

int main(int argc, char *argv[])
{
	/* one short command: the heap grows in few calls and nothing is given back before the end */
	(void)mallopt(M_TOP_PAD, 1 << 20);
	(void)mallopt(M_TRIM_THRESHOLD, 64 << 20);
	json_region_begin();
	return oci_main(argc, argv);
}
