/* expand.c - a recursive descent over one word; see expand.h. */
#include "build/expand.h"
#include "base/own.h"
#include <string.h>

enum { WORD_MAX = 1 << 20, DEPTH_MAX = 32 };

struct walk {
	const struct expand *x;
	struct sv s;
	size_t at;
	unsigned depth;
};

static int peek(const struct walk *w)
{
	return w->at < w->s.n ? (unsigned char)w->s.p[w->at] : -1;
}

static bool is_name(int c, bool first)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (!first && c >= '0' && c <= '9');
}

static bool is_digit(int c)
{
	return c >= '0' && c <= '9';
}

static struct sv name(struct walk *w)
{
	size_t from = w->at;

	if (is_digit(peek(w)))
		while (is_digit(peek(w)))
			w->at++;
	else if (peek(w) > 0 && strchr("@*#?-!$", peek(w)))
		w->at++;
	else
		while (is_name(peek(w), w->at == from))
			w->at++;
	return sv_from(w->s.p + from, w->at - from);
}

static FALLIBLE stop_on(struct walk *w, int stop, bool raw, struct buf *out);

/* ---- patterns ---- */

/* Whole match; * and ? only, a backslash takes the next character as it is. */
static bool matches(struct sv p, struct sv s)
{
	while (p.n) {
		if (p.p[0] == '*') {
			for (size_t i = 0; i <= s.n; i++)
				if (matches(sv_skip(p, 1), sv_skip(s, i)))
					return true;
			return false;
		}
		if (p.p[0] == '\\' && p.n > 1)
			p = sv_skip(p, 1);
		else if (p.p[0] == '?' && s.n) {
			p = sv_skip(p, 1);
			s = sv_skip(s, 1);
			continue;
		}
		if (!s.n || p.p[0] != s.p[0])
			return false;
		p = sv_skip(p, 1);
		s = sv_skip(s, 1);
	}
	return s.n == 0;
}

static void strip(struct sv value, struct sv pattern, char op, bool greedy, struct buf *out)
{
	for (size_t k = 0; k <= value.n; k++) {
		size_t n = greedy ? value.n - k : k; /* how much goes */
		struct sv part = op == '#' ? sv_from(value.p, n) : sv_skip(value, value.n - n);

		if (!matches(pattern, part))
			continue;
		buf_sv(out, op == '#' ? sv_skip(value, n) : sv_from(value.p, value.n - n));
		return;
	}
	buf_sv(out, value);
}

static void replace(struct sv value, struct sv pattern, struct sv with, bool all, struct buf *out)
{
	bool done = false;

	while (value.n) {
		size_t n = value.n + 1;

		if (!done)
			for (n = value.n; n > 0 && !matches(pattern, sv_from(value.p, n)); n--)
				;
		if (done || n == 0) {
			buf_ch(out, value.p[0]);
			value = sv_skip(value, 1);
			continue;
		}
		buf_sv(out, with);
		value = sv_skip(value, n);
		done = !all;
	}
}

/* ---- ${name…} ---- */

struct subst {
	char key[256];
	struct sv name;
	const char *value; /* NULL: unset */
};

static FALLIBLE defaults(struct walk *w, const struct subst *v, int op, bool colon, struct buf *out)
{
	auto_buf struct buf word = BUF(WORD_MAX);
	bool has = v->value && !(colon && !*v->value);

	TRY(stop_on(w, '}', false, &word));
	if (op == '-') {
		buf_str(out, has ? v->value : buf_text(&word));
	} else if (op == '+') {
		buf_str(out, has ? buf_text(&word) : "");
	} else if (has) {
		buf_str(out, v->value);
	} else {
		const char *why = v->value ? "not allowed to be empty" : "not allowed to be unset";

		return FAIL(ERR_INVALID, "%s: %s", v->key, word.n ? buf_text(&word) : why);
	}
	return NULL;
}

static FALLIBLE pattern_op(struct walk *w, const struct subst *v, int op, struct buf *out)
{
	auto_buf struct buf pattern = BUF(WORD_MAX), with = BUF(WORD_MAX);
	auto_free char *value = strdup(v->value ? v->value : ""); /* the getter's may go while we expand */
	bool twice = peek(w) == op;

	if (!value)
		return FAIL(ERR_LIMIT, "out of memory");
	if (twice)
		w->at++;
	TRY(stop_on(w, op == '/' ? '/' : '}', true, &pattern));
	if (op == '/')
		TRY(stop_on(w, '}', true, &with));
	if (op == '/')
		replace(sv_of(value), sv_of(buf_text(&pattern)), sv_of(buf_text(&with)), twice, out);
	else
		strip(sv_of(value), sv_of(buf_text(&pattern)), (char)op, twice, out);
	return NULL;
}

static FALLIBLE look_up(const struct walk *w, struct sv n, struct subst *out)
{
	*out = (struct subst){ .name = n };
	if (n.n >= sizeof out->key)
		return FAIL(ERR_LIMIT, "variable name longer than %zu bytes", sizeof out->key - 1);
	memcpy(out->key, n.p, n.n);
	out->value = w->x->get(w->x->ctx, out->key);
	return NULL;
}

static FALLIBLE braces(struct walk *w, struct buf *out)
{
	struct subst v;
	int op;
	bool colon;

	if (peek(w) < 0)
		return FAIL(ERR_INVALID, "syntax error: missing '}'");
	if (peek(w) == '}' || peek(w) == ':' || peek(w) == '{')
		return FAIL(ERR_INVALID, "syntax error: bad substitution");
	TRY(look_up(w, name(w), &v));
	if (!v.name.n)
		return FAIL(ERR_INVALID, "syntax error: bad substitution");
	op = peek(w);
	w->at++;
	if (op == '}') {
		buf_str(out, v.value ? v.value : "");
		return NULL;
	}
	if (op < 0)
		return FAIL(ERR_INVALID, "syntax error: missing '}'");
	colon = op == ':';
	if (colon) {
		op = peek(w);
		w->at++;
	}
	if (op == '-' || op == '+' || op == '?')
		return defaults(w, &v, op, colon, out);
	if (!colon && (op == '#' || op == '%' || op == '/'))
		return pattern_op(w, &v, op, out);
	return FAIL(ERR_INVALID, "unsupported modifier (%s%c) in substitution", colon ? ":" : "", op < 0 ? ' ' : op);
}

static FALLIBLE dollar(struct walk *w, struct buf *out)
{
	struct subst v;

	w->at++;
	if (peek(w) == '{') {
		struct err *e;

		w->at++;
		if (++w->depth > DEPTH_MAX)
			return FAIL(ERR_LIMIT, "substitutions nested more than %d deep", DEPTH_MAX);
		e = braces(w, out);
		w->depth--;
		return e;
	}
	TRY(look_up(w, name(w), &v));
	buf_str(out, !v.name.n ? "$" : v.value ? v.value : "");
	return NULL;
}

/* ---- quotes ---- */

static FALLIBLE single_quoted(struct walk *w, struct buf *out)
{
	for (w->at++; peek(w) >= 0; w->at++) {
		if (peek(w) == '\'') {
			w->at++;
			return NULL;
		}
		buf_ch(out, (char)peek(w));
	}
	return FAIL(ERR_INVALID, "unexpected end of statement while looking for matching single-quote");
}

static FALLIBLE double_quoted(struct walk *w, struct buf *out)
{
	w->at++;
	while (peek(w) >= 0) {
		int c = peek(w);

		if (c == '"') {
			w->at++;
			return NULL;
		}
		if (c == '$') {
			TRY(dollar(w, out));
			continue;
		}
		w->at++;
		if (c == w->x->escape) {
			int next = peek(w);

			if (next < 0)
				return FAIL(ERR_INVALID, "unexpected end of statement while looking for matching double-quote");
			if (next != '"' && next != '$' && next != w->x->escape)
				buf_ch(out, (char)c);
			c = next;
			w->at++;
		}
		buf_ch(out, (char)c);
	}
	return FAIL(ERR_INVALID, "unexpected end of statement while looking for matching double-quote");
}

/* Up to and with `stop` (-1: the end). raw: escapes stay, for patterns. */
static FALLIBLE stop_on(struct walk *w, int stop, bool raw, struct buf *out)
{
	bool quotes = !w->x->keep_quotes;

	while (peek(w) >= 0) {
		int c = peek(w);

		if (c == stop) {
			w->at++;
			return NULL;
		}
		if (c == '$') {
			TRY(dollar(w, out));
			continue;
		}
		if (quotes && (c == '\'' || c == '"')) {
			TRY(c == '"' ? double_quoted(w, out) : single_quoted(w, out));
			continue;
		}
		w->at++;
		if (c == w->x->escape) {
			int next = peek(w);

			if (raw || (!quotes && next != '$' && next != w->x->escape))
				buf_ch(out, '\\');
			if (next < 0)
				break;
			c = next;
			w->at++;
		}
		buf_ch(out, (char)c);
	}
	return stop < 0 ? NULL : FAIL(ERR_INVALID, "unexpected end of statement while looking for matching %c", stop);
}

FALLIBLE expand_word(const struct expand *x, struct sv word, struct buf *out)
{
	struct walk w = { .x = x, .s = word };

	TRY(stop_on(&w, -1, false, out));
	return buf_check(out, "expanded word");
}
