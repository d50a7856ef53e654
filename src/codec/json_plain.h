/* json_plain.h - the quick way through plain JSON documents, for json.c only. Layer: codec, private. Threads:
 * any. */
#pragma once
#include "base/sv.h"
#include <jansson.h>

/*
 * The value of n bytes that a zero byte follows (owned), as json_loadb(JSON_REJECT_DUPLICATES) makes it;
 * NULL: ask that one, nothing is known yet.
 */
json_t *json_plain(const char *text, size_t n);
