/*
 * toml.c - one pass over the text, recursive only in values. What may still be added to is remembered by a
 * mark on each table: what a header defined, what dotted keys made, what a value closed.
 */
#include "codec/toml.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/vec.h"
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX  32
#define TABLES_MAX 4096u

enum mark {
	MARK_IMPLIED, /* by a longer header: may be defined once */
	MARK_HEADER,  /* [a] or [[a]] */
	MARK_DOTTED,  /* by a dotted key: only the same table's dotted keys add to it */
	MARK_CLOSED,  /* a value */
};
struct table {
	const json_t *at;
	enum mark mark;
	unsigned section; /* MARK_DOTTED: of which header */
};
struct toml {
	const char *what, *p, *end;
	unsigned line, section;
	VEC(struct table) tables;
};

#define BAD(t, ...) bad((t), FAIL(ERR_INVALID, __VA_ARGS__))

static struct err *bad(const struct toml *t, struct err *e)
{
	return err_ctx(e, "%s:%u", t->what, t->line);
}

static char peek(const struct toml *t)
{
	return t->p < t->end ? *t->p : '\0';
}

static bool has(const struct toml *t, const char *word)
{
	size_t n = strlen(word);

	return (size_t)(t->end - t->p) >= n && memcmp(t->p, word, n) == 0;
}

static bool accept(struct toml *t, const char *word)
{
	if (!has(t, word))
		return false;
	t->p += strlen(word);
	return true;
}

static void skip_blanks(struct toml *t)
{
	while (peek(t) == ' ' || peek(t) == '\t')
		t->p++;
}

static struct err *skip_comment(struct toml *t)
{
	if (peek(t) != '#')
		return NULL;
	for (; t->p < t->end && *t->p != '\n'; t->p++)
		if (((unsigned char)*t->p < 0x20 && *t->p != '\t' && *t->p != '\r') || *t->p == 0x7f)
			return BAD(t, "control character in a comment");
	return NULL;
}

static bool accept_newline(struct toml *t)
{
	if (!accept(t, "\n") && !accept(t, "\r\n"))
		return false;
	t->line++;
	return true;
}

static struct err *skip_lines(struct toml *t)
{
	do {
		skip_blanks(t);
		TRY(skip_comment(t));
	} while (accept_newline(t));
	return NULL;
}

static struct err *end_line(struct toml *t)
{
	skip_blanks(t);
	TRY(skip_comment(t));
	if (t->p < t->end && !accept_newline(t))
		return BAD(t, "expected the end of the line");
	return NULL;
}

static struct table *table_of(struct toml *t, const json_t *at)
{
	for (size_t i = t->tables.n; i-- > 0;)
		if (t->tables.p[i].at == at)
			return &t->tables.p[i];
	return NULL;
}

static struct err *mark(struct toml *t, const json_t *at, enum mark m)
{
	struct table *known = table_of(t, at);

	if (!known) {
		if (t->tables.n == TABLES_MAX)
			return FAIL(ERR_LIMIT, "%s: more than %u tables", t->what, TABLES_MAX);
		known = vec_push(&t->tables);
	}
	*known = (struct table){ .at = at, .mark = m, .section = t->section };
	return NULL;
}

/* ---- strings ---- */

static void put_utf8(struct buf *b, uint32_t c)
{
	if (c < 0x80) {
		buf_ch(b, (char)c);
	} else if (c < 0x800) {
		buf_ch(b, (char)(0xc0 | c >> 6));
		buf_ch(b, (char)(0x80 | (c & 0x3f)));
	} else if (c < 0x10000) {
		buf_ch(b, (char)(0xe0 | c >> 12));
		buf_ch(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_ch(b, (char)(0x80 | (c & 0x3f)));
	} else {
		buf_ch(b, (char)(0xf0 | c >> 18));
		buf_ch(b, (char)(0x80 | (c >> 12 & 0x3f)));
		buf_ch(b, (char)(0x80 | (c >> 6 & 0x3f)));
		buf_ch(b, (char)(0x80 | (c & 0x3f)));
	}
}

static struct err *hex_escape(struct toml *t, int digits, struct buf *out)
{
	uint32_t c = 0;

	for (int i = 0; i < digits; i++, t->p++) {
		const char *hex = "0123456789abcdef", *at;
		char low = peek(t) >= 'A' && peek(t) <= 'F' ? (char)(peek(t) + 32) : peek(t);

		at = low ? strchr(hex, low) : NULL;
		if (!at)
			return BAD(t, "bad escape in a string");
		c = c << 4 | (uint32_t)(at - hex);
	}
	if (c == 0 || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
		return BAD(t, "bad character in an escape");
	put_utf8(out, c);
	return NULL;
}

static struct err *escape(struct toml *t, bool is_long, struct buf *out)
{
	static const char from[] = "btnfr\"\\", to[] = "\b\t\n\f\r\"\\";
	const char *at = peek(t) ? strchr(from, peek(t)) : NULL;

	if (at) {
		t->p++;
		buf_ch(out, to[at - from]);
		return NULL;
	}
	if (accept(t, "u"))
		return hex_escape(t, 4, out);
	if (accept(t, "U"))
		return hex_escape(t, 8, out);
	if (is_long) { /* a line that goes on: blanks up to the next text vanish */
		const char *from_here = t->p;

		skip_blanks(t);
		if (accept_newline(t)) {
			do
				skip_blanks(t);
			while (accept_newline(t));
			return NULL;
		}
		t->p = from_here;
	}
	return BAD(t, "bad escape in a string");
}

/* The opening quotes are eaten; quote: what ends it. */
static struct err *string_until(struct toml *t, const char *quote, struct buf *out)
{
	bool is_long = quote[1] != '\0', is_raw = *quote == '\'';

	if (is_long)
		(void)accept_newline(t);
	for (;;) {
		unsigned char c = (unsigned char)peek(t);

		if (t->p == t->end)
			return BAD(t, "a string has no end");
		if (accept(t, quote)) {
			for (int i = 0; is_long && i < 2 && peek(t) == *quote; i++, t->p++)
				buf_ch(out, *quote); /* up to two quotes belong to the text */
			return NULL;
		}
		if (is_long && accept_newline(t)) {
			buf_ch(out, '\n');
			continue;
		}
		if ((c < 0x20 && c != '\t') || c == 0x7f)
			return BAD(t, c == '\n' ? "a string has no end" : "control character in a string");
		t->p++;
		if (c == '\\' && !is_raw)
			TRY(escape(t, is_long, out));
		else
			buf_ch(out, (char)c);
	}
}

/* Owned. */
static struct err *string(struct toml *t, bool may_be_long, char **out_text)
{
	static const char *const quotes[] = { "\"\"\"", "'''", "\"", "'" };
	auto_buf struct buf b = BUF((size_t)(t->end - t->p));

	for (size_t i = may_be_long ? 0 : 2; i < LEN(quotes); i++) {
		if (!accept(t, quotes[i]))
			continue;
		TRY(string_until(t, quotes[i], &b));
		*out_text = buf_take(&b);
		return NULL;
	}
	return BAD(t, "expected a string");
}

/* ---- keys ---- */

static bool is_bare(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
	       c == '-';
}

static struct err *key(struct toml *t, char **out_key)
{
	const char *from = t->p;

	if (peek(t) == '"' || peek(t) == '\'')
		return string(t, false, out_key);
	while (is_bare(peek(t)))
		t->p++;
	if (t->p == from)
		return BAD(t, "expected a key");
	*out_key = xstrndup(from, (size_t)(t->p - from));
	return NULL;
}

static bool accept_dot(struct toml *t)
{
	bool found;

	skip_blanks(t);
	found = accept(t, ".");
	if (found)
		skip_blanks(t);
	return found;
}

static struct err *set(struct toml *t, json_t *in, const char *name, json_t *value)
{
	if (json_object_set_new(in, name, value) < 0)
		return BAD(t, "key \"%.100s\" is not UTF-8", name);
	return NULL;
}

static struct err *new_table(struct toml *t, json_t *in, const char *name, enum mark m, json_t **out_table)
{
	TRY(set(t, in, name, json_object()));
	*out_table = json_object_get(in, name);
	return mark(t, *out_table, m);
}

/* One step down by a part of a header that is not its last. */
static struct err *step_header(struct toml *t, json_t **at, const char *name)
{
	json_t *next = json_object_get(*at, name);
	struct table *known;

	if (!next)
		return new_table(t, *at, name, MARK_IMPLIED, at);
	if (json_is_array(next) && json_array_size(next))
		next = json_array_get(next, json_array_size(next) - 1);
	known = json_is_object(next) ? table_of(t, next) : NULL;
	if (!known || known->mark == MARK_CLOSED)
		return BAD(t, "\"%.100s\" is a value, not a table", name);
	*at = next;
	return NULL;
}

static struct err *open_table(struct toml *t, json_t *in, const char *name, json_t **out_table)
{
	json_t *old = json_object_get(in, name);
	struct table *known = old ? table_of(t, old) : NULL;

	if (!old)
		return new_table(t, in, name, MARK_HEADER, out_table);
	if (!known || known->mark != MARK_IMPLIED)
		return BAD(t, "table \"%.100s\" is defined twice", name);
	known->mark = MARK_HEADER;
	*out_table = old;
	return NULL;
}

static struct err *open_array(struct toml *t, json_t *in, const char *name, json_t **out_table)
{
	json_t *list = json_object_get(in, name);
	json_t *last = json_array_get(list, json_array_size(list) ? json_array_size(list) - 1 : 0);
	struct table *known = last ? table_of(t, last) : NULL;

	if (list && (!known || known->mark != MARK_HEADER))
		return BAD(t, "\"%.100s\" is no array of tables", name);
	if (!list) {
		TRY(set(t, in, name, json_array()));
		list = json_object_get(in, name);
	}
	*out_table = json_object();
	(void)json_array_append_new(list, *out_table);
	return mark(t, *out_table, MARK_HEADER);
}

static struct err *header(struct toml *t, json_t *root, json_t **out_table)
{
	bool is_array = accept(t, "[[");
	json_t *at = root;

	if (!is_array)
		(void)accept(t, "[");
	t->section++;
	skip_blanks(t);
	for (int depth = 0;; depth++) {
		auto_free char *name = NULL;

		if (depth == DEPTH_MAX)
			return FAIL(ERR_LIMIT, "%s:%u: more than %d tables inside each other", t->what,
				    t->line, DEPTH_MAX);
		TRY(key(t, &name));
		if (accept_dot(t)) {
			TRY(step_header(t, &at, name));
			continue;
		}
		TRY(is_array ? open_array(t, at, name, out_table) : open_table(t, at, name, out_table));
		break;
	}
	if (!accept(t, is_array ? "]]" : "]"))
		return BAD(t, "expected \"%s\"", is_array ? "]]" : "]");
	return end_line(t);
}

/* ---- values ---- */

static struct err *value(struct toml *t, int depth, json_t **out_value);

/* One step down by a part of a dotted key that is not its last. */
static struct err *step_dotted(struct toml *t, json_t **at, const char *name)
{
	json_t *next = json_object_get(*at, name);
	struct table *known = next ? table_of(t, next) : NULL;

	if (!next)
		return new_table(t, *at, name, MARK_DOTTED, at);
	if (!known || known->mark != MARK_DOTTED || known->section != t->section)
		return BAD(t, "\"%.100s\" is defined twice", name);
	*at = next;
	return NULL;
}

static struct err *pair(struct toml *t, json_t *in, int depth)
{
	json_t *v = NULL;

	for (int parts = 0;; parts++) {
		auto_free char *name = NULL;

		if (parts + depth >= DEPTH_MAX)
			return FAIL(ERR_LIMIT, "%s:%u: more than %d tables inside each other", t->what,
				    t->line, DEPTH_MAX);
		TRY(key(t, &name));
		if (accept_dot(t)) {
			TRY(step_dotted(t, &in, name));
			continue;
		}
		if (!accept(t, "="))
			return BAD(t, "expected \"=\" after the key \"%.100s\"", name);
		if (json_object_get(in, name))
			return BAD(t, "key \"%.100s\" is defined twice", name);
		skip_blanks(t);
		TRY(value(t, depth + 1, &v));
		return set(t, in, name, v);
	}
}

static struct err *array(struct toml *t, int depth, json_t **out_value)
{
	auto_json json_t *list = json_array();

	for (;;) {
		json_t *v = NULL;

		TRY(skip_lines(t));
		if (accept(t, "]"))
			break;
		TRY(value(t, depth + 1, &v));
		(void)json_array_append_new(list, v);
		TRY(skip_lines(t));
		if (accept(t, ","))
			continue;
		if (!accept(t, "]"))
			return BAD(t, "expected \",\" or \"]\"");
		break;
	}
	*out_value = TAKE(list);
	return NULL;
}

/* Marks what dotted keys made inside: an inline table is closed. */
static void close_below(struct toml *t, const json_t *object)
{
	struct table *known = table_of(t, object);
	const char *name;
	json_t *v;

	if (known)
		known->mark = MARK_CLOSED;
	json_object_foreach((json_t *)(uintptr_t)object, name, v) if (json_is_object(v)) close_below(t, v);
}

static struct err *inline_table(struct toml *t, int depth, json_t **out_value)
{
	auto_json json_t *object = json_object();

	skip_blanks(t);
	while (!accept(t, "}")) {
		TRY(pair(t, object, depth));
		skip_blanks(t);
		if (accept(t, ",")) {
			skip_blanks(t);
			if (peek(t) == '}')
				return BAD(t, "an inline table ends in a comma");
		} else if (peek(t) != '}') {
			return BAD(t, "expected \",\" or \"}\"");
		}
	}
	close_below(t, object);
	*out_value = TAKE(object);
	return NULL;
}

/* The digits without underscores, which stand between digits only. */
static bool plain_digits(struct sv text, struct buf *out)
{
	for (size_t i = 0; i < text.n; i++) {
		bool between = i > 0 && i + 1 < text.n && is_bare(text.p[i - 1]) && text.p[i - 1] != '_' &&
			       is_bare(text.p[i + 1]) && text.p[i + 1] != '_';

		if (text.p[i] != '_')
			buf_ch(out, text.p[i]);
		else if (!between)
			return false;
	}
	return out->n > 0;
}

static bool is_date(struct sv s)
{
	return (s.n >= 10 && s.p[4] == '-' && s.p[7] == '-') || (s.n >= 8 && s.p[2] == ':' && s.p[5] == ':');
}

static bool all_of(const char *text, const char *set)
{
	return *text && text[strspn(text, set)] == '\0';
}

/* As strtoll and strtod have it, after the form was checked; NULL: no number. */
static json_t *number_of(const char *text)
{
	const char *digits = text + (*text == '+' || *text == '-');
	static const struct {
		const char *prefix, *set;
		int base;
	} bases[] = { { "0x", "0123456789abcdefABCDEF", 16 }, { "0o", "01234567", 8 }, { "0b", "01", 2 } };
	bool is_float = strpbrk(digits, ".eE") != NULL;
	char *end = NULL;

	errno = 0;
	for (size_t i = 0; i < LEN(bases); i++) {
		if (strncmp(text, bases[i].prefix, 2) != 0)
			continue;
		long long v = all_of(text + 2, bases[i].set) ? strtoll(text + 2, &end, bases[i].base) : -1;

		return v < 0 || errno ? NULL : json_integer(v);
	}
	if (*digits == '0' && digits[1] && !strchr(".eE", digits[1]))
		return NULL;
	if (!is_float) {
		long long v = strtoll(text, &end, 10);

		return all_of(digits, "0123456789") && !errno ? json_integer(v) : NULL;
	}
	if (!all_of(digits, "0123456789.eE+-") || *digits < '0' || *digits > '9' || strstr(digits, ".e") ||
	    strstr(digits, ".E") || digits[strlen(digits) - 1] == '.')
		return NULL;
	double d = strtod(text, &end);

	return *end || errno ? NULL : json_real(d);
}

static struct err *scalar(struct toml *t, json_t **out_value)
{
	auto_buf struct buf b = BUF(256);
	struct sv word = { t->p, 0 };

	while (t->p < t->end && (is_bare(*t->p) || strchr("+.:", *t->p)))
		t->p++;
	word.n = (size_t)(t->p - word.p);
	if (is_date(word) && peek(t) == ' ' && t->end - t->p > 8 &&
	    t->p[3] == ':') /* a date, a blank and a time */
		for (t->p++; t->p < t->end && (is_bare(*t->p) || strchr("+.:", *t->p)); t->p++)
			word.n = (size_t)(t->p + 1 - word.p);
	if (sv_is(word, "true") || sv_is(word, "false")) {
		*out_value = json_boolean(word.p[0] == 't');
		return NULL;
	}
	if (is_date(word))
		*out_value = json_stringn(word.p, word.n);
	else if (word.n < 200 && plain_digits(word, &b))
		*out_value = number_of(buf_text(&b));
	return *out_value ? NULL : BAD(t, "bad value \"%.*s\"", (int)(word.n < 100 ? word.n : 100), word.p);
}

static struct err *value(struct toml *t, int depth, json_t **out_value)
{
	auto_free char *text = NULL;

	if (depth >= DEPTH_MAX)
		return FAIL(ERR_LIMIT, "%s:%u: more than %d values inside each other", t->what, t->line,
			    DEPTH_MAX);
	if (accept(t, "["))
		return array(t, depth, out_value);
	if (accept(t, "{"))
		return inline_table(t, depth, out_value);
	if (peek(t) != '"' && peek(t) != '\'')
		return scalar(t, out_value);
	TRY(string(t, true, &text));
	*out_value = json_string(text);
	return *out_value ? NULL : BAD(t, "a string is not UTF-8");
}

static struct err *document(struct toml *t, json_t *root)
{
	json_t *table = root;

	for (;;) {
		TRY(skip_lines(t));
		if (t->p == t->end)
			return NULL;
		if (peek(t) == '[') {
			TRY(header(t, root, &table));
			continue;
		}
		TRY(pair(t, table, 0));
		TRY(end_line(t));
	}
}

struct err *toml_parse(struct sv text, const char *what, size_t max_bytes, json_t **out_value)
{
	struct toml t = { .what = what, .p = text.p, .end = text.p + text.n, .line = 1 };
	auto_json json_t *root = json_object();
	struct err *e;

	if (text.n > max_bytes)
		return FAIL(ERR_LIMIT, "%s: larger than %zu bytes", what, max_bytes);
	(void)accept(&t, "\xef\xbb\xbf");
	e = document(&t, root);
	vec_fini(&t.tables);
	if (e)
		return e;
	*out_value = TAKE(root);
	return NULL;
}
