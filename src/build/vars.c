/*
 * vars.c - ARG and ENV: which value a name has where.
 *
 * Inside a stage ENV wins over ARG. An ARG without default takes --build-arg, then the global ARG of that name, then what every
 * build knows (platforms). Proxy variables need no ARG in RUN.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "build/expand.h"
#include "build/stage.h"
#include "image/platform.h"
#include <strings.h>

enum { VALUE_MAX = 1 << 20 };

struct err *at_error(const struct at *at, const char *piece, struct err *e)
{
	return dockerfile_place(at->file, at->i->line, piece, e);
}

bool is_proxy_arg(const char *name)
{
	static const char *const names[] = { "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY" };

	for (size_t i = 0; i < LEN(names); i++)
		if (strcasecmp(name, names[i]) == 0)
			return true;
	return false;
}

const char *build_given(struct build *b, const char *name)
{
	const char *value = text_env_get(b->args, name);
	bool noted = false;

	(void)pthread_mutex_lock(&b->lock);
	for (size_t i = 0; value && b->used_args && b->used_args[i]; i++)
		noted = noted || strcmp(b->used_args[i], name) == 0;
	if (value && !noted)
		text_list_add(&b->used_args, name);
	(void)pthread_mutex_unlock(&b->lock);
	return value;
}

/* Platforms: ours, as there is no emulation. */
static const char *automatic(const char *name)
{
	static struct platform host;
	static char text[96];

	if (!host.os[0]) {
		platform_host(&host);
		(void)platform_text(&host, text);
	}
	if (strncmp(name, "TARGET", 6) == 0)
		name += 6;
	else if (strncmp(name, "BUILD", 5) == 0)
		name += 5;
	else
		return NULL;
	return strcmp(name, "PLATFORM") == 0 ? text :
	       strcmp(name, "OS") == 0	     ? host.os :
	       strcmp(name, "ARCH") == 0     ? host.arch :
	       strcmp(name, "VARIANT") == 0  ? host.variant :
						 NULL;
}

const char *build_var(void *build, const char *name)
{
	struct build *b = build;
	const char *value = text_env_get(b->globals, name);

	return value ? value : automatic(name);
}

const char *stage_var(void *stage, const char *name)
{
	const struct stage *s = stage;
	size_t i, n = strlen(name);
	json_t *item;

	json_array_foreach(json_object_get(stage_config(s), "Env"), i, item) {
		const char *entry = json_string_value(item);

		if (strncmp(entry, name, n) == 0 && entry[n] == '=')
			return entry + n + 1;
	}
	return text_env_get(s->args, name);
}

FALLIBLE stage_expand(const struct stage *s, const struct at *at, const char *word, char **out_text)
{
	auto_buf struct buf out = BUF(VALUE_MAX);
	union {
		const struct stage *in;
		void *out;
	} ctx = { s };
	struct expand x = { .escape = at->file->escape, .get = stage_var, .ctx = ctx.out };
	struct err *e = expand_word(&x, sv_of(word), &out);

	if (e)
		return at_error(at, word, err_ctx(e, "failed to process \"%s\"", word));
	*out_text = buf_take(&out);
	return NULL;
}

/* A declaration "K" or "K=V" replaces an earlier one of the name. */
static void declare(char ***list, const char *name, const char *value)
{
	auto_free char *entry = value ? xasprintf("%s=%s", name, value) : NULL;

	if (entry)
		text_env_set(list, entry);
	else if (!text_env_get(*list, name))
		text_list_add(list, name);
}

static FALLIBLE arg_value(struct build *b, struct stage *s, const struct at *at, const char *word, char **out_value)
{
	const char *eq = strchr(word, '=');
	auto_free char *name = xstrndup(word, eq ? (size_t)(eq - word) : strlen(word));
	const char *given = build_given(b, name);

	*out_value = NULL;
	if (given) {
		*out_value = xstrdup(given);
	} else if (eq && s) {
		TRY(stage_expand(s, at, eq + 1, out_value));
	} else if (eq) {
		auto_buf struct buf out = BUF(VALUE_MAX);
		struct expand x = { .escape = at->file->escape, .get = build_var, .ctx = b };
		struct err *e = expand_word(&x, sv_of(eq + 1), &out);

		if (e)
			return at_error(at, word, e);
		*out_value = buf_take(&out);
	} else if (s && build_var(b, name)) {
		*out_value = xstrdup(build_var(b, name));
	}
	return NULL;
}

FALLIBLE stage_arg(struct build *b, struct stage *s, const struct at *at)
{
	for (size_t i = 0; i < at->i->n_args; i++) {
		const char *word = at->i->args[i];
		auto_free char *name = xstrndup(word, strcspn(word, "=")), *value = NULL;

		TRY(arg_value(b, s, at, word, &value));
		declare(s ? &s->args : &b->globals, name, value);
	}
	return NULL;
}
