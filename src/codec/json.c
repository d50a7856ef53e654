#include "codec/json.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include <errno.h>

struct err *json_parse(struct sv text, const char *what, size_t max_bytes, json_t **out_value)
{
	json_error_t at;
	json_t *v;

	if (text.n > max_bytes)
		return FAIL(ERR_LIMIT, "%s: %zu bytes of JSON, at most %zu", what, text.n, max_bytes);
	v = json_loadb(text.n ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &at);
	if (!v)
		return FAIL(ERR_INVALID, "%s:%d:%d: %s", what, at.line, at.column, at.text);
	*out_value = v;
	return NULL;
}

struct err *json_read(int fd, const char *what, size_t max_bytes, json_t **out_value)
{
	auto_buf struct buf b = BUF(max_bytes);

	for (;;) {
		char chunk[16384];
		ssize_t n = read(fd, chunk, sizeof chunk);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return FAIL_OS(errno, "read %s", what);
		if (n == 0)
			break;
		buf_add(&b, chunk, (size_t)n);
		TRY(buf_check(&b, what));
	}
	return json_parse(sv_from(buf_text(&b), b.n), what, max_bytes, out_value);
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
	json_array_foreach (v, i, item) {
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
