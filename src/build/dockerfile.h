/*
 * dockerfile.h - the text of a Dockerfile as a list of instructions, each with its place in the text.
 *
 * A pure function over bytes: comments, directives, continuation lines, flags, JSON forms and heredocs are understood here;
 * variables are not expanded (expand.h), meanings not checked (plan.h).
 * Grammar: Dockerfile reference; where it is silent, as BuildKit's frontend 1.x does.
 * Layer: build.  Pure.  Limits: 1 MiB of text, 65535 bytes a line.
 * Errors: ERR_INVALID "dockerfile parse error on line N: …" followed by the place: file, line, the source line and a caret.
 */
#pragma once
#include "base/err.h"
#include "base/mem.h"
#include "base/sv.h"
#include <stdbool.h>
#include <stddef.h>

enum instr_kind {
	INSTR_ADD, INSTR_ARG, INSTR_CMD, INSTR_COPY, INSTR_ENTRYPOINT, INSTR_ENV, INSTR_EXPOSE, INSTR_FROM,
	INSTR_HEALTHCHECK, INSTR_LABEL, INSTR_MAINTAINER, INSTR_ONBUILD, INSTR_RUN, INSTR_SHELL, INSTR_STOPSIGNAL,
	INSTR_USER, INSTR_VOLUME, INSTR_WORKDIR, INSTR_KINDS
};
struct instr_flag {
	const char *name;  /* without "--" */
	const char *value; /* NULL: no "=" */
};
struct heredoc {
	const char *name; /* the terminator, without quotes */
	const char *text; /* with the last newline; leading tabs cut when asked for by <<- */
	bool is_quoted;	  /* no expansion */
	bool is_chomped;  /* <<- */
};
/* All pointers are into the arena of its struct dockerfile. */
struct instr {
	enum instr_kind kind;
	unsigned line, end_line; /* counted from 1 */
	const char *text;	 /* after the flags, continuation lines joined, trimmed */
	struct instr_flag *flags;
	size_t n_flags;
	/* JSON form: the strings. ENV, LABEL, ARG: words "K=V" with their quotes (ARG also "K"). COPY, ADD, EXPOSE, VOLUME, FROM: words.
	 * Others: the text alone. */
	const char **args;
	size_t n_args;
	bool is_json;
	struct heredoc *heredocs;
	size_t n_heredocs;
};
struct dockerfile {
	struct arena arena;
	const char *name; /* for messages; borrowed until fini */
	struct sv source; /* a copy of our own */
	char escape;
	struct instr *instrs;
	size_t n;
};
#define DOCKERFILE_MAX (1u << 20)

/* name: as it stands in messages ("Dockerfile"). Fails also when there is no instruction at all. */
FALLIBLE dockerfile_parse(const char *name, struct sv source, struct dockerfile *out_file);
void dockerfile_fini(struct dockerfile *d);
const char *instr_name(enum instr_kind kind); /* "RUN" */
/* The value of a flag, "" when it has none, NULL when it is not there; the last one wins. */
const char *instr_flag(const struct instr *i, const char *name);
/* Adds the place to e (consumed): file:line, the line, a caret under `at` (a piece of the line; NULL: the whole). */
FALLIBLE dockerfile_place(const struct dockerfile *d, unsigned line, const char *at, struct err *e)
	__attribute__((returns_nonnull));
/* For people and golden tests: one line per instruction. */
struct buf;
void dockerfile_print(const struct dockerfile *d, struct buf *out);
