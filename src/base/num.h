/*
 * num.h - numbers from text, with a range; sizes and durations as docker writes them.
 *
 * Layer: base.  Errors: ERR_INVALID, naming the text and what was expected. Nothing else is accepted than the whole text.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include <stdint.h>

/* Decimal (base 10) or octal (base 8) digits, no sign, no space. */
FALLIBLE num_parse(struct sv text, unsigned base, uint64_t min, uint64_t max, uint64_t *out_value);
/* With an optional leading '-'. */
FALLIBLE num_parse_signed(struct sv text, int64_t min, int64_t max, int64_t *out_value);
/* docker's memory sizes: "64m" "1.5g" "1024" "10kb" "2GiB"; powers of 1024; bytes. */
FALLIBLE num_parse_bytes(struct sv text, uint64_t *out_bytes);
/* "1.5" CPUs as nano-CPUs (1e9 is one CPU). */
FALLIBLE num_parse_cpus(struct sv text, uint64_t *out_nano);
/* Go durations: "300ms" "1m30s" "2h45m"; a bare number is refused, as in Go; nanoseconds. */
FALLIBLE num_parse_duration(struct sv text, int64_t *out_ns);

/* Sizes for people; out holds at least 16 bytes. Decimal as in docker ("12.3MB"), binary as in stats ("1.5MiB"). */
const char *num_human(uint64_t bytes, char out[16]);
const char *num_human4(uint64_t bytes, char out[16]); /* as in df and prune: 4 significant digits */
const char *num_human_iec(uint64_t bytes, char out[16]);
