/* mem.c - arenas are lists of blocks that double up to 1 MiB; nothing inside is freed singly. */
#include "base/mem.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *p)
{
	static const char msg[] = "hoy: out of memory\n";

	if (!p) {
		(void)fwrite(msg, 1, sizeof msg - 1, stderr);
		abort();
	}
	return p;
}

void *xmalloc(size_t n)
{
	return must(malloc(n ? n : 1));
}

void *xcalloc(size_t count, size_t size)
{
	return must(calloc(count ? count : 1, size ? size : 1));
}

void *xrealloc(void *p, size_t n)
{
	return must(realloc(p, n ? n : 1));
}

char *xstrdup(const char *s)
{
	return must(strdup(s));
}

char *xstrndup(const char *s, size_t n)
{
	return must(strndup(s, n));
}

char *xasprintf(const char *fmt, ...)
{
	char *s = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&s, fmt, ap);
	va_end(ap);
	return must(n < 0 ? NULL : s);
}

struct arena_block {
	struct arena_block *next;
	size_t used, size;
	_Alignas(16) unsigned char data[];
};

void arena_init(struct arena *a, size_t max)
{
	*a = (struct arena){ .max = max };
}

void arena_fini(struct arena *a)
{
	while (a->blocks) {
		struct arena_block *b = a->blocks;

		a->blocks = b->next;
		free(b);
	}
	a->used = 0;
}

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_block *b = a->blocks;
	size_t need, size;

	if (!add_ok(n ? n : 1, 15, &need) || !add_ok(a->used, need &= ~(size_t)15, &size) || size > a->max)
		return NULL;
	if (!b || b->size - b->used < need) {
		size = b ? (b->size < 1u << 19 ? b->size * 2 : 1u << 20) : a->first ? a->first : 4096;
		if (size < need)
			size = need;
		b = calloc(1, sizeof *b + size);
		if (!b)
			return NULL;
		b->size = size;
		b->next = a->blocks;
		a->blocks = b;
	}
	b->used += need;
	a->used += need;
	return b->data + b->used - need;
}

char *arena_strndup(struct arena *a, const char *s, size_t n)
{
	char *p = n + 1 ? arena_alloc(a, n + 1) : NULL;

	if (p)
		memcpy(p, s, n);
	return p;
}

char *arena_strdup(struct arena *a, const char *s)
{
	return arena_strndup(a, s, strlen(s));
}
