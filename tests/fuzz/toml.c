/* Configuration files: a value tree or an error, and never without an end. */
#include "codec/toml.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	json_t *v = NULL;

	err_free(toml_parse((struct sv){ (const char *)data, size }, "t", 1 << 20, &v));
	json_decref(v);
	return 0;
}
