/* tmpl_func.c - the functions of templates: one table, name, arity, implementation. */
#include "base/own.h"
#include "codec/tmpl_int.h"
#include <ctype.h>
#include <stdio.h>

#define TEXT_MAX (16u << 20)

struct call {
	struct run *r;
	const struct expr *x;
	const struct val *args;
	size_t n;
};
struct func {
	const char *name;
	size_t min, max;
	struct err *(*fn)(const struct call *c, struct val *out);
};

static FALLIBLE wrong(const struct call *c, const char *what)
{
	return tmpl_fail_at(c->r->t, c->x, "error calling %s: %s", c->x->name, what);
}

/* Text of an argument: a string as it stands, anything else as it prints. Owned. */
static char *text_of(struct val v)
{
	auto_buf struct buf b = BUF(TEXT_MAX);

	tmpl_print(v, &b, true);
	return buf_take(&b);
}

static struct val text_val(const struct call *c, const struct buf *b)
{
	return tmpl_keep(c->r, json_stringn_nocheck(buf_text(b), b->n));
}

static FALLIBLE fn_not(const struct call *c, struct val *out)
{
	*out = tmpl_keep(c->r, json_boolean(!tmpl_truth(c->args[0])));
	return NULL;
}

/* -1, 0, 1 of two numbers or two strings; false when they cannot be compared. */
static bool compare(struct val a, struct val b, int *out_order)
{
	if (a.j && b.j && json_is_number(a.j) && json_is_number(b.j)) {
		double x = json_number_value(a.j), y = json_number_value(b.j);

		*out_order = x < y ? -1 : x > y;
		return true;
	}
	if (a.j && b.j && json_is_string(a.j) && json_is_string(b.j)) {
		*out_order = strcmp(json_string_value(a.j), json_string_value(b.j));
		return true;
	}
	return false;
}

static FALLIBLE equal(const struct call *c, bool *out_equal)
{
	*out_equal = false;
	for (size_t i = 1; i < c->n; i++) {
		struct val a = c->args[0], b = c->args[i];
		int order;

		if (compare(a, b, &order))
			*out_equal |= order == 0;
		else if (!a.j || !b.j || json_is_null(a.j) || json_is_null(b.j))
			*out_equal |= (!a.j || json_is_null(a.j)) && (!b.j || json_is_null(b.j));
		else if (json_is_boolean(a.j) && json_is_boolean(b.j))
			*out_equal |= json_is_true(a.j) == json_is_true(b.j);
		else
			return wrong(c, "incompatible types for comparison");
	}
	return NULL;
}

static FALLIBLE fn_eq(const struct call *c, struct val *out)
{
	bool is_equal;

	TRY(equal(c, &is_equal));
	*out = tmpl_keep(c->r, json_boolean(is_equal));
	return NULL;
}

static FALLIBLE fn_ne(const struct call *c, struct val *out)
{
	bool is_equal;

	TRY(equal(c, &is_equal));
	*out = tmpl_keep(c->r, json_boolean(!is_equal));
	return NULL;
}

static FALLIBLE fn_order(const struct call *c, struct val *out)
{
	const char *name = c->x->name;
	int order;
	bool yes;

	if (!compare(c->args[0], c->args[1], &order))
		return wrong(c, "incompatible types for comparison");
	yes = name[0] == 'l' ? order < 0 : order > 0;
	*out = tmpl_keep(c->r, json_boolean(yes || (name[1] == 'e' && order == 0)));
	return NULL;
}

static FALLIBLE fn_len(const struct call *c, struct val *out)
{
	const json_t *j = c->args[0].j;
	size_t n = 0;

	if (j && !json_is_null(j) && !json_is_string(j) && !json_is_array(j) && !json_is_object(j))
		return wrong(c, "len of untyped value");
	if (j)
		n = json_is_string(j) ? json_string_length(j) : json_is_array(j) ? json_array_size(j) : json_object_size(j);
	*out = tmpl_keep(c->r, json_integer((json_int_t)n));
	return NULL;
}

static FALLIBLE fn_index(const struct call *c, struct val *out)
{
	struct val v = c->args[0];

	for (size_t i = 1; i < c->n; i++) {
		const json_t *at = c->args[i].j;

		if (!v.j || json_is_null(v.j))
			return wrong(c, "index of untyped nil");
		if (json_is_object(v.j)) {
			const char *key = json_string_value(at);

			if (!key)
				return wrong(c, "value has type other than string; should be string");
			v = (struct val){ .j = json_object_get(v.j, key) };
			if (!v.j)
				v = tmpl_keep(c->r, json_string(""));
			continue;
		}
		if (!json_is_array(v.j) || !json_is_integer(at))
			return wrong(c, json_is_array(v.j) ? "cannot index slice/array with type other than int"
							   : "can't index item of this type");
		if (json_integer_value(at) < 0 || (size_t)json_integer_value(at) >= json_array_size(v.j))
			return wrong(c, "reflect: slice index out of range");
		v = (struct val){ .j = json_array_get(v.j, (size_t)json_integer_value(at)) };
	}
	*out = v;
	return NULL;
}

static FALLIBLE fn_slice(const struct call *c, struct val *out)
{
	const json_t *j = c->args[0].j;
	size_t n, from = 0, to;
	json_t *part;

	if (!j || (!json_is_string(j) && !json_is_array(j)))
		return wrong(c, "can't slice item of this type");
	n = to = json_is_string(j) ? json_string_length(j) : json_array_size(j);
	for (size_t i = 1; i < c->n; i++) {
		json_int_t at = json_integer_value(c->args[i].j);

		if (!json_is_integer(c->args[i].j) || at < 0 || (size_t)at > n)
			return wrong(c, "index out of range");
		if (i == 1)
			from = (size_t)at;
		else
			to = (size_t)at;
	}
	if (from > to)
		return wrong(c, "invalid slice index");
	if (json_is_string(j)) {
		*out = tmpl_keep(c->r, json_stringn_nocheck(json_string_value(j) + from, to - from));
		return NULL;
	}
	part = json_array();
	for (size_t i = from; i < to; i++)
		(void)json_array_append(part, json_array_get(j, i));
	*out = tmpl_keep(c->r, part);
	return NULL;
}

static FALLIBLE fn_print(const struct call *c, struct val *out)
{
	auto_buf struct buf b = BUF(TEXT_MAX);
	bool line = strcmp(c->x->name, "println") == 0;

	for (size_t i = 0; i < c->n; i++) {
		bool text_around = i && (json_is_string(c->args[i].j) || json_is_string(c->args[i - 1].j));

		if (i && (line || !text_around))
			buf_ch(&b, ' ');
		tmpl_print(c->args[i], &b, true);
	}
	if (line)
		buf_ch(&b, '\n');
	*out = text_val(c, &b);
	return NULL;
}

static void quoted(const char *text, struct buf *b)
{
	buf_ch(b, '"');
	for (const char *p = text; *p; p++) {
		if (*p == '"' || *p == '\\')
			buf_fmt(b, "\\%c", *p);
		else if (*p == '\n' || *p == '\t' || *p == '\r')
			buf_fmt(b, "\\%c", *p == '\n' ? 'n' : *p == '\t' ? 't' : 'r');
		else if ((unsigned char)*p < 0x20 || *p == 0x7f)
			buf_fmt(b, "\\x%02x", (unsigned)*p);
		else
			buf_ch(b, *p);
	}
	buf_ch(b, '"');
}

static void padded(const char *text, const char *flags, int width, struct buf *b)
{
	int fill = width - (int)strlen(text);

	if (!strchr(flags, '-'))
		for (; fill > 0; fill--)
			buf_ch(b, strchr(flags, '0') ? '0' : ' ');
	buf_str(b, text);
	for (; fill > 0; fill--)
		buf_ch(b, ' ');
}

/* One verb with its argument into text form, before padding. */
static void verb_text(char verb, struct val v, int precision, struct buf *b)
{
	auto_free char *text = text_of(v);
	long long number = v.j && json_is_number(v.j) ? (long long)json_number_value(v.j) : 0;
	bool is_text = verb == 's' || verb == 'v' || verb == 'q' || verb == 't';

	if (is_text && precision >= 0 && (size_t)precision < strlen(text))
		text[precision] = '\0';
	if (verb == 'q')
		quoted(text, b);
	else if (verb == 'f' || verb == 'e' || verb == 'g')
		buf_fmt(b, verb == 'f' ? "%.*f" : verb == 'e' ? "%.*e" : "%.*g", precision < 0 ? 6 : precision,
			v.j ? json_number_value(v.j) : 0.0);
	else if ((verb == 'x' || verb == 'X') && !json_is_integer(v.j))
		for (const char *p = text; *p; p++)
			buf_fmt(b, verb == 'x' ? "%02x" : "%02X", (unsigned)(unsigned char)*p);
	else if (verb == 'x' || verb == 'X' || verb == 'o')
		buf_fmt(b, verb == 'x' ? "%llx" : verb == 'X' ? "%llX" : "%llo", (unsigned long long)number);
	else if (is_text || (verb == 'd' && v.j && json_is_integer(v.j)))
		buf_str(b, text);
	else
		buf_fmt(b, "%%!%c(%s)", verb, text);
}

static int small_number(const char **p)
{
	int n = 0;

	for (; isdigit((unsigned char)**p); (*p)++)
		n = n < 10000 ? n * 10 + (**p - '0') : n;
	return n;
}

static FALLIBLE fn_printf(const struct call *c, struct val *out)
{
	auto_buf struct buf b = BUF(TEXT_MAX);
	const char *p = json_string_value(c->args[0].j);
	size_t next = 1;

	if (!p)
		return wrong(c, "wrong type for value; expected string");
	for (; *p; p++) {
		auto_buf struct buf piece = BUF(TEXT_MAX);
		char flags[8] = "";
		int width, precision = -1;

		if (*p != '%') {
			buf_ch(&b, *p);
			continue;
		}
		for (p++; *p && strchr("-+# 0", *p); p++)
			if (strlen(flags) + 1 < sizeof flags)
				flags[strlen(flags)] = *p;
		width = small_number(&p);
		if (*p == '.') {
			p++;
			precision = small_number(&p);
		}
		if (*p == '%' || !*p) {
			buf_str(&b, *p ? "%" : "%!(NOVERB)");
			p -= !*p;
			continue;
		}
		if (next >= c->n)
			buf_fmt(&piece, "%%!%c(MISSING)", *p);
		else
			verb_text(*p, c->args[next++], precision, &piece);
		padded(buf_text(&piece), flags, width, &b);
	}
	*out = text_val(c, &b);
	return NULL;
}

static FALLIBLE fn_label(const struct call *c, struct val *out)
{
	auto_buf struct buf b = BUF(TEXT_MAX);
	const char *key = json_string_value(c->args[1].j), *last = key ? strrchr(key, '.') : NULL;
	const char *value = key ? json_string_value(json_object_get(c->args[0].j, key)) : NULL;

	if (!key)
		return tmpl_fail_at(c->r->t, c->x, "wrong type for value; expected string");
	if (json_is_true(c->args[0].j))
		for (const char *p = last ? last + 1 : key; *p; p++)
			buf_ch(&b, *p == '-' || *p == '_' ? ' ' : *p);
	else
		buf_str(&b, value ? value : "");
	*out = text_val(c, &b);
	return NULL;
}

static FALLIBLE fn_json(const struct call *c, struct val *out)
{
	auto_buf struct buf b = BUF(TEXT_MAX);
	auto_json json_t *shown = json_object_get(c->args[0].j, TMPL_LABELS) ? json_copy((json_t *)(uintptr_t)c->args[0].j) : NULL;

	(void)json_object_del(shown, TMPL_LABELS);
	if (shown)
		json_print(shown, &b);
	else if (c->args[0].j)
		json_print(c->args[0].j, &b);
	else
		buf_str(&b, "null");
	*out = text_val(c, &b);
	return NULL;
}

static FALLIBLE fn_join(const struct call *c, struct val *out)
{
	auto_buf struct buf b = BUF(TEXT_MAX);
	const char *separator = json_string_value(c->args[1].j);
	const json_t *list = c->args[0].j;

	if (!separator || (list && !json_is_null(list) && !json_is_array(list)))
		return wrong(c, "wrong type for value; expected []string and string");
	for (size_t i = 0; i < json_array_size(list); i++) {
		if (i)
			buf_str(&b, separator);
		tmpl_print((struct val){ .j = json_array_get(list, i) }, &b, true);
	}
	*out = text_val(c, &b);
	return NULL;
}

static FALLIBLE fn_split(const struct call *c, struct val *out)
{
	const char *text = json_string_value(c->args[0].j), *by = json_string_value(c->args[1].j);
	json_t *list;

	if (!text || !by || !*by)
		return wrong(c, "wrong type for value; expected string and a separator");
	list = json_array();
	for (const char *at; (at = strstr(text, by)); text = at + strlen(by))
		(void)json_array_append_new(list, json_stringn_nocheck(text, (size_t)(at - text)));
	(void)json_array_append_new(list, json_string_nocheck(text));
	*out = tmpl_keep(c->r, list);
	return NULL;
}

/* upper, lower, title */
static FALLIBLE fn_case(const struct call *c, struct val *out)
{
	auto_free char *text = text_of(c->args[0]);
	bool start = true;

	for (char *p = text; *p; p++) {
		unsigned char u = (unsigned char)*p;

		if (c->x->name[0] == 'u' || (c->x->name[0] == 't' && start))
			*p = (char)toupper(u);
		else if (c->x->name[0] == 'l')
			*p = (char)tolower(u);
		start = !isalnum(u) && u < 0x80;
	}
	*out = tmpl_keep(c->r, json_string_nocheck(text));
	return NULL;
}

static FALLIBLE fn_truncate(const struct call *c, struct val *out)
{
	auto_free char *text = text_of(c->args[0]);
	json_int_t n = json_integer_value(c->args[1].j);

	if (!json_is_integer(c->args[1].j) || n < 0)
		return wrong(c, "wrong type for value; expected int");
	if ((size_t)n < strlen(text))
		text[n] = '\0';
	*out = tmpl_keep(c->r, json_string_nocheck(text));
	return NULL;
}

static FALLIBLE fn_pad(const struct call *c, struct val *out)
{
	auto_buf struct buf b = BUF(TEXT_MAX);
	auto_free char *text = text_of(c->args[0]);
	json_int_t n[2];

	for (int i = 0; i < 2; i++) {
		n[i] = json_integer_value(c->args[i + 1].j);
		if (!json_is_integer(c->args[i + 1].j) || n[i] < 0 || n[i] > 10000)
			return wrong(c, "wrong type for value; expected int");
	}
	if (*text)
		buf_fmt(&b, "%*s%s%*s", (int)n[0], "", text, (int)n[1], "");
	*out = text_val(c, &b);
	return NULL;
}

#define MANY 33
static FALLIBLE fn_last(const struct call *c, struct val *out) /* and, or: decided while evaluating */
{
	*out = c->args[c->n - 1];
	return NULL;
}

static const struct func funcs[] = {
	{ "and", 1, MANY, fn_last },	{ "eq", 2, MANY, fn_eq },	{ "ge", 2, 2, fn_order },
	{ "gt", 2, 2, fn_order },	{ "index", 1, MANY, fn_index }, { "join", 2, 2, fn_join },
	{ TMPL_LABEL, 2, 2, fn_label },
	{ "json", 1, 1, fn_json },	{ "le", 2, 2, fn_order },	{ "len", 1, 1, fn_len },
	{ "lower", 1, 1, fn_case },	{ "lt", 2, 2, fn_order },	{ "ne", 2, 2, fn_ne },
	{ "not", 1, 1, fn_not },	{ "or", 1, MANY, fn_last },	{ "pad", 3, 3, fn_pad },
	{ "print", 0, MANY, fn_print }, { "printf", 1, MANY, fn_printf }, { "println", 0, MANY, fn_print },
	{ "slice", 1, 3, fn_slice },	{ "split", 2, 2, fn_split },	{ "title", 1, 1, fn_case },
	{ "truncate", 2, 2, fn_truncate }, { "upper", 1, 1, fn_case },
};

static const struct func *find(const char *name)
{
	for (size_t i = 0; i < LEN(funcs); i++)
		if (strcmp(funcs[i].name, name) == 0)
			return &funcs[i];
	return NULL;
}

bool tmpl_has_func(const char *name)
{
	return find(name) != NULL;
}

struct err *tmpl_call(struct run *r, const struct expr *x, const struct val *args, size_t n, struct val *out_val)
{
	const struct func *f = find(x->name);
	const struct call c = { .r = r, .x = x, .args = args, .n = n };

	if (!f || n < f->min || n > f->max)
		return tmpl_fail_at(r->t, x, "wrong number of args for %s: want %zu got %zu", x->name, f ? f->min : 0, n);
	return f->fn(&c, out_val);
}
