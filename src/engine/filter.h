/*
 * filter.h - the API's filters: {"status": ["running", "exited"], "label": ["a=b"]}; values of one key are alternatives,
 * keys must all hold. NULL filters hold for everything.
 *
 * Layer: engine.  Pure.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include <stdbool.h>

/* ERR_INVALID "invalid filter 'x'" for a key that is not in known (NULL-terminated). */
FALLIBLE filter_check(const json_t *filters, const char *const *known);
/* ERR_INVALID for a value of name that is neither true, false, 1 nor 0. After filter_check. */
FALLIBLE filter_check_bool(const json_t *filters, const char *name);
bool filter_is(const json_t *filters, const char *key, const char *value);	 /* equal to one of the values */
/* One of the values is part of it, or is a regular expression that finds it; also with docker's slash before it (^/web$). */
bool filter_by_name(const json_t *filters, const char *key, const char *value);
bool filter_prefix(const json_t *filters, const char *key, const char *value);	 /* one of the values begins it */
bool filter_labels(const json_t *filters, const json_t *labels); /* every "label" value: key, or key=value */
/* What prunes by age and label: created_ns before every "until" (time_parse_moment), every "label" and no "label!". */
FALLIBLE filter_prunes(const json_t *filters, int64_t created_ns, const json_t *labels, bool *out_fits);
