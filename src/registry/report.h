/*
 * report.h - what hoy-transfer says to its caller: JSON lines on a pipe; and whether the caller still wants
 * it.
 *
 * Format: {"id":"<12 hex>","status":S,"current":N,"total":N} for people; {"arriving":D,...} when
 * the first bytes of a layer are awaited, {"arrived":D,...} as they come, {"layer":D,...} as soon as it can
 * be used; last {"result":{...}} or {"error":{"kind":K,"message":M}}. Layer: registry.  Threads: any. Limits:
 * one line per blob and 100 ms for people, unless its status changes.
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
/* {"arriving":D,"diff_id":X,"media_type":T,"size":N,"file":F}: its bytes come into the store's temporary file
 * F … */
void report_arriving(struct report *r, const struct descriptor *layer, const char *diff_id, const char *file);
/* {"arrived":D,"bytes":N}: … and so many from the first on are there, not verified yet. Fewer than before: it
 * began again. */
void report_arrived(struct report *r, const char *digest, uint64_t bytes);
void report_result(struct report *r, json_t *result); /* takes the reference */
void report_error(struct report *r, const struct err *e);
/* The reader went away, or cancel_fd fired. */
bool report_is_cancelled(struct report *r);
bool report_ctx_is_cancelled(void *report); /* the same, for those who ask with a context */
/* Waits so long, or until cancelled: then true. */
bool report_sleep(struct report *r, int64_t ns);

static inline void own_report(struct report **slot)
{
	report_free(*slot);
}
#define auto_report __attribute__((cleanup(own_report)))
