/*
 * json_plain.c - the JSON that programs write, fast: jansson takes a character at a time through four
 * functions.
 *
 * It never says what is wrong. Whatever is not plain (fractions, \u, integers of more than 18 digits, deep
 * nesting, any error) is left to jansson, which then decides and words the error. So what is accepted here
 * must be what jansson accepts, as the same value; the fuzzer compares the two. RFC 8259.
 */
#include "codec/json_plain.h"
#include <stdlib.h>
#include <string.h>

enum { DEPTH = 64, DIGITS = 18 };

/* text ends in a zero byte, which is in no token: no other test of the end is needed. */
struct plain {
	const char *at;
	int depth;
};

/* What ends the quick walk through a string. */
static const unsigned char stops[256] = { [0 ... 0x1f] = 1, ['"'] = 1, ['\\'] = 1, [0x80 ... 0xff] = 2 };

static json_t *value(struct plain *p);

static char skip(struct plain *p)
{
	while (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r')
		p->at++;
	return *p->at;
}

/* Behind the quote that begins it; no escapes. false: not plain. *is_ascii becomes false when it is not. */
static bool bytes(struct plain *p, struct sv *out, bool *is_ascii)
{
	const char *from = p->at, *at = from;

	while (stops[(unsigned char)*at] != 1) {
		*is_ascii = *is_ascii && !stops[(unsigned char)*at];
		at++;
	}
	*out = sv_from(from, (size_t)(at - from));
	p->at = at + 1;
	return *at == '"';
}

/* The same with escapes of one letter. */
static json_t *escaped(struct plain *p)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *end = p->at;
	bool is_plain = true;
	json_t *v = NULL;
	size_t n = 0;
	char *text;

	while (*end != '"' && (unsigned char)*end >= ' ')
		end += *end == '\\' && (unsigned char)end[1] >= ' ' ? 2 : 1;
	if (*end != '"' || !(text = malloc((size_t)(end - p->at) + 1)))
		return NULL;
	for (const char *at = p->at; at < end && is_plain; at++) {
		bool is_escape = *at == '\\';
		const char *letter = is_escape ? strchr(from, *++at) : NULL;

		is_plain = !is_escape || letter;
		text[n++] = letter ? to[letter - from] : *at;
	}
	if (is_plain)
		v = json_stringn(text, n);
	free(text);
	p->at = end + 1;
	return v;
}

static json_t *string(struct plain *p)
{
	const char *from = ++p->at;
	bool is_ascii = true;
	struct sv s;

	if (bytes(p, &s, &is_ascii))
		return is_ascii ? json_stringn_nocheck(s.p, s.n) : json_stringn(s.p, s.n);
	p->at = from;
	return escaped(p);
}

static json_t *integer(struct plain *p)
{
	bool is_negative = *p->at == '-';
	const char *from = p->at += is_negative;
	json_int_t n = 0;

	while (*p->at >= '0' && *p->at <= '9' && p->at < from + DIGITS)
		n = n * 10 + (*p->at++ - '0');
	if (p->at == from || (*from == '0' && p->at > from + 1) || strchr("0123456789.eE", *p->at))
		return NULL;
	return json_integer(is_negative ? -n : n);
}

/* Owns item. true: it is in there, and was not before. */
static bool put(json_t *object, struct sv key, json_t *item)
{
	size_t before = json_object_size(object);

	return item && json_object_setn_new_nocheck(object, key.p, key.n, item) == 0 &&
	       json_object_size(object) == before + 1;
}

static bool member(struct plain *p, json_t *object)
{
	bool is_ascii = true;
	struct sv key;

	if (skip(p) != '"')
		return false;
	p->at++;
	if (!bytes(p, &key, &is_ascii) || !is_ascii || skip(p) != ':')
		return false;
	p->at++;
	return put(object, key, value(p));
}

static bool item(struct plain *p, json_t *array)
{
	json_t *v = value(p);

	return v && json_array_append_new(array, v) == 0;
}

/* An object or array, from its bracket to the one that ends it. */
static json_t *list(struct plain *p, char end)
{
	json_t *v = end == '}' ? json_object() : json_array();
	bool good = ++p->depth <= DEPTH;

	p->at++;
	if (good && skip(p) != end) {
		do
			good = end == '}' ? member(p, v) : item(p, v);
		while (good && skip(p) == ',' && p->at++);
		good = good && *p->at == end;
	}
	p->at++;
	p->depth--;
	if (good)
		return v;
	json_decref(v);
	return NULL;
}

static json_t *word(struct plain *p, const char *text, json_t *v)
{
	size_t n = strlen(text);

	if (strncmp(p->at, text, n) != 0)
		return NULL;
	p->at += n;
	return v;
}

static json_t *value(struct plain *p)
{
	switch (skip(p)) {
	case '{':
		return list(p, '}');
	case '[':
		return list(p, ']');
	case '"':
		return string(p);
	case 't':
		return word(p, "true", json_true());
	case 'f':
		return word(p, "false", json_false());
	case 'n':
		return word(p, "null", json_null());
	default:
		return integer(p);
	}
}

json_t *json_plain(const char *text, size_t n)
{
	struct plain p = { .at = text };
	json_t *v = NULL;

	if (skip(&p) == '{' || *p.at == '[')
		v = value(&p);
	if (!v || (skip(&p), p.at == text + n))
		return v;
	json_decref(v);
	return NULL;
}
