/*
 * out.h - results for people and scripts: rows as a table, by a template, as JSON, or only their ids.
 *
 * A row is an object with docker's field names; the standard format is itself a template ("table {{.ID}}\t{{.Image}}"), and
 * the header row is the same template over the headings. Layer: cli.
 */
#pragma once
#include "base/err.h"
#include "base/sv.h"
#include "codec/json.h"
#include "codec/zip.h"
#include <stdbool.h>

struct out_format {
	const char *user;     /* --format: template, "table …", "json"; NULL: standard */
	const char *standard; /* "table …" */
	const char *const (*headings)[2]; /* field -> heading; ends with NULL; others are the field in capitals */
	const char *quiet;    /* the field printed alone with -q; NULL: not quiet */
};
/* Prints all rows (array, borrowed). ERR_INVALID for a bad template. */
FALLIBLE out_rows(const struct out_format *f, const json_t *rows);
/* One value by a template, or indented as docker inspect prints. */
FALLIBLE out_value(const char *format, const json_t *value);
/* "2026-11-30 17:07:58 +0000 UTC" in local time, as docker's lists have it; owned. */
char *out_moment(int64_t seconds);
/* "12 minutes ago" from seconds since 1970; owned. */
char *out_ago(int64_t seconds);
/* Tab-separated lines as aligned columns. */
FALLIBLE out_columns(struct sv text);
/* ERR_INVALID when the template does not fit such a row; prints nothing. */
FALLIBLE out_check(const char *format, const json_t *row);
/* Cut to n bytes with "…" when longer; owned. */
char *out_cut(const char *text, size_t n);
/* Writes all of text to standard output; ERR_… when it is closed or full. */
FALLIBLE out_text(const char *text, size_t n);
/*
 * What fill writes, into a file that is whole or not there (for its owner only), or to standard output when path is NULL, which must not be
 * a terminal. ERR_INVALID: path is a device or a pipe, or in no directory.
 */
FALLIBLE out_archive(const char *path, struct err *(*fill)(void *ctx, struct zip_sink sink), void *ctx);
/* Makes path a file of this text, replacing what it held: a digest, an id for scripts. */
FALLIBLE out_file(const char *path, const char *text);
/* Asks "… [y/N]" on standard input; false unless y. */
bool out_ask(const char *question);
