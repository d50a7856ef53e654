/*
 * mem.h - memory: xmalloc for sizes our own code fixes, arenas for parsed documents.
 *
 * The x* functions abort when memory is gone (their sizes never come from outside); an arena has a maximum, given at
 * init, and returns NULL beyond it, which the caller turns into ERR_LIMIT.
 * Layer: base.  Threads: an arena belongs to one thread at a time.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void *xmalloc(size_t n) __attribute__((malloc, returns_nonnull));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
void *xrealloc(void *p, size_t n) __attribute__((returns_nonnull));
char *xstrdup(const char *s) __attribute__((malloc, returns_nonnull));
char *xstrndup(const char *s, size_t n) __attribute__((malloc, returns_nonnull));
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2), malloc, returns_nonnull));
#define xnew(T) ((T *)xcalloc(1, sizeof(T)))

struct arena_block;
struct arena {
	struct arena_block *blocks;
	size_t used, max;
	size_t first; /* size of the first block; 0: a page. From 128 KiB on malloc maps it and leaves no hole in the heap */
};

/* An empty arena that hands out at most max bytes. */
void arena_init(struct arena *a, size_t max);
void arena_fini(struct arena *a);
/* Zeroed, 16-byte aligned, valid until arena_fini. NULL: beyond the maximum (or no memory). */
void *arena_alloc(struct arena *a, size_t n);
char *arena_strndup(struct arena *a, const char *s, size_t n);
char *arena_strdup(struct arena *a, const char *s);

static inline bool add_ok(size_t a, size_t b, size_t *out_sum)
{
	return !__builtin_add_overflow(a, b, out_sum);
}
static inline bool mul_ok(size_t a, size_t b, size_t *out_product)
{
	return !__builtin_mul_overflow(a, b, out_product);
}
#define LEN(array) (sizeof(array) / sizeof *(array))
