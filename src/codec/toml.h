/*
 * toml.h - TOML 1.0 in, as the same value tree as JSON.
 *
 * Specification: toml.io v1.0.0. Strict: keys and tables defined twice are refused. Dates and times become strings as they
 * are written; inf and nan are refused.
 * Why our own: Debian has no C library for TOML.
 * Layer: codec.  Pure.  Limits: the caller's size, depth 32, 4096 tables.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include "codec/json.h"

/* One whole document, an object; ERR_INVALID "what:LINE: reason", ERR_LIMIT. Owned. */
FALLIBLE toml_parse(struct sv text, const char *what, size_t max_bytes, json_t **out_value);
