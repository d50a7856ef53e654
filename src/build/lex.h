/* lex.h - lines and words of a Dockerfile, below dockerfile.c. Layer: build, private. Pure. */
#pragma once
#include "base/buf.h"
#include "base/err.h"
#include "base/sv.h"
#include <stdbool.h>

#define LEX_LINE_MAX 65535

struct lex {
	struct sv rest;
	unsigned line; /* of what lex_raw returned last */
	char escape;
};
/* The next physical line without its line end; false at the end. */
bool lex_raw(struct lex *l, struct sv *out_line);
bool lex_is_comment(struct sv line);
/* Reads directives from the beginning; leaves l after them. out_error_line: where a directive is wrong. */
FALLIBLE lex_directives(struct lex *l);
/*
 * The next instruction with its continuation lines joined into out (reset before); false at the end.
 * out_line: where it begins; l->line: where it ends.
 */
bool lex_logical(struct lex *l, struct buf *out, unsigned *out_line);
/* Words as the shell would cut them, quotes and escapes kept. Takes the first from *rest; false when there is none. */
bool lex_word(struct sv *rest, char escape, struct buf *out);
/* One heredoc mark "[fd]<<[-]NAME" as a word. */
struct lex_heredoc {
	char name[256];
	bool is_quoted, is_chomped;
};
bool lex_heredoc(struct sv word, struct lex_heredoc *out);
