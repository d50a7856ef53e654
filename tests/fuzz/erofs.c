/* Whatever the bytes are: an error, or an image that our reader finds whole, with as much content as the
 * writer counted. */
#include "snapshot/erofs.h"
#include "base/own.h"
#include "harness/erofs_read.h"
#include "sys/sys.h"
#include <unistd.h>

struct bytes {
	const uint8_t *p;
	size_t n;
};

static struct err *take(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct bytes *b = ctx;

	*out_n = n < b->n ? n : b->n;
	if (*out_n)
		memcpy(p, b->p, *out_n);
	b->p += *out_n;
	b->n -= *out_n;
	return NULL;
}

static void check(int fd, const uint8_t *data, size_t size)
{
	struct stat st;
	auto_buf struct buf text = BUF(16 << 20);
	auto_free char *image = NULL;
	struct eimage m;

	if (fstat(fd, &st) < 0 || st.st_size > 64 << 20)
		return; /* sparse files: large, and nothing but holes */
	image = xmalloc((size_t)st.st_size);
	if (pread(fd, image, (size_t)st.st_size, 0) != st.st_size)
		abort();
	if (eopen(&m, image, (size_t)st.st_size, data, size))
		etree_text_of(&m, &text);
	if (m.bad)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = { data, size };
	auto_fd int fd = sys_memfd("image");
	uint64_t content = 0;
	struct err *err = fd < 0 ? NULL : erofs_index((struct zip_source){ take, &b }, fd, &content);

	if (fd < 0)
		abort();
	if (!err)
		check(fd, data, size);
	err_free(err);
	return 0;
}
