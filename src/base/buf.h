/*
 * buf.h - a growing byte string with a maximum given at init.
 *
 * Appending beyond the maximum (or without memory) sets `failed` and drops the bytes; the content up to there stays.
 * Check once at the end with buf_check. data is always NUL-terminated once anything was appended.
 * Layer: base.  Threads: one at a time.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

struct buf {
	char *data;
	size_t n, cap, max;
	bool failed;
};

#define BUF(max_bytes) ((struct buf){ .max = (max_bytes) })
#define auto_buf       __attribute__((cleanup(buf_fini)))

void buf_fini(struct buf *b);
void buf_reset(struct buf *b); /* empty again, memory kept */
void buf_add(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, const char *s);
void buf_sv(struct buf *b, struct sv s);
void buf_ch(struct buf *b, char c);
void buf_fmt(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vfmt(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Room for n more bytes at data + n, to be claimed with b->n += …; NULL: beyond the maximum. */
char *buf_room(struct buf *b, size_t n);
/* ERR_LIMIT "what: larger than N bytes" if anything was dropped. */
FALLIBLE buf_check(const struct buf *b, const char *what);
/* The text, "" when empty; borrowed, valid until the next append. */
const char *buf_text(const struct buf *b);
/* Moves the text out (never NULL); the caller frees it; the buffer is empty again. */
char *buf_take(struct buf *b) __attribute__((returns_nonnull));
