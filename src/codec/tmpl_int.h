/* tmpl_int.h - what the parser of templates hands to the evaluator. Only for src/codec/tmpl_*.c. */
#pragma once
#include "base/mem.h"
#include "codec/tmpl.h"

#define TMPL_LABEL ".label" /* the function behind .Label: no template can name it */

enum expr_kind {
	EXPR_DOT,   /* . */
	EXPR_LIT,   /* "text", 12, true, nil */
	EXPR_VAR,   /* $x; "$" is the data */
	EXPR_FIELD, /* base.name */
	EXPR_CALL,  /* name args… */
	EXPR_PIPE,  /* args[0] | args[1] | …: each result is the last argument of the next */
};
struct expr {
	enum expr_kind kind;
	const char *name; /* field, variable or function */
	const char *text; /* as written, for messages */
	size_t at;	  /* byte in the template */
	struct expr *base;
	struct expr **args;
	size_t n_args;
	json_t *lit; /* borrowed from the template */
};

enum node_kind { NODE_TEXT, NODE_ACTION, NODE_IF, NODE_RANGE, NODE_WITH, NODE_BREAK, NODE_CONTINUE };
struct node {
	enum node_kind kind;
	struct node *next;
	struct sv text;		 /* NODE_TEXT */
	struct expr *pipe;
	const char *var[2];	 /* $v := pipe; range $k, $v := pipe */
	unsigned n_vars;
	bool assign;		 /* "=": an existing variable */
	struct node *body, *orelse;
};
struct tmpl {
	struct arena arena;
	char *source;
	json_t *literals; /* array that owns every EXPR_LIT */
	struct node *nodes;
};

/* A value while running: borrowed; j NULL is "no value". */
struct val {
	const json_t *j;
	bool is_map; /* an object with free keys (labels …) rather than an API struct */
};
struct run {
	const struct tmpl *t;
	json_t *pool; /* owns what functions made */
	struct buf *out;
	struct scope {
		const char *name;
		struct val v;
	} vars[64];
	size_t n_vars;
	unsigned depth;
};
/* A new value into the pool, borrowed back. */
struct val tmpl_keep(struct run *r, json_t *owned);
FALLIBLE tmpl_fail_at(const struct tmpl *t, const struct expr *x, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
bool tmpl_truth(struct val v);
void tmpl_print(struct val v, struct buf *out, bool nested);
bool tmpl_has_func(const char *name);
FALLIBLE tmpl_call(struct run *r, const struct expr *x, const struct val *args, size_t n, struct val *out_val);
