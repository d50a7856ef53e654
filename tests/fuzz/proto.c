/* Protocol buffers: fields one by one, each inside the message and fewer than its bytes. */
#include "codec/proto.h"
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sv rest = sv_from((const char *)data, size);
	struct proto_field f;
	struct err *e = NULL;
	size_t n = 0;
	bool more = true;

	while (!e && more) {
		e = proto_next(&rest, "t", &f, &more);
		if (!e && more && f.is_bytes && f.bytes.n &&
		    f.bytes.p + f.bytes.n > (const char *)data + size)
			abort();
		if (++n > size + 1)
			abort();
	}
	err_free(e);
	return 0;
}
