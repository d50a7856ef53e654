/*
 * enc.h - base64 (RFC 4648) and percent encoding (RFC 3986).
 *
 * Layer: codec.  Pure.  Limits: those of the buffer written to.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/sv.h"
#include <stddef.h>

/* Standard alphabet, padded. */
void enc_base64(const void *p, size_t n, struct buf *out);
/* Standard or URL alphabet, padded or not. ERR_INVALID; the text is not repeated in the message: it may be a
 * secret. */
FALLIBLE enc_base64_decode(struct sv text, struct buf *out);
/* Everything but unreserved characters becomes %XX: fit for one value of a query or one segment of a path. */
void enc_percent(struct sv text, struct buf *out);
