/*
 * dockerfile.c - instructions out of lines; see dockerfile.h.
 *
 * Every string of the result lives in the file's arena, whose size is bounded by that of the source, so running out of it is
 * running out of memory.
 */
#include "build/dockerfile.h"
#include "base/buf.h"
#include "base/own.h"
#include "base/vec.h"
#include "build/lex.h"
#include "codec/json.h"
#include <strings.h>

enum { ARENA_MAX = 512 << 20, WORDS_MAX = 1 << 16 };

enum shape { SHAPE_TEXT, SHAPE_WORDS, SHAPE_PAIRS, SHAPE_ARGS, SHAPE_MAYBE_JSON, SHAPE_WORDS_OR_JSON, SHAPE_JSON };

static const struct {
	const char *name;
	enum shape shape;
	bool has_flags, has_heredoc;
} kinds[INSTR_KINDS] = {
	[INSTR_ADD] = { "ADD", SHAPE_WORDS_OR_JSON, true, true },
	[INSTR_ARG] = { "ARG", SHAPE_ARGS, false, false },
	[INSTR_CMD] = { "CMD", SHAPE_MAYBE_JSON, false, false },
	[INSTR_COPY] = { "COPY", SHAPE_WORDS_OR_JSON, true, true },
	[INSTR_ENTRYPOINT] = { "ENTRYPOINT", SHAPE_MAYBE_JSON, false, false },
	[INSTR_ENV] = { "ENV", SHAPE_PAIRS, false, false },
	[INSTR_EXPOSE] = { "EXPOSE", SHAPE_WORDS, false, false },
	[INSTR_FROM] = { "FROM", SHAPE_WORDS, true, false },
	[INSTR_HEALTHCHECK] = { "HEALTHCHECK", SHAPE_TEXT, true, false },
	[INSTR_LABEL] = { "LABEL", SHAPE_PAIRS, false, false },
	[INSTR_MAINTAINER] = { "MAINTAINER", SHAPE_TEXT, false, false },
	[INSTR_ONBUILD] = { "ONBUILD", SHAPE_TEXT, false, false },
	[INSTR_RUN] = { "RUN", SHAPE_MAYBE_JSON, true, true },
	[INSTR_SHELL] = { "SHELL", SHAPE_JSON, false, false },
	[INSTR_STOPSIGNAL] = { "STOPSIGNAL", SHAPE_TEXT, false, false },
	[INSTR_USER] = { "USER", SHAPE_TEXT, false, false },
	[INSTR_VOLUME] = { "VOLUME", SHAPE_WORDS_OR_JSON, false, false },
	[INSTR_WORKDIR] = { "WORKDIR", SHAPE_TEXT, false, false },
};

const char *instr_name(enum instr_kind kind)
{
	return kinds[kind].name;
}

const char *instr_flag(const struct instr *i, const char *name)
{
	for (size_t k = i->n_flags; k-- > 0;)
		if (strcmp(i->flags[k].name, name) == 0)
			return i->flags[k].value ? i->flags[k].value : "";
	return NULL;
}

void dockerfile_fini(struct dockerfile *d)
{
	arena_fini(&d->arena);
	*d = (struct dockerfile){ 0 };
}

/* ---- places ---- */

static struct sv line_of(const struct dockerfile *d, unsigned number)
{
	struct sv rest = d->source, line = { 0 };

	for (unsigned i = 0; i < number && rest.n; i++)
		line = sv_cut(&rest, '\n');
	while (line.n && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == ' '))
		line.n--;
	return line;
}

/* Where in the line the caret goes: columns in bytes, tabs kept so that it stands below whatever the tab width. */
static void caret(struct sv line, const char *at, struct buf *out)
{
	size_t from = 0, n, want = at ? strlen(at) : 0;
	const char *hit = want && line.n ? memmem(line.p, line.n, at, want) : NULL;

	while (from < line.n && (line.p[from] == ' ' || line.p[from] == '\t'))
		from++;
	n = line.n - from;
	if (hit) {
		from = (size_t)(hit - line.p);
		n = want;
	}
	for (size_t i = 0; i < from; i++)
		buf_ch(out, line.p[i] == '\t' ? '\t' : ' ');
	buf_ch(out, '^');
	for (size_t i = 1; i < n; i++)
		buf_ch(out, '~');
}

FALLIBLE dockerfile_place(const struct dockerfile *d, unsigned line, const char *at, struct err *e)
{
	struct sv text = line_of(d, line);
	auto_buf struct buf b = BUF(4 * LEX_LINE_MAX);
	struct err *placed;

	if (text.n > 200)
		text.n = 200;
	buf_fmt(&b, "%s\n%s:%u\n%4u | " SV_FMT "\n     | ", e->msg, d->name, line, line, SV_ARG(text));
	caret(text, at, &b);
	placed = err_new(e->at, e->kind, 0, "%s", buf_text(&b));
	placed->os = e->os;
	err_free(e);
	return placed;
}

/* A parse error with its place; consumes e. */
static struct err *parse_error(const struct dockerfile *d, unsigned line, const char *at, struct err *e)
{
	return dockerfile_place(d, line, at, err_ctx(e, "dockerfile parse error on line %u", line));
}

/* ---- strings ---- */

static char *keep(struct dockerfile *d, const char *p, size_t n)
{
	char *s = arena_strndup(&d->arena, p, n);

	if (!s)
		abort();
	return s;
}

static void *keep_array(struct dockerfile *d, const void *p, size_t bytes)
{
	void *copy = arena_alloc(&d->arena, bytes ? bytes : 1);

	if (!copy)
		abort();
	if (bytes)
		memcpy(copy, p, bytes);
	return copy;
}

struct words {
	VEC(const char *) v;
};

static void words_fini(struct words *w)
{
	vec_fini(&w->v);
}

static void keep_words(struct dockerfile *d, const struct words *w, struct instr *i)
{
	i->args = keep_array(d, w->v.p, w->v.n * sizeof *w->v.p);
	i->n_args = w->v.n;
}

/* ---- flags ---- */

/* "--name[=value]": words up to white space; quotes are taken off. */
static void flag_word(struct sv *rest, char escape, struct buf *out)
{
	struct sv s = *rest;
	char quote = 0;
	size_t i;

	buf_reset(out);
	for (i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!quote && (c == ' ' || c == '\t'))
			break;
		if (!quote && (c == '\'' || c == '"')) {
			quote = c;
			continue;
		}
		if (quote && c == quote) {
			quote = 0;
			continue;
		}
		if (c == escape && quote != '\'' && i + 1 < s.n)
			c = s.p[++i];
		buf_ch(out, c);
	}
	*rest = sv_trim(sv_skip(s, i));
}

static void take_flags(struct dockerfile *d, struct sv *rest, struct instr *i)
{
	VEC(struct instr_flag) flags = { 0 };
	auto_buf struct buf word = BUF(DOCKERFILE_MAX);

	while (sv_starts(*rest, SV("--"))) {
		struct sv value, name;

		flag_word(rest, d->escape, &word);
		if (strcmp(buf_text(&word), "--") == 0)
			break;
		value = sv_skip(sv_of(buf_text(&word)), 2);
		name = sv_cut(&value, '=');
		*vec_push(&flags) = (struct instr_flag){
			.name = keep(d, name.p, name.n),
			.value = strchr(buf_text(&word), '=') ? keep(d, value.p, value.n) : NULL,
		};
	}
	i->flags = keep_array(d, flags.p, flags.n * sizeof *flags.p);
	i->n_flags = flags.n;
	vec_fini(&flags);
}

/* ---- arguments ---- */

/* A JSON array of strings. Not JSON at all: out_is_json false, and the text is for the shell. */
static FALLIBLE json_form(struct dockerfile *d, struct instr *i, bool *out_is_json)
{
	auto_json json_t *value = NULL;
	CLEANUP(words_fini) struct words w = { 0 };
	struct err *e;
	size_t k;
	json_t *item;

	*out_is_json = false;
	if (i->text[0] != '[')
		return NULL;
	e = json_parse(sv_of(i->text), "arguments", DOCKERFILE_MAX, &value);
	if (e) {
		err_free(e);
		/* No shell command begins like this; saying so beats running "[" later with half a list. */
		if (i->text[1] == '"' || i->text[1] == '\'')
			return FAIL(ERR_INVALID, "%s begins like a JSON array of strings, but it is none", instr_name(i->kind));
		return NULL;
	}
	json_array_foreach(value, k, item) {
		if (!json_is_string(item))
			return FAIL(ERR_INVALID, "when using JSON array syntax, arrays must be comprised of strings only");
		*vec_push(&w.v) = keep(d, json_string_value(item), json_string_length(item));
	}
	keep_words(d, &w, i);
	*out_is_json = i->is_json = true;
	return NULL;
}

static void split_words(struct dockerfile *d, struct instr *i, bool has_quotes)
{
	CLEANUP(words_fini) struct words w = { 0 };
	auto_buf struct buf word = BUF(DOCKERFILE_MAX);
	struct sv rest = sv_of(i->text);

	if (has_quotes) {
		while (lex_word(&rest, d->escape, &word))
			*vec_push(&w.v) = keep(d, word.data ? word.data : "", word.n);
	} else {
		for (rest = sv_trim(rest); rest.n; rest = sv_trim(rest)) {
			size_t n = 0;

			while (n < rest.n && rest.p[n] != ' ' && rest.p[n] != '\t')
				n++;
			*vec_push(&w.v) = keep(d, rest.p, n);
			rest = sv_skip(rest, n);
		}
	}
	keep_words(d, &w, i);
}

/* ENV and LABEL: "K=V K=V…" or the old form "K rest of the line", which becomes one quoted pair. */
static FALLIBLE pairs(struct dockerfile *d, struct instr *i)
{
	split_words(d, i, true);
	if (!i->n_args)
		return FAIL(ERR_INVALID, "%s requires at least one argument", instr_name(i->kind));
	if (!strchr(i->args[0], '=')) {
		struct sv rest = sv_of(i->text);
		size_t n = strcspn(i->text, " \t");
		auto_free char *pair = NULL;
		CLEANUP(words_fini) struct words w = { 0 };

		rest = sv_trim(sv_skip(rest, n));
		if (!rest.n)
			return FAIL(ERR_INVALID, "%s must have two arguments", instr_name(i->kind));
		pair = xasprintf("%.*s=" SV_FMT, (int)n, i->text, SV_ARG(rest));
		*vec_push(&w.v) = keep(d, pair, strlen(pair));
		keep_words(d, &w, i);
		return NULL;
	}
	for (size_t k = 0; k < i->n_args; k++) {
		if (i->args[k][0] == '=')
			return FAIL(ERR_INVALID, "%s names can not be blank", instr_name(i->kind));
		if (!strchr(i->args[k], '='))
			return FAIL(ERR_INVALID, "Syntax error - can't find = in \"%s\". Must be of the form: name=value",
				    i->args[k]);
	}
	return NULL;
}

static FALLIBLE arguments(struct dockerfile *d, struct instr *i)
{
	enum shape shape = kinds[i->kind].shape;
	bool is_json = false;

	if (shape == SHAPE_MAYBE_JSON || shape == SHAPE_WORDS_OR_JSON || shape == SHAPE_JSON)
		TRY(json_form(d, i, &is_json));
	if (is_json)
		return NULL;
	switch (shape) {
	case SHAPE_JSON:
		return FAIL(ERR_INVALID, "%s requires the arguments to be in JSON form", instr_name(i->kind));
	case SHAPE_PAIRS:
		return pairs(d, i);
	case SHAPE_ARGS:
		split_words(d, i, true);
		break;
	case SHAPE_WORDS:
	case SHAPE_WORDS_OR_JSON:
		split_words(d, i, false);
		break;
	case SHAPE_TEXT:
	case SHAPE_MAYBE_JSON:
		i->args = keep_array(d, &i->text, sizeof i->text);
		i->n_args = i->text[0] ? 1 : 0;
		break;
	}
	return NULL;
}

/* ---- heredocs ---- */

static FALLIBLE heredoc_text(struct dockerfile *d, struct lex *l, const struct lex_heredoc *mark, struct heredoc *out)
{
	auto_buf struct buf text = BUF(DOCKERFILE_MAX);
	struct sv line;

	while (lex_raw(l, &line)) {
		while (mark->is_chomped && line.n && line.p[0] == '\t')
			line = sv_skip(line, 1);
		if (sv_is(line, mark->name)) {
			*out = (struct heredoc){ .name = keep(d, mark->name, strlen(mark->name)),
						 .text = keep(d, text.data ? text.data : "", text.n),
						 .is_quoted = mark->is_quoted,
						 .is_chomped = mark->is_chomped };
			return NULL;
		}
		buf_sv(&text, line);
		buf_ch(&text, '\n');
	}
	return FAIL(ERR_INVALID, "unterminated heredoc: no line \"%s\" follows", mark->name);
}

static FALLIBLE heredocs(struct dockerfile *d, struct lex *l, struct instr *i)
{
	VEC(struct heredoc) found = { 0 };
	auto_buf struct buf word = BUF(DOCKERFILE_MAX);
	struct sv rest = sv_of(i->text);
	struct err *e = NULL;

	/* JSON form has none: a << in a string is a string */
	if (i->text[0] == '[' || !strstr(i->text, "<<"))
		return NULL;
	while (!e && lex_word(&rest, d->escape, &word)) {
		struct lex_heredoc mark;
		struct heredoc h;

		if (!lex_heredoc(sv_of(buf_text(&word)), &mark))
			continue;
		e = heredoc_text(d, l, &mark, &h);
		if (!e)
			*vec_push(&found) = h;
	}
	if (!e) {
		i->heredocs = keep_array(d, found.p, found.n * sizeof *found.p);
		i->n_heredocs = found.n;
	}
	vec_fini(&found);
	return e;
}

/* ---- the whole ---- */

/* Edit distance up to 2 is "did you mean". */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[16], diagonal, above;
	size_t n = strlen(b);

	if (n > 14)
		return 99;
	for (unsigned j = 0; j <= n; j++)
		row[j] = j;
	for (unsigned i = 1; *a; i++, a++) {
		diagonal = row[0];
		row[0] = i;
		for (unsigned j = 1; j <= n; j++) {
			unsigned best = diagonal + ((*a & ~32) != b[j - 1]);

			above = row[j];
			best = above + 1 < best ? above + 1 : best;
			row[j] = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
			diagonal = above;
		}
	}
	return row[n];
}

static FALLIBLE unknown(struct sv word)
{
	char name[32];

	(void)snprintf(name, sizeof name, SV_FMT, SV_ARG(word));
	for (size_t k = 0; k < INSTR_KINDS; k++)
		if (distance(name, kinds[k].name) <= 2)
			return FAIL(ERR_INVALID, "unknown instruction: " SV_FMT " (did you mean %s?)", SV_ARG(word), kinds[k].name);
	return FAIL(ERR_INVALID, "unknown instruction: " SV_FMT, SV_ARG(word));
}

static bool kind_of(struct sv word, enum instr_kind *out_kind)
{
	for (size_t k = 0; k < INSTR_KINDS; k++)
		if (word.n == strlen(kinds[k].name) && strncasecmp(word.p, kinds[k].name, word.n) == 0) {
			*out_kind = (enum instr_kind)k;
			return true;
		}
	return false;
}

static FALLIBLE instruction(struct dockerfile *d, struct lex *l, const struct buf *logical, struct instr *i)
{
	struct sv rest = sv_trim(sv_from(logical->data, logical->n)), word, text;
	bool heredoc;

	for (word = rest, word.n = 0; word.n < rest.n && !strchr(" \t\v\f", rest.p[word.n]);)
		word.n++;
	if (!kind_of(word, &i->kind))
		return unknown(word);
	rest = sv_trim(sv_skip(rest, word.n));
	if (kinds[i->kind].has_flags)
		take_flags(d, &rest, i);
	heredoc = kinds[i->kind].has_heredoc;
	if (i->kind == INSTR_ONBUILD) { /* the instruction inside decides */
		struct sv inner = rest, first = sv_cut(&inner, ' ');
		enum instr_kind k;

		heredoc = kind_of(first, &k) && kinds[k].has_heredoc;
		text = rest;
	}
	text = rest;
	i->text = keep(d, text.p ? text.p : "", text.n);
	if (memchr(i->text, 0, text.n))
		return FAIL(ERR_INVALID, "a NUL byte in the text");
	if (heredoc)
		TRY(heredocs(d, l, i));
	return arguments(d, i);
}

static FALLIBLE all_instructions(struct dockerfile *d, struct lex *l)
{
	VEC(struct instr) list = { 0 };
	auto_buf struct buf logical = BUF(DOCKERFILE_MAX);
	struct err *e = NULL;
	unsigned line;

	while (!e && lex_logical(l, &logical, &line)) {
		struct instr *i = vec_push(&list);

		i->line = line;
		if (logical.n > LEX_LINE_MAX * 16u)
			e = FAIL(ERR_LIMIT, "line longer than %d bytes", LEX_LINE_MAX * 16);
		else
			e = instruction(d, l, &logical, i);
		i->end_line = l->line;
		if (e) {
			char word[64];

			(void)snprintf(word, sizeof word, "%.*s", (int)strcspn(buf_text(&logical), " \t"), buf_text(&logical));
			e = parse_error(d, line, i->text ? NULL : word, e);
		}
	}
	if (!e) {
		d->instrs = keep_array(d, list.p, list.n * sizeof *list.p);
		d->n = list.n;
	}
	vec_fini(&list);
	return e;
}

static FALLIBLE parse(struct dockerfile *d)
{
	struct lex l = { .rest = d->source, .escape = '\\' };
	struct err *e = lex_directives(&l);

	if (e)
		return parse_error(d, l.line, NULL, e);
	d->escape = l.escape;
	TRY(all_instructions(d, &l));
	if (!d->n)
		return FAIL(ERR_INVALID, "the Dockerfile (%s) cannot be empty", d->name);
	return NULL;
}

FALLIBLE dockerfile_parse(const char *name, struct sv source, struct dockerfile *out_file)
{
	struct err *e;

	if (source.n > DOCKERFILE_MAX)
		return FAIL(ERR_LIMIT, "%s: larger than %u bytes", name, DOCKERFILE_MAX);
	*out_file = (struct dockerfile){ .name = name };
	arena_init(&out_file->arena, ARENA_MAX);
	out_file->source = sv_from(keep(out_file, source.p ? source.p : "", source.n), source.n);
	e = parse(out_file);
	if (e)
		dockerfile_fini(out_file);
	return e;
}

static void print_text(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\n')
			buf_str(out, "\\n");
		else
			buf_ch(out, *s);
	}
}

void dockerfile_print(const struct dockerfile *d, struct buf *out)
{
	for (size_t k = 0; k < d->n; k++) {
		const struct instr *i = &d->instrs[k];

		buf_fmt(out, "%u-%u %s", i->line, i->end_line, instr_name(i->kind));
		for (size_t f = 0; f < i->n_flags; f++)
			buf_fmt(out, " --%s=%s", i->flags[f].name, i->flags[f].value ? i->flags[f].value : "(none)");
		buf_str(out, i->is_json ? " json" : "");
		for (size_t a = 0; a < i->n_args; a++) {
			buf_str(out, " (");
			print_text(out, i->args[a]);
			buf_ch(out, ')');
		}
		for (size_t h = 0; h < i->n_heredocs; h++) {
			buf_fmt(out, " <<%s%s(", i->heredocs[h].is_quoted ? "'" : "", i->heredocs[h].name);
			print_text(out, i->heredocs[h].text);
			buf_ch(out, ')');
		}
		buf_ch(out, '\n');
	}
}
