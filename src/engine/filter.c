#include "engine/filter.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/sv.h"
#include "base/time.h"
#include <regex.h>
#include <stdint.h>
#include <string.h>

FALLIBLE filter_check(const json_t *filters, const char *const *known)
{
	const char *key;
	json_t *values;

	if (!filters)
		return NULL;
	json_object_foreach ((json_t *)(uintptr_t)filters, key, values) {
		size_t i = 0;

		while (known[i] && strcmp(known[i], key) != 0)
			i++;
		if (!known[i])
			return FAIL(ERR_INVALID, "invalid filter '%s'", key);
		if (!json_is_array(values))
			return FAIL(ERR_INVALID, "invalid filter '%s': its values are not a list", key);
	}
	return NULL;
}

FALLIBLE filter_check_bool(const json_t *filters, const char *name)
{
	static const char *const bools[] = { "true", "false", "1", "0" };
	size_t i, k;
	json_t *v;

	json_array_foreach (json_object_get(filters, name), i, v) {
		for (k = 0; k < LEN(bools) && strcmp(bools[k], json_string_value(v)) != 0; k++)
			;
		if (k == LEN(bools))
			return FAIL(ERR_INVALID, "invalid filter '%s=%s': expected true or false", name, json_string_value(v));
	}
	return NULL;
}

static bool any(const json_t *filters, const char *key, const char *value, bool (*holds)(const char *want, const char *value))
{
	const json_t *values = json_object_get(filters, key);
	size_t i;
	json_t *v;

	if (!json_array_size(values))
		return true;
	json_array_foreach (values, i, v)
		if (json_is_string(v) && holds(json_string_value(v), value))
			return true;
	return false;
}

static bool is_equal(const char *want, const char *value)
{
	return strcmp(want, value) == 0;
}

static bool is_in(const char *want, const char *value)
{
	const char *plain = value + (value[0] == '/');
	auto_free char *slashed = xasprintf("/%s", plain);
	bool is;
	regex_t re;

	if (strstr(slashed, want))
		return true;
	if (regcomp(&re, want, REG_EXTENDED | REG_NOSUB) != 0)
		return false;
	is = regexec(&re, plain, 0, NULL, 0) == 0 || regexec(&re, slashed, 0, NULL, 0) == 0;
	regfree(&re);
	return is;
}

static bool is_start(const char *want, const char *value)
{
	return strncmp(value, want, strlen(want)) == 0;
}

bool filter_is(const json_t *filters, const char *key, const char *value)
{
	return any(filters, key, value, is_equal);
}

bool filter_by_name(const json_t *filters, const char *key, const char *value)
{
	return any(filters, key, value, is_in);
}

bool filter_prefix(const json_t *filters, const char *key, const char *value)
{
	return any(filters, key, value, is_start);
}

/* want: key or key=value. */
static bool has_label(const char *want, const json_t *labels)
{
	const char *eq = strchr(want, '=');
	const json_t *have = json_object_getn(labels, want, eq ? (size_t)(eq - want) : strlen(want));

	return have && (!eq || (json_is_string(have) && strcmp(json_string_value(have), eq + 1) == 0));
}

bool filter_labels(const json_t *filters, const json_t *labels)
{
	size_t i;
	json_t *v;

	json_array_foreach (json_object_get(filters, "label"), i, v)
		if (!json_is_string(v) || !has_label(json_string_value(v), labels))
			return false;
	return true;
}

FALLIBLE filter_prunes(const json_t *filters, int64_t created_ns, const json_t *labels, bool *out_fits)
{
	size_t i;
	json_t *v;

	*out_fits = filter_labels(filters, labels);
	json_array_foreach (json_object_get(filters, "label!"), i, v)
		if (json_is_string(v) && has_label(json_string_value(v), labels))
			*out_fits = false;
	json_array_foreach (json_object_get(filters, "until"), i, v) {
		const char *text = json_string_value(v);
		int64_t until;

		TRY(time_parse_moment(sv_of(text ? text : ""), &until));
		if (created_ns >= until)
			*out_fits = false;
	}
	return NULL;
}
