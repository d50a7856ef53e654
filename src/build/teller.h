/*
 * teller.h - what a build tells while it runs: numbered steps, their output, how long they took.
 *
 *	#5 [2/4] RUN make
 *	#5 0.312 cc -o x x.c
 *	#5 DONE 1.2s
 *
 * Layer: build, private.  Threads: several steps at once, each told by one thread.
 */
#pragma once
#include "base/err.h"
#include "build/build.h"

struct teller;
struct teller *teller_new(enum build_progress mode, bool quiet);
void teller_free(struct teller *t);
void teller_warn(struct teller *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct told; /* one step */
struct told *teller_begin(struct teller *t, const char *title);
/* What was begun ends in one of these; both free it, NULL is fine. */
void told_done(struct told *s, bool is_cached);
void told_drop(struct told *s); /* it failed: the error says so */
void told_note(struct told *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The step's output: a pipe whose lines are told as they come. Between open and close the fd (borrowed) is for the process. */
FALLIBLE told_output_open(struct told *s, int *out_fd);
/* Waits for the last line. failed: tells what quiet kept back. */
void told_output_close(struct told *s, bool failed);

static inline void own_told(struct told **slot)
{
	told_drop(*slot);
}
#define auto_told __attribute__((cleanup(own_told)))
