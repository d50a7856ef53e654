/* image_fetch.c - an archive behind a URL, as if it stood in a file: import and load read what hoy-transfer brings through a pipe. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "engine/helper.h"
#include "sys/sys.h"

struct engine_fetch {
	struct helper helper;
	int data_fd;
	bool has_ended;
};

bool engine_is_url(const char *text)
{
	return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

void engine_fetch_free(struct engine_fetch *f)
{
	if (!f)
		return;
	own_close(&f->data_fd);
	helper_fini(&f->helper);
	free(f);
}

OWN_DEFINE(struct engine_fetch *, engine_fetch, engine_fetch_free)

FALLIBLE engine_fetch_new(const char *url, struct engine_fetch **out_fetch)
{
	CLEANUP(own_engine_fetch) struct engine_fetch *f = xnew(struct engine_fetch);
	auto_list char **args = NULL;
	auto_fd int write_end = -1;
	int p[2], r;

	f->helper = HELPER(.e = NULL);
	f->data_fd = -1;
	if ((r = sys_pipe(p)) < 0)
		return FAIL_OS(-r, "make a pipe");
	f->data_fd = p[0];
	write_end = p[1];
	text_list_add(&args, "fetch");
	text_list_add(&args, url);
	TRY(helper_start(&f->helper, args, -1, write_end));
	*out_fetch = TAKE(f);
	return NULL;
}

/* SECURITY: the pipe's end alone does not say that this was all. */
static struct err *fetch_read(void *ctx, void *p, size_t n, size_t *out_n)
{
	struct engine_fetch *f = ctx;
	auto_json json_t *result = NULL;
	ssize_t r = f->has_ended ? 0 : sys_read(f->data_fd, p, n);

	if (r < 0)
		return FAIL_OS((int)-r, "read from hoy-transfer");
	if (r == 0 && !f->has_ended)
		TRY(helper_end(&f->helper, &result));
	f->has_ended = r == 0;
	*out_n = (size_t)r;
	return NULL;
}

struct zip_source engine_fetch_source(struct engine_fetch *f)
{
	return (struct zip_source){ .read = fetch_read, .ctx = f };
}
