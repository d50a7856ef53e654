/*
 * json.h - JSON in and out, over jansson: strict (duplicate keys refused), with limits on size and depth.
 *
 * Values are jansson's (json_t, reference counted); building and walking use its API directly. Parsing and printing go
 * through here, so that limits and error texts are the same everywhere.
 * Layer: codec.  Threads: a value belongs to one thread at a time.  Limits: the caller's size, depth 128.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/sv.h"
#include <jansson.h>
#include <stdint.h>

static inline void own_json(json_t **slot)
{
	json_decref(*slot);
}
#define auto_json __attribute__((cleanup(own_json)))

/*
 * One whole document; ERR_INVALID "what:LINE:COLUMN: reason", ERR_LIMIT beyond max_bytes. Owned.
 * Integers above INT64_MAX, which jansson cannot hold, become strings of their digits: read those by
 * json_u64.
 */
FALLIBLE json_parse(struct sv text, const char *what, size_t max_bytes, json_t **out_value);
/* The same from an fd at its position. */
FALLIBLE json_read(int fd, const char *what, size_t max_bytes, json_t **out_value);
/* The same; text (an empty buffer with the limit) has the document as it was, also when it is wrong. */
FALLIBLE json_read_text(int fd, const char *what, struct buf *text, json_t **out_value);
/* Compact, keys in insertion order. */
void json_print(const json_t *value, struct buf *out);
/* Indented by n spaces, as docker inspect prints (4). */
void json_print_indent(const json_t *value, unsigned spaces, struct buf *out);
/* The member at a path "a.b.c", or NULL; borrowed. No escaping: for keys without dots. */
json_t *json_at(const json_t *value, const char *path);
/* The string at path, borrowed, or fallback. */
const char *json_str_at(const json_t *value, const char *path, const char *fallback);
int64_t json_int_at(const json_t *value, const char *path, int64_t fallback);
/* An integer from 0 to UINT64_MAX (see json_parse); false: something else. */
bool json_u64(const json_t *value, uint64_t *out);
bool json_bool_at(const json_t *value, const char *path, bool fallback);
/* A NULL-terminated owned copy (text_list_free) of an array of strings; NULL when absent or null; ERR_INVALID otherwise. */
FALLIBLE json_list_at(const json_t *value, const char *path, char ***out_list);
void json_add_once(json_t *list, const char *text); /* to an array of strings, unless it is there */
json_t *json_from_list(char *const *list); /* owned array; NULL list gives an empty array */

/*
 * For a process that reads a document, acts, and then lives long: from json_region_begin on (before any JSON exists) all JSON
 * memory comes from one region; freeing a value frees nothing. json_region_drop gives the whole back at once - no value may
 * be left - and a new region begins. Not for threads.
 */
void json_region_begin(void);
/* json_decref at the end of a document's life: with a region there is nothing to do, and it is not walked. */
void json_release(json_t *value);
void json_region_drop(void);
