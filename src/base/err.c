/*
 * err.c - errors live on the heap, except when the heap itself is gone: then one static error stands in,
 * so that creating an error cannot fail and err_free knows it by its address.
 */
#include "base/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char no_memory_msg[] = "out of memory";
static struct err no_memory = { ERR_LIMIT, ENOMEM, "err.c", no_memory_msg };

enum err_kind err_kind_of(int os)
{
	switch (os) {
	case ENOENT:
	case ENOTDIR:
	case ESRCH:
	case ENXIO:
	case ENODEV:
		return ERR_NOT_FOUND;
	case EEXIST:
	case ENOTEMPTY:
		return ERR_EXISTS;
	case EACCES:
	case EPERM:
	case EROFS:
		return ERR_DENIED;
	case EINVAL:
	case ENAMETOOLONG:
	case ELOOP:
	case EXDEV:
		return ERR_INVALID;
	case EBUSY:
	case EADDRINUSE:
		return ERR_CONFLICT;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
	case EFBIG:
	case E2BIG:
		return ERR_LIMIT;
	case ECONNREFUSED:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EPIPE:
	case ECONNRESET:
		return ERR_UNAVAILABLE;
	case ETIMEDOUT:
		return ERR_TIMEOUT;
	case EINTR:
	case ECANCELED:
		return ERR_CANCELLED;
	case ENOSYS:
	case EOPNOTSUPP:
		return ERR_UNSUPPORTED;
	default:
		return ERR_INTERNAL;
	}
}

struct err *err_new(const char *at, enum err_kind kind, int os, const char *fmt, ...)
{
	struct err *e = malloc(sizeof *e);
	char *body = NULL;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&body, fmt, ap);
	va_end(ap);
	if (!e || n < 0) {
		if (n >= 0)
			free(body);
		free(e);
		return &no_memory;
	}
	*e = (struct err){ .kind = kind, .os = os, .at = at, .msg = body };
	if (os) {
		char text[128];
		char *whole = NULL;

		if (asprintf(&whole, "%s: %s", body, strerror_r(os, text, sizeof text)) >= 0) {
			free(body);
			e->msg = whole;
		}
	}
	return e;
}

struct err *err_ctx(struct err *e, const char *fmt, ...)
{
	char *front = NULL, *whole = NULL;
	va_list ap;
	int n;

	if (e == &no_memory)
		return e;
	va_start(ap, fmt);
	n = vasprintf(&front, fmt, ap);
	va_end(ap);
	if (n < 0)
		return e;
	if (asprintf(&whole, "%s: %s", front, e->msg) >= 0) {
		free(e->msg);
		e->msg = whole;
	}
	free(front);
	return e;
}

void err_free(struct err *e)
{
	if (!e || e == &no_memory)
		return;
	free(e->msg);
	free(e);
}
