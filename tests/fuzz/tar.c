/* Whatever the bytes are: entries or an error, and every entry's content has the size it says. */
#include "base/own.h"
#include "codec/tar.h"
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct bytes {
	const uint8_t *p;
	size_t n;
};

static struct err *take(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct bytes *b = ctx;

	*out_n = n < b->n ? n : b->n;
	memcpy(p, b->p, *out_n);
	b->p += *out_n;
	b->n -= *out_n;
	return NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = { data, size };
	auto_tar_reader struct tar_reader *r = NULL;
	const struct tar_entry *e;
	static char chunk[65536];
	struct err *err = tar_reader_new((struct zip_source){ take, &b }, &r);

	for (int entries = 0; !err && entries < 1000; entries++) {
		uint64_t sum = 0;
		size_t n = 1;

		err = tar_next(r, &e);
		if (err || !e)
			break;
		if (e->size > 1 << 24)
			continue; /* holes: nothing but time */
		while (!err && n) {
			err = tar_read(r, chunk, sizeof chunk, &n);
			sum += err ? 0 : n;
		}
		if (!err && e->type == '0' && sum != e->size)
			abort();
	}
	err_free(err);
	return 0;
}
