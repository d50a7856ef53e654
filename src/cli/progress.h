/*
 * progress.h - what a pull or push does, as a bar per layer on a terminal, as plain lines otherwise.
 *
 * Layer: cli.
 */
#pragma once
#include "engine/image.h"
#include <stdio.h>

#define PROGRESS_LINES 64

struct progress {
	FILE *to; /* NULL: quiet */
	bool is_tty;
	size_t n;
	struct progress_line {
		char id[16], status[48];
	} lines[PROGRESS_LINES];
};
struct progress progress_begin(bool quiet, FILE *to);
struct engine_progress progress_sink(struct progress *p); /* p borrowed */
void progress_fini(struct progress *p);
