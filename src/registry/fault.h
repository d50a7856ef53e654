/*
 * fault.h - what a registry's answer other than success means, in words for people.
 *
 * Format: distribution-spec "Error Codes". The other side's text is cut to 300 characters and stripped of control
 * characters.
 * Layer: registry.  Pure.
 */
#pragma once
#include "base/err.h"
#include "http/client.h"
#include <stdbool.h>
#include <stdint.h>

/*
 * 401 and 403 ERR_DENIED, 404 ERR_NOT_FOUND, 429 ERR_LIMIT, 5xx ERR_UNAVAILABLE, 413 ERR_LIMIT, else
 * ERR_INVALID. Text: "unauthorized: authentication required", or "unexpected HTTP status: 502 Bad Gateway"
 * when the body says nothing.
 */
FALLIBLE fault_of(const struct http_response *r);
/* The first error code of the body ("NAME_UNKNOWN"), owned, "" when there is none. */
char *fault_code(const struct http_response *r);
/* Whether asking again may help: 408, 429, 500, 502, 503, 504. */
bool fault_is_passing(int status);
/* Retry-After in seconds (at most 60), or 0. */
unsigned fault_retry_after(const struct http_response *r);
