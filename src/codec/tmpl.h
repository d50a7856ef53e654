/*
 * tmpl.h - the part of Go's text/template that people use in --format, over JSON values.
 *
 * Actions: pipelines with fields, chains, variables and parentheses; if/else if/else, range (lists, maps, numbers; $k, $v;
 * break, continue), with, end; comments and trim markers. Functions: and or not eq ne lt le gt ge len index slice print
 * printf println json join split upper lower title truncate pad.
 * A key that is not there is an error, as in docker ("map has no entry for key"), except below labels, ports and other
 * maps of free keys ("<no value>"). Keys also match in another case (.ID finds "Id").
 * Values print as Go prints them: lists [a b], maps map[k:v] by key, other objects {v w} in their order.
 * Layer: codec.  Pure.  Threads: a parsed template is read-only.
 * Limits: 64 KiB of template, nesting 64, 64 MiB of output, 100 000 steps of range over a number.
 * Errors: ERR_INVALID "template parsing error: template: :LINE:COLUMN: …", ERR_LIMIT.
 */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "codec/json.h"

/*
 * A member of a row for the method .Label "key" alone ("" when there is no such label): an object of labels, or true in a header
 * row, where the method is the last part of the key. Not printed.
 */
#define TMPL_LABELS ".labels"

struct tmpl;
FALLIBLE tmpl_parse(const char *text, struct tmpl **out_tmpl); /* owned; text is copied */
/* Appends what the template makes of data (borrowed). */
FALLIBLE tmpl_run(const struct tmpl *t, const json_t *data, struct buf *out);
/* Whether a field of this name occurs anywhere: to leave out what is expensive to know (ps: Size). */
bool tmpl_uses(const struct tmpl *t, const char *field);
void tmpl_free(struct tmpl *t);

static inline void own_tmpl(struct tmpl **slot)
{
	tmpl_free(*slot);
}
#define auto_tmpl __attribute__((cleanup(own_tmpl)))
