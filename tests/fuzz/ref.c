/* A reference that parses reads back from its own text as the same. */
#include "base/mem.h"
#include "base/own.h"
#include "image/ref.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = xstrndup((const char *)data, size), *full = NULL, *again = NULL;
	struct ref r, s;
	struct err *e = ref_parse(text, &r);

	if (e) {
		err_free(e);
		return 0;
	}
	full = ref_full(&r);
	if (ref_parse(full, &s))
		abort();
	again = ref_full(&s);
	if (strcmp(full, again) != 0)
		abort();
	ref_fini(&r);
	ref_fini(&s);
	return 0;
}
