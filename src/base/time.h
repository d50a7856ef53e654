/*
 * time.h - time inside hoy is int64_t nanoseconds since 1970; text is RFC 3339 in UTC with nanoseconds.
 *
 * Layer: base.  Limits: years 1970 to 2262.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include <stdint.h>

#define TIME_TEXT_MAX 40

int64_t time_now_ns(void);	 /* wall clock */
int64_t time_monotonic_ns(void); /* for intervals */
/* "2026-11-24T09:30:00.123456789Z"; trailing zeros of the fraction dropped, as Go's RFC3339Nano does. */
const char *time_format(int64_t ns, char out[TIME_TEXT_MAX]);
/* RFC 3339 with any offset. ERR_INVALID. */
FALLIBLE time_parse(struct sv text, int64_t *out_ns);
/*
 * A moment as docker's options take it: RFC 3339, a day or "2026-01-31T12:00:00" in local time, seconds since 1970, or a duration before
 * now ("24h"). ERR_INVALID.
 */
FALLIBLE time_parse_moment(struct sv text, int64_t *out_ns);
/* How docker tells ages: "Less than a second", "5 seconds", "About a minute", "3 hours", "2 weeks". */
const char *time_human(int64_t ns, char out[TIME_TEXT_MAX]);
