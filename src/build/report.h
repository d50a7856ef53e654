/*
 * report.h - what a build tells while it runs: numbered steps, their output, how long they took.
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

struct report;
struct report *report_new(enum build_progress mode, bool quiet);
void report_free(struct report *p);
/* A new step; its number. */
unsigned report_begin(struct report *p, const char *title);
void report_done(struct report *p, unsigned step, bool is_cached);
void report_note(struct report *p, unsigned step, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void report_warn(struct report *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The step's output: a pipe whose lines are told as they come. Between open and close the fd (borrowed) is for the process. */
FALLIBLE report_output_open(struct report *p, unsigned step, int *out_fd);
/* Waits for the last line. failed: tells the output again if it was not told. */
void report_output_close(struct report *p, bool failed);
