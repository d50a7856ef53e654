#include "codec/json.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "codec/json_plain.h"
#include <errno.h>
#include <stdint.h>

#define DEPTH_MAX 128

/* An integer that only unsigned 64 bits hold stands at the start of the text: its length, else 0. */
static size_t big_integer(struct sv text)
{
	size_t n = 0;
	uint64_t value;
	struct err *e;

	while (n < text.n && text.p[n] >= '0' && text.p[n] <= '9')
		n++;
	if (n < 19 || (n < text.n && memchr(".eE", text.p[n], 3)))
		return 0;
	e = num_parse(sv_from(text.p, n), 10, (uint64_t)INT64_MAX + 1, UINT64_MAX, &value);
	err_free(e);
	return e ? 0 : n;
}

/* Puts such integers in quotes. What a digit run is, strings and digits before it decide. */
static void quote_big(struct sv text, struct buf *out)
{
	bool in_string = false;
	size_t n;

	for (size_t i = 0; i < text.n; i += n) {
		bool starts = !in_string && (i == 0 || !memchr("-+.0123456789", text.p[i - 1], 13));
		size_t big = starts ? big_integer(sv_skip(text, i)) : 0;

		n = big ? big : in_string && text.p[i] == '\\' && i + 1 < text.n ? 2 : 1;
		if (text.p[i] == '"')
			in_string = !in_string;
		if (big)
			buf_ch(out, '"');
		buf_add(out, text.p + i, n);
		if (big)
			buf_ch(out, '"');
	}
}

bool json_u64(const json_t *value, uint64_t *out)
{
	struct err *e = NULL;

	if (json_is_integer(value) && json_integer_value(value) >= 0) {
		*out = (uint64_t)json_integer_value(value);
		return true;
	}
	if (!json_is_string(value) ||
	    (e = num_parse(sv_of(json_string_value(value)), 10, 0, UINT64_MAX, out))) {
		err_free(e);
		return false;
	}
	return true;
}

/* Jansson's own limit of 2,048 is fixed when it is built, and recursion over what it made would be ours. */
static bool is_too_deep(struct sv text)
{
	static const signed char step[256] = { ['['] = 1, ['{'] = 1, [']'] = -1, ['}'] = -1 };
	int depth = 0;

	for (size_t i = 0; i < text.n; i++) {
		if (text.p[i] == '"') /* to its end */
			for (i++; i < text.n && text.p[i] != '"'; i++)
				i += text.p[i] == '\\';
		else if ((depth += step[(unsigned char)text.p[i]]) > DEPTH_MAX)
			return true;
	}
	return false;
}

struct err *json_parse(struct sv text, const char *what, size_t max_bytes, json_t **out_value)
{
	json_error_t at;
	json_t *v;

	if (text.n > max_bytes)
		return FAIL(ERR_LIMIT, "%s: %zu bytes of JSON, at most %zu", what, text.n, max_bytes);
	if (is_too_deep(text))
		return FAIL(ERR_LIMIT, "%s: more than %d levels of JSON inside each other", what, DEPTH_MAX);
	v = json_loadb(text.n ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &at);
	if (!v && json_error_code(&at) == json_error_numeric_overflow) {
		auto_buf struct buf quoted = BUF(max_bytes + max_bytes / 4 + 16);

		quote_big(text, &quoted);
		v = json_loadb(buf_text(&quoted), quoted.n, JSON_REJECT_DUPLICATES, &at);
	}
	if (!v)
		return FAIL(ERR_INVALID, "%s:%d:%d: %s", what, at.line, at.column, at.text);
	*out_value = v;
	return NULL;
}

struct err *json_read_text(int fd, const char *what, struct buf *text, json_t **out_value)
{
	enum { CHUNK = 16384 };

	for (;;) {
		size_t left = text->max - text->n, want = left < CHUNK ? left : CHUNK;
		char beyond = 0, *room = want ? buf_room(text, want) : &beyond;
		ssize_t n = room ? read(fd, room, want ? want : 1) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return FAIL_OS(errno, "read %s", what);
		if (n > 0 && room == &beyond)
			buf_ch(text, beyond); /* one too many */
		TRY(buf_check(text, what));
		if (n == 0)
			break;
		text->n += (size_t)n;
		text->data[text->n] = '\0';
	}
	*out_value = json_plain(buf_text(text), text->n);
	return *out_value ? NULL : json_parse(sv_from(buf_text(text), text->n), what, text->max, out_value);
}

struct err *json_read(int fd, const char *what, size_t max_bytes, json_t **out_value)
{
	auto_buf struct buf b = BUF(max_bytes);

	return json_read_text(fd, what, &b, out_value);
}

static int into_buf(const char *p, size_t n, void *ctx)
{
	buf_add(ctx, p, n);
	return 0;
}

void json_print(const json_t *value, struct buf *out)
{
	(void)json_dump_callback(value, into_buf, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

void json_print_indent(const json_t *value, unsigned spaces, struct buf *out)
{
	(void)json_dump_callback(value, into_buf, out, JSON_INDENT(spaces) | JSON_ENCODE_ANY);
}

json_t *json_at(const json_t *value, const char *path)
{
	json_t *v = (json_t *)(uintptr_t)value;
	struct sv rest = sv_of(path);

	while (v && rest.n) {
		struct sv key = sv_cut(&rest, '.');
		char name[128];

		if (key.n >= sizeof name)
			return NULL;
		memcpy(name, key.p, key.n);
		name[key.n] = '\0';
		v = json_object_get(v, name);
	}
	return v;
}

const char *json_str_at(const json_t *value, const char *path, const char *fallback)
{
	const json_t *v = json_at(value, path);

	return json_is_string(v) ? json_string_value(v) : fallback;
}

void json_add_once(json_t *list, const char *text)
{
	size_t i;
	json_t *v;

	json_array_foreach (list, i, v)
		if (strcmp(json_string_value(v), text) == 0)
			return;
	(void)json_array_append_new(list, json_string(text));
}

int64_t json_int_at(const json_t *value, const char *path, int64_t fallback)
{
	const json_t *v = json_at(value, path);

	return json_is_integer(v) ? json_integer_value(v) : fallback;
}

bool json_bool_at(const json_t *value, const char *path, bool fallback)
{
	const json_t *v = json_at(value, path);

	return json_is_boolean(v) ? json_is_true(v) : fallback;
}

struct err *json_list_at(const json_t *value, const char *path, char ***out_list)
{
	const json_t *v = json_at(value, path), *item;
	auto_list char **list = NULL;
	size_t i;

	*out_list = NULL;
	if (!v || json_is_null(v))
		return NULL;
	if (!json_is_array(v))
		return FAIL(ERR_INVALID, "%s: not an array of strings", path);
	list = xcalloc(json_array_size(v) + 1, sizeof *list);
	json_array_foreach(v, i, item)
	{
		if (!json_is_string(item))
			return FAIL(ERR_INVALID, "%s[%zu]: not a string", path, i);
		list[i] = xstrdup(json_string_value(item));
	}
	*out_list = TAKE(list);
	return NULL;
}

json_t *json_from_list(char *const *list)
{
	json_t *a = json_array();

	for (; list && *list; list++)
		(void)json_array_append_new(a, json_string(*list));
	return a;
}

/* --- the region -------------------------------------------------------------------------------------------
 */

/* So large that malloc maps each block on its own and unmaps it when it is freed: no hole stays in the heap.
 */
enum { REGION_BLOCK = 512 * 1024 };
static struct region_block {
	struct region_block *next;
	size_t used, size;
	_Alignas(16) unsigned char data[];
} * region;

static void *region_alloc(size_t n)
{
	struct region_block *b = region;
	size_t want, size = REGION_BLOCK;

	if (!add_ok(n, 15, &want))
		return NULL;
	want &= ~(size_t)15;
	if (!b || b->size - b->used < want) {
		if (want > size - sizeof *b && !add_ok(want, sizeof *b, &size))
			return NULL;
		b = malloc(size);
		if (!b)
			return NULL;
		*b = (struct region_block){ .next = region, .size = size - sizeof *b };
		region = b;
	}
	b->used += want;
	return b->data + b->used - want;
}

void json_release(json_t *value)
{
	if (!region)
		json_decref(value);
}

static void region_free(void *p)
{
	(void)p;
}

void json_region_begin(void)
{
	json_set_alloc_funcs(region_alloc, region_free);
}

void json_region_drop(void)
{
	while (region) {
		struct region_block *next = region->next;

		free(region);
		region = next;
	}
}
