/* JSON: the quick way accepts nothing that jansson refuses and makes the same value of what it accepts. */
#include "codec/json.h"
#include "codec/json_plain.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = malloc(size + 1);
	json_t *quick, *whole;
	json_error_t at;

	memcpy(text, data, size);
	text[size] = 0;
	quick = json_plain(text, size);
	whole = json_loadb(text, size, JSON_REJECT_DUPLICATES, &at);
	if (quick && (!whole || !json_equal(quick, whole)))
		abort();
	json_decref(quick);
	json_decref(whole);
	whole = NULL;
	err_free(json_parse(sv_from(text, size), "t", 1 << 20, &whole));
	json_decref(whole);
	free(text);
	return 0;
}
