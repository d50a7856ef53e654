/*
 * teller.h - what a build tells while it runs: numbered steps, their output, how long they took.
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

struct teller;
struct teller *teller_new(enum build_progress mode, bool quiet);
void teller_free(struct teller *p);
/* A new step; its number. */
unsigned teller_begin(struct teller *p, const char *title);
void teller_done(struct teller *p, unsigned step, bool is_cached);
void teller_note(struct teller *p, unsigned step, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void teller_warn(struct teller *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The step's output: a pipe whose lines are told as they come. Between open and close the fd (borrowed) is for the process. */
FALLIBLE teller_output_open(struct teller *p, unsigned step, int *out_fd);
/* Waits for the last line. failed: tells the output again if it was not told. */
void teller_output_close(struct teller *p, bool failed);
