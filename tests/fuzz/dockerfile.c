/* Dockerfiles: instructions or an error with its place. */
#include "build/dockerfile.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dockerfile d;
	struct err *e = dockerfile_parse("Dockerfile", (struct sv){ (const char *)data, size }, &d);

	if (!e)
		dockerfile_fini(&d);
	err_free(e);
	return 0;
}
