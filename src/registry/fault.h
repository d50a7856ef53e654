/*
 * fault.h - what a registry's answer other than success means, in words for people.
 *
 * Format: distribution-spec "Error Codes". The other side's text is cut to 300 characters and stripped of
 * control characters. Layer: registry.  Pure.
 */
#pragma once
#include "base/err.h"
#include "http/client.h"
#include <stdbool.h>
#include <stdint.h>

/*
 * 401 and 403 ERR_DENIED, 404 ERR_NOT_FOUND, 429 ERR_LIMIT, 5xx ERR_UNAVAILABLE, 413 ERR_LIMIT, else
 * ERR_INVALID. Text: "unauthorized: authentication required", or "unexpected HTTP status: 502 Bad Gateway"
 * when the body says nothing; of 429 and 503 also the limit and how long to wait.
 */
FALLIBLE fault_of(const struct http_response *r);
/* The first error code of the body ("NAME_UNKNOWN"), owned, "" when there is none. */
char *fault_code(const struct http_response *r);
/* Whether asking again may help: 408, 429, 500, 502, 503, 504, unless Retry-After is beyond FAULT_WAIT_MAX.
 */
bool fault_is_passing(const struct http_response *r);
#define FAULT_WAIT_MAX 60u /* seconds that we wait for a registry's sake */
/* Retry-After in seconds (at most a day), or 0. */
unsigned fault_retry_after(const struct http_response *r);
/* "100 in 21600 s, 0 left" of the headers RateLimit-Limit and RateLimit-Remaining, "" when there are none;
 * owned. */
char *fault_limits(const struct http_response *r);
