/*
 * tmpl_parse.c - template text to a tree, in one pass: text up to "{{", then one action by recursive descent.
 *
 * There is no token list: the parser looks at the characters, because whether a dot continues a chain (".A.B") or begins a
 * new operand (".A .B") depends on the space before it.
 */
#include "base/num.h"
#include "base/own.h"
#include "codec/tmpl_int.h"
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#define SOURCE_MAX  (64u << 10)
#define NESTING_MAX 64
#define OPERAND_MAX 32

struct parser {
	struct tmpl *t;
	const char *p, *end;	/* within t->source */
	unsigned depth;
	unsigned loops;		/* range bodies around here */
};
enum stop { STOP_EOF, STOP_END, STOP_ELSE };

static FALLIBLE fail(const struct parser *ps, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static struct err *fail(const struct parser *ps, const char *fmt, ...)
{
	char msg[256];
	unsigned line = 1;
	va_list ap;

	for (const char *p = ps->t->source; p < ps->p; p++)
		line += *p == '\n';
	va_start(ap, fmt);
	(void)vsnprintf(msg, sizeof msg, fmt, ap);
	va_end(ap);
	return FAIL(ERR_INVALID, "template parsing error: template: :%u: %s", line, msg);
}

static void *make(struct parser *ps, size_t size)
{
	return arena_alloc(&ps->t->arena, size);
}

static struct expr *expr_new(struct parser *ps, enum expr_kind kind, const char *from)
{
	struct expr *x = make(ps, sizeof *x);

	if (x) {
		x->kind = kind;
		x->at = (size_t)(from - ps->t->source);
	}
	return x;
}

/* Gives x its text: everything since it began. */
static FALLIBLE expr_done(struct parser *ps, struct expr *x, const char *from, struct expr **out)
{
	x->text = arena_strndup(&ps->t->arena, from, (size_t)(ps->p - from));
	if (!x->text)
		return FAIL(ERR_LIMIT, "template too large");
	*out = x;
	return NULL;
}

static void skip_space(struct parser *ps)
{
	while (ps->p < ps->end && isspace((unsigned char)*ps->p))
		ps->p++;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || (c & 0x80);
}

static bool at_close(const struct parser *ps)
{
	return strncmp(ps->p, "}}", 2) == 0 ||
	       (strncmp(ps->p, "-}}", 3) == 0 && ps->p > ps->t->source && isspace((unsigned char)ps->p[-1]));
}

/* The word at the position, without moving. */
static struct sv peek_word(const struct parser *ps)
{
	size_t n = 0;

	while (is_word(ps->p[n]))
		n++;
	return sv_from(ps->p, n);
}

static FALLIBLE take_name(struct parser *ps, const char **out_name)
{
	struct sv w = peek_word(ps);
	const char *name = arena_strndup(&ps->t->arena, w.p, w.n);

	if (!name)
		return FAIL(ERR_LIMIT, "template too large");
	ps->p += w.n;
	*out_name = name;
	return NULL;
}

static FALLIBLE literal(struct parser *ps, const char *from, json_t *owned, struct expr **out)
{
	struct expr *x = expr_new(ps, EXPR_LIT, from);

	if (!x || !owned || json_array_append_new(ps->t->literals, owned) != 0)
		return fail(ps, "bad constant");
	x->lit = owned;
	return expr_done(ps, x, from, out);
}

static FALLIBLE parse_string(struct parser *ps, struct expr **out)
{
	static const char codes[] = "abfnrtv\\\"'", means[] = "\a\b\f\n\r\t\v\\\"'";
	auto_buf struct buf b = BUF(SOURCE_MAX);
	const char *from = ps->p;
	char quote = *ps->p++;

	for (;; ps->p++) {
		const char *code;

		if (ps->p >= ps->end || (*ps->p == '\n' && quote == '"'))
			return fail(ps, "unterminated quoted string");
		if (*ps->p == quote)
			break;
		if (*ps->p != '\\' || quote == '`') {
			buf_ch(&b, *ps->p);
			continue;
		}
		ps->p++;
		code = *ps->p ? strchr(codes, *ps->p) : NULL;
		if (!code)
			return fail(ps, "unknown escape in a quoted string");
		buf_ch(&b, means[code - codes]);
	}
	ps->p++;
	return literal(ps, from, json_stringn(buf_text(&b), b.n), out);
}

static FALLIBLE parse_number(struct parser *ps, struct expr **out)
{
	const char *from = ps->p;
	char *stop;
	double d = strtod(from, &stop);
	struct sv text = sv_from(from, (size_t)(stop - from));
	int64_t i;
	auto_err struct err *e = NULL;

	if (stop == from || is_word(*stop) || !isfinite(d))
		return fail(ps, "bad number syntax: \"%.20s\"", from);
	ps->p = stop;
	e = num_parse_signed(from[0] == '+' ? sv_skip(text, 1) : text, INT64_MIN + 1, INT64_MAX, &i);
	return literal(ps, from, e ? json_real(d) : json_integer(i), out);
}

static FALLIBLE parse_pipe(struct parser *ps, struct expr **out);

static FALLIBLE parse_paren(struct parser *ps, struct expr **out)
{
	ps->p++;
	if (++ps->depth > NESTING_MAX)
		return fail(ps, "nested too deeply");
	TRY(parse_pipe(ps, out));
	ps->depth--;
	skip_space(ps);
	if (*ps->p != ')')
		return fail(ps, "unclosed left paren");
	ps->p++;
	return NULL;
}

/* A word: true, false, nil or a function without arguments. */
static FALLIBLE parse_word(struct parser *ps, struct expr **out)
{
	const char *from = ps->p;
	struct sv w = peek_word(ps);
	struct expr *x;

	if (sv_is(w, "true") || sv_is(w, "false") || sv_is(w, "nil")) {
		ps->p += w.n;
		return literal(ps, from, w.p[0] == 'n' ? json_null() : json_boolean(w.p[0] == 't'), out);
	}
	x = expr_new(ps, EXPR_CALL, from);
	if (!x)
		return FAIL(ERR_LIMIT, "template too large");
	TRY(take_name(ps, &x->name));
	if (!tmpl_has_func(x->name))
		return fail(ps, "function \"%s\" not defined", x->name);
	return expr_done(ps, x, from, out);
}

/* .A.B $x.A (…).A "text" 12 word */
static FALLIBLE parse_operand(struct parser *ps, struct expr **out)
{
	const char *from = ps->p;
	struct expr *x = NULL;

	if (*ps->p == '"' || *ps->p == '`') {
		TRY(parse_string(ps, &x));
	} else if (isdigit((unsigned char)*ps->p) || ((*ps->p == '-' || *ps->p == '+') && isdigit((unsigned char)ps->p[1]))) {
		TRY(parse_number(ps, &x));
	} else if (*ps->p == '(') {
		TRY(parse_paren(ps, &x));
	} else if (*ps->p == '$' || *ps->p == '.') {
		x = expr_new(ps, *ps->p == '$' ? EXPR_VAR : EXPR_DOT, from);
		if (!x)
			return FAIL(ERR_LIMIT, "template too large");
		if (*ps->p == '$') {
			ps->p++;
			TRY(take_name(ps, &x->name));
		} else if (!is_word(ps->p[1])) {
			ps->p++;
		}
		TRY(expr_done(ps, x, from, &x));
	} else if (is_word(*ps->p)) {
		TRY(parse_word(ps, &x));
	} else {
		return fail(ps, "unexpected \"%.1s\" in operand", ps->p);
	}
	while (*ps->p == '.' && is_word(ps->p[1])) {
		struct expr *f = expr_new(ps, EXPR_FIELD, from);

		if (!f)
			return FAIL(ERR_LIMIT, "template too large");
		ps->p++;
		f->base = x;
		TRY(take_name(ps, &f->name));
		TRY(expr_done(ps, f, from, &x));
	}
	*out = x;
	return NULL;
}

static FALLIBLE list_dup(struct parser *ps, struct expr *const *items, size_t n, struct expr *owner)
{
	owner->args = make(ps, (n ? n : 1) * sizeof(struct expr *));
	if (!owner->args)
		return FAIL(ERR_LIMIT, "template too large");
	for (size_t i = 0; i < n; i++)
		owner->args[i] = items[i];
	owner->n_args = n;
	return NULL;
}

static bool at_command_end(const struct parser *ps)
{
	return ps->p >= ps->end || *ps->p == '|' || *ps->p == ')' || at_close(ps);
}

/* .Label "key" is a method of docker's rows: the label of the row's TMPL_LABELS. */
static FALLIBLE label_of(struct parser *ps, struct expr *head, struct expr *key, const char *from, struct expr **out)
{
	struct expr *call = expr_new(ps, EXPR_CALL, from);

	if (!call)
		return FAIL(ERR_LIMIT, "template too large");
	head->name = TMPL_LABELS;
	call->name = TMPL_LABEL;
	TRY(list_dup(ps, (struct expr *const[]){ head, key }, 2, call));
	return expr_done(ps, call, from, out);
}

static FALLIBLE parse_command(struct parser *ps, struct expr **out)
{
	const char *from = ps->p;
	struct expr *items[OPERAND_MAX], *head;
	size_t n = 0;

	for (skip_space(ps); !at_command_end(ps); skip_space(ps)) {
		if (n == OPERAND_MAX)
			return fail(ps, "too many arguments");
		TRY(parse_operand(ps, &items[n++]));
		if (!isspace((unsigned char)*ps->p) && !at_command_end(ps))
			return fail(ps, "unexpected \"%.1s\" in operand", ps->p);
	}
	if (n == 0)
		return fail(ps, ps->p >= ps->end ? "unclosed action" : "missing value for command");
	head = items[0];
	if (head->kind == EXPR_CALL && !head->args) {
		TRY(list_dup(ps, items + 1, n - 1, head));
		return expr_done(ps, head, from, out);
	}
	if (n == 2 && head->kind == EXPR_FIELD && strcmp(head->name, "Label") == 0)
		return label_of(ps, head, items[1], from, out);
	if (n > 1)
		return fail(ps, "can't give argument to non-function %s", head->text);
	*out = head;
	return NULL;
}

static FALLIBLE parse_pipe(struct parser *ps, struct expr **out)
{
	const char *from = ps->p;
	struct expr *items[OPERAND_MAX], *x;
	size_t n = 0;

	for (;;) {
		if (n == OPERAND_MAX)
			return fail(ps, "pipeline too long");
		TRY(parse_command(ps, &items[n++]));
		if (n > 1 && items[n - 1]->kind != EXPR_CALL)
			return fail(ps, "non executable command in pipeline stage %zu", n);
		if (*ps->p != '|')
			break;
		ps->p++;
	}
	if (n == 1) {
		*out = items[0];
		return NULL;
	}
	x = expr_new(ps, EXPR_PIPE, from);
	if (!x)
		return FAIL(ERR_LIMIT, "template too large");
	TRY(list_dup(ps, items, n, x));
	return expr_done(ps, x, from, out);
}

/* "$k, $v :=", "$v :=", "$v =" before a pipeline; nothing taken when there is none. */
static FALLIBLE parse_vars(struct parser *ps, struct node *n)
{
	const char *start = ps->p;

	while (*ps->p == '$' && n->n_vars < 2) {
		ps->p++;
		TRY(take_name(ps, &n->var[n->n_vars++]));
		skip_space(ps);
		if (*ps->p != ',' || n->kind != NODE_RANGE)
			break;
		ps->p++;
		skip_space(ps);
	}
	if (n->n_vars && strncmp(ps->p, ":=", 2) == 0) {
		ps->p += 2;
	} else if (n->n_vars == 1 && *ps->p == '=') {
		ps->p++;
		n->assign = true;
	} else {
		ps->p = start;
		n->n_vars = 0;
	}
	return NULL;
}

static FALLIBLE parse_list(struct parser *ps, struct node **out_list, enum stop *out_stop);

/* Closes an action: "}}" or "-}}", which also eats the space that follows. */
static FALLIBLE close_action(struct parser *ps)
{
	skip_space(ps);
	if (strncmp(ps->p, "-}}", 3) == 0) {
		ps->p += 3;
		skip_space(ps);
		return NULL;
	}
	if (strncmp(ps->p, "}}", 2) != 0)
		return fail(ps, ps->p >= ps->end ? "unclosed action" : "unexpected \"%.10s\" in command", ps->p);
	ps->p += 2;
	return NULL;
}

/* After "{{if", "{{range", "{{with" and their "{{else if": pipeline, body, else. */
static FALLIBLE parse_block(struct parser *ps, struct node *n)
{
	enum stop stop;

	if (++ps->depth > NESTING_MAX)
		return fail(ps, "nested too deeply");
	skip_space(ps);
	TRY(parse_vars(ps, n));
	TRY(parse_pipe(ps, &n->pipe));
	TRY(close_action(ps));
	ps->loops += n->kind == NODE_RANGE;
	TRY(parse_list(ps, &n->body, &stop));
	ps->loops -= n->kind == NODE_RANGE;
	if (stop == STOP_ELSE) {
		struct sv w;

		skip_space(ps);
		w = peek_word(ps);
		if ((n->kind == NODE_IF && sv_is(w, "if")) || (n->kind == NODE_WITH && sv_is(w, "with"))) {
			n->orelse = make(ps, sizeof *n);
			if (!n->orelse)
				return FAIL(ERR_LIMIT, "template too large");
			n->orelse->kind = n->kind;
			ps->p += w.n;
			TRY(parse_block(ps, n->orelse));
			ps->depth--;
			return NULL;
		}
		TRY(close_action(ps));
		TRY(parse_list(ps, &n->orelse, &stop));
	}
	if (stop != STOP_END)
		return fail(ps, stop == STOP_EOF ? "unexpected EOF" : "unexpected {{else}}");
	ps->depth--;
	return NULL;
}

static FALLIBLE parse_comment(struct parser *ps)
{
	const char *stop = strstr(ps->p, "*/");

	if (!stop)
		return fail(ps, "unclosed comment");
	ps->p = stop + 2;
	return close_action(ps);
}

/* One action whose "{{" was read. *out_stop is left alone unless it ends the list. */
static FALLIBLE parse_action(struct parser *ps, struct node *n, enum stop *out_stop, bool *out_ended)
{
	static const struct {
		const char *word;
		enum node_kind kind;
	} words[] = { { "if", NODE_IF }, { "range", NODE_RANGE }, { "with", NODE_WITH }, { "break", NODE_BREAK },
		      { "continue", NODE_CONTINUE } };
	struct sv w;

	skip_space(ps);
	w = peek_word(ps);
	if (sv_is(w, "end") || sv_is(w, "else")) {
		ps->p += w.n;
		*out_ended = true;
		*out_stop = w.n == 3 ? STOP_END : STOP_ELSE;
		return w.n == 3 ? close_action(ps) : NULL;
	}
	n->kind = NODE_ACTION;
	for (size_t i = 0; i < LEN(words); i++)
		if (sv_is(w, words[i].word))
			n->kind = words[i].kind;
	if (n->kind == NODE_ACTION) {
		TRY(parse_vars(ps, n));
		TRY(parse_pipe(ps, &n->pipe));
		return close_action(ps);
	}
	ps->p += w.n;
	if (n->kind != NODE_BREAK && n->kind != NODE_CONTINUE)
		return parse_block(ps, n);
	if (ps->loops == 0)
		return fail(ps, "{{" SV_FMT "}} outside {{range}}", SV_ARG(w));
	return close_action(ps);
}

/* The text before the next "{{" (or the end), right-trimmed when that is "{{- ". */
static struct sv take_text(struct parser *ps)
{
	const char *open = strstr(ps->p, "{{");
	struct sv text = sv_from(ps->p, (size_t)((open ? open : ps->end) - ps->p));

	ps->p += text.n;
	if (open && open[2] == '-' && isspace((unsigned char)open[3]))
		while (text.n && isspace((unsigned char)text.p[text.n - 1]))
			text.n--;
	return text;
}

static struct err *parse_list(struct parser *ps, struct node **out_list, enum stop *out_stop)
{
	bool ended = false;

	while (!ended) {
		struct sv text = take_text(ps);
		struct node *n = make(ps, sizeof *n);

		if (!n)
			return FAIL(ERR_LIMIT, "template too large");
		if (text.n) {
			n->kind = NODE_TEXT;
			n->text = text;
			*out_list = n;
			out_list = &n->next;
			n = make(ps, sizeof *n);
			if (!n)
				return FAIL(ERR_LIMIT, "template too large");
		}
		if (ps->p >= ps->end) {
			*out_stop = STOP_EOF;
			return NULL;
		}
		ps->p += ps->p[2] == '-' && isspace((unsigned char)ps->p[3]) ? 3 : 2;
		skip_space(ps);
		if (strncmp(ps->p, "/*", 2) == 0) {
			TRY(parse_comment(ps));
			continue;
		}
		TRY(parse_action(ps, n, out_stop, &ended));
		if (!ended) {
			*out_list = n;
			out_list = &n->next;
		}
	}
	return NULL;
}

struct err *tmpl_parse(const char *text, struct tmpl **out_tmpl)
{
	auto_tmpl struct tmpl *t = xnew(struct tmpl);
	struct parser ps = { .t = t };
	enum stop stop;
	size_t n = strlen(text);

	if (n > SOURCE_MAX)
		return FAIL(ERR_LIMIT, "template longer than %u bytes", SOURCE_MAX);
	arena_init(&t->arena, 64u << 20);
	t->source = xstrdup(text);
	t->literals = json_array();
	ps.p = t->source;
	ps.end = t->source + n;
	TRY(parse_list(&ps, &t->nodes, &stop));
	if (stop != STOP_EOF)
		return fail(&ps, stop == STOP_END ? "unexpected {{end}}" : "unexpected {{else}}");
	*out_tmpl = TAKE(t);
	return NULL;
}

void tmpl_free(struct tmpl *t)
{
	if (!t)
		return;
	json_decref(t->literals);
	free(t->source);
	arena_fini(&t->arena);
	free(t);
}
