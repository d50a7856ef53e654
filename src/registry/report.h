/*
 * report.h - what hoy-transfer says to its caller: JSON lines on a pipe; and whether the caller still wants it.
 *
 * Format: {"id":"<12 hex>","status":S,"current":N,"total":N} for people; {"layer":D,"diff_id":X,...} as soon as a layer
 * can be used; last {"result":{...}} or {"error":{"kind":K,"message":M}}.
 * Layer: registry.  Threads: any.  Limits: one line per blob and 100 ms, unless its status changes.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "image/manifest.h"
#include <stdbool.h>
#include <stdint.h>

struct report;
/* fds borrowed. cancel_fd (or -1): readable when the work shall end. */
struct report *report_new(int out_fd, int cancel_fd);
void report_free(struct report *r);
/* A blob at work: remembers when it was last told of. */
struct report_line {
	const char *digest; /* borrowed */
	uint64_t total;     /* bytes */
	const char *status; /* borrowed, told last */
	int64_t told_ns;
};
void report_blob(struct report *r, struct report_line *line, const char *status, uint64_t current_bytes);
/* {"layer":D,"diff_id":X,"media_type":T,"size":N}: this layer is in the store, whole; it can be applied. */
void report_layer(struct report *r, const struct descriptor *layer, const char *diff_id);
void report_result(struct report *r, json_t *result); /* takes the reference */
void report_error(struct report *r, const struct err *e);
/* The reader went away, or cancel_fd fired. */
bool report_is_cancelled(struct report *r);
/* Waits so long, or until cancelled: then true. */
bool report_sleep(struct report *r, int64_t ns);

static inline void own_report(struct report **slot)
{
	report_free(*slot);
}
#define auto_report __attribute__((cleanup(own_report)))
