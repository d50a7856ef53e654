#include "base/buf.h"
#include "base/mem.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void buf_fini(struct buf *b)
{
	free(b->data);
	b->data = NULL;
	b->n = b->cap = 0;
}

void buf_reset(struct buf *b)
{
	b->n = 0;
	b->failed = false;
	if (b->data)
		b->data[0] = '\0';
}

char *buf_room(struct buf *b, size_t n)
{
	size_t need, cap;

	if (!add_ok(b->n, n, &need) || need > b->max || need == SIZE_MAX) {
		b->failed = true;
		return NULL;
	}
	if (need + 1 > b->cap) {
		char *p;

		cap = b->cap < need / 2 + 1 ? need + 1 : b->cap * 2;
		if (cap < 64)
			cap = 64;
		p = realloc(b->data, cap);
		if (!p) {
			b->failed = true;
			return NULL;
		}
		b->data = p;
		b->cap = cap;
	}
	return b->data + b->n;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	char *at = buf_room(b, n);

	if (!at)
		return;
	if (n)
		memcpy(at, p, n);
	b->n += n;
	b->data[b->n] = '\0';
}

void buf_str(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_sv(struct buf *b, struct sv s)
{
	buf_add(b, s.p, s.n);
}

void buf_ch(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_vfmt(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char small[256];
	int n;

	va_copy(again, ap);
	n = vsnprintf(small, sizeof small, fmt, ap);
	if (n < 0) {
		b->failed = true;
	} else if ((size_t)n < sizeof small) {
		buf_add(b, small, (size_t)n);
	} else if (buf_room(b, (size_t)n)) {
		(void)vsnprintf(b->data + b->n, (size_t)n + 1, fmt, again);
		b->n += (size_t)n;
	}
	va_end(again);
}

void buf_fmt(struct buf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	buf_vfmt(b, fmt, ap);
	va_end(ap);
}

struct err *buf_check(const struct buf *b, const char *what)
{
	if (b->failed)
		return FAIL(ERR_LIMIT, "%s: larger than %zu bytes", what, b->max);
	return NULL;
}

const char *buf_text(const struct buf *b)
{
	return b->data ? b->data : "";
}

char *buf_take(struct buf *b)
{
	char *p = b->data ? b->data : xstrdup("");

	b->data = NULL;
	b->n = b->cap = 0;
	return p;
}
