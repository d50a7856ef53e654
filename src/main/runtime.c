/* runtime.c - hoy-runtime, the OCI runtime for other engines. */
#include "runtime/oci.h"

int main(int argc, char *argv[])
{
	return oci_main(argc, argv);
}
