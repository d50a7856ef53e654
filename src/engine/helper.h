/*
 * helper.h - hoy-transfer as our child: what it is told, its lines of JSON (registry/report.h), how it ends.
 *
 * Layer: engine (internal).  Threads: one per helper.  Blocks: until the child has ended.
 */
#pragma once
#include "base/err.h"
#include "codec/json.h"
#include "engine/image.h"

struct image_ahead;
struct helper {
	struct engine *e;		  /* whose lease is handed down; NULL: none */
	struct engine_progress progress;  /* where its lines for people go */
	struct image_ahead *ahead;	  /* of a pull, who is told what comes; else NULL */
	json_t *last;			  /* result or error */
	int pid_fd, lines_fd;		  /* of the child, between start and end */
};
#define HELPER(...) ((struct helper){ .pid_fd = -1, .lines_fd = -1, __VA_ARGS__ })
/* in_fd: its standard input (-1: none); data_fd: its fd 3, in place of the lease (-1: none). Both borrowed. */
FALLIBLE helper_start(struct helper *h, char *const *args, int in_fd, int data_fd);
/* Reads what it says until it ends. *out_result owned. Errors: its own. */
FALLIBLE helper_end(struct helper *h, json_t **out_result);
void helper_fini(struct helper *h); /* one that still runs is told to end, and waited for */
/* Both. */
FALLIBLE helper_run(struct helper *h, char *const *args, int in_fd, json_t **out_result);
#define auto_helper CLEANUP(helper_fini)
