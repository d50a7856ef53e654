/* Templates of users over a value with every JSON type. */
#include "base/mem.h"
#include "base/own.h"
#include "codec/tmpl.h"
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_free char *text = xstrndup((const char *)data, size);
	auto_json json_t *v = json_pack("{s:s, s:i, s:b, s:[i,i], s:{s:s}, s:n}", "S", "text", "N", 3, "B", 1, "L", 1, 2, "O", "k",
					"v", "Z");
	auto_tmpl struct tmpl *t = NULL;
	auto_buf struct buf b = BUF(1 << 16);
	struct err *e = tmpl_parse(text, &t);

	if (!e)
		e = tmpl_run(t, v, &b);
	err_free(e);
	return 0;
}
