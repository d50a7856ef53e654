/*
 * progress.h - what a build tells while it runs: numbered steps, their output, how long they took.
 *
 *	#5 [2/4] RUN make
 *	#5 0.312 cc -o x x.c
 *	#5 DONE 1.2s
 *
 * Layer: build, private.  Threads: one build, plus one reader per running step.
 */
#pragma once
#include "base/err.h"
#include "build/build.h"

struct progress;
struct progress *progress_new(enum build_progress mode, bool quiet);
void progress_free(struct progress *p);
/* A new step; its number. */
unsigned progress_begin(struct progress *p, const char *title);
void progress_done(struct progress *p, unsigned step, bool is_cached);
void progress_note(struct progress *p, unsigned step, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void progress_warn(struct progress *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The step's output: a pipe whose lines are told as they come. Between open and close the fd (borrowed) is for the process. */
FALLIBLE progress_output_open(struct progress *p, unsigned step, int *out_fd);
/* Waits for the last line. failed: tells the output again if it was not told. */
void progress_output_close(struct progress *p, bool failed);
