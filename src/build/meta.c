/* meta.c - instructions that only change the configuration, each by one row of a table; history entries. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "build/stage.h"
#include "engine/signals.h"
#include <strings.h>

enum { TEXT_MAX = 1 << 20 };

/* ---- configuration ---- */

json_t *stage_config(const struct stage *s)
{
	return json_object_get(s->config, "config");
}

const char *stage_workdir(const struct stage *s)
{
	const char *dir = json_str_at(stage_config(s), "WorkingDir", "");

	return *dir ? dir : "/";
}

FALLIBLE stage_shell(const struct stage *s, char ***out_list)
{
	TRY(json_list_at(stage_config(s), "Shell", out_list));
	if (!text_list_len(*out_list)) {
		text_list_add(out_list, "/bin/sh");
		text_list_add(out_list, "-c");
	}
	return NULL;
}

static void set(struct stage *s, const char *key, json_t *value)
{
	(void)json_object_set_new(stage_config(s), key, value);
}

/* The object at key, made when it is not there; borrowed. */
static json_t *object(struct stage *s, const char *key)
{
	if (!json_is_object(json_object_get(stage_config(s), key)))
		set(s, key, json_object());
	return json_object_get(stage_config(s), key);
}

static json_t *array(struct stage *s, const char *key)
{
	if (!json_is_array(json_object_get(stage_config(s), key)))
		set(s, key, json_array());
	return json_object_get(stage_config(s), key);
}

void stage_history(struct stage *s, const char *text, const char *diff_id)
{
	json_t *entry = json_object(), *history = json_object_get(s->config, "history");
	char time[TIME_TEXT_MAX];

	(void)json_object_set_new(entry, "created", json_string(time_format(s->clamp_ns, time)));
	(void)json_object_set_new(entry, "created_by", json_string(text));
	(void)json_object_set_new(entry, "comment", json_string("buildkit.dockerfile.v0"));
	if (!diff_id)
		(void)json_object_set_new(entry, "empty_layer", json_true());
	(void)json_array_append_new(history, entry);
	if (!diff_id)
		return;
	text_list_add(&s->diff_ids, diff_id);
	(void)json_array_append_new(json_at(s->config, "rootfs.diff_ids"), json_string(diff_id));
}

/* ---- instructions ---- */

static FALLIBLE do_env(struct stage *s, const struct at *at)
{
	auto_json json_t *env = json_deep_copy(array(s, "Env"));

	/* values of one line see the variables as they were before it */
	for (size_t k = 0; k < at->i->n_args; k++) {
		auto_free char *pair = NULL;
		size_t i, n;
		json_t *item;
		bool found = false;

		TRY(stage_expand(s, at, at->i->args[k], &pair));
		n = strcspn(pair, "=") + 1;
		json_array_foreach(env, i, item) {
			if (strncmp(json_string_value(item), pair, n) != 0)
				continue;
			(void)json_array_set_new(env, i, json_string(pair));
			found = true;
			break;
		}
		if (!found)
			(void)json_array_append_new(env, json_string(pair));
	}
	set(s, "Env", TAKE(env));
	return NULL;
}

static FALLIBLE do_label(struct stage *s, const struct at *at)
{
	for (size_t k = 0; k < at->i->n_args; k++) {
		auto_free char *pair = NULL;
		char *eq;

		TRY(stage_expand(s, at, at->i->args[k], &pair));
		eq = strchr(pair, '=');
		if (!eq)
			continue;
		*eq = 0;
		(void)json_object_set_new(object(s, "Labels"), pair, json_string(eq + 1));
	}
	return NULL;
}

static FALLIBLE do_user(struct stage *s, const struct at *at)
{
	auto_free char *text = NULL;

	TRY(stage_expand(s, at, at->i->args[0], &text));
	if (!*text)
		return at_error(at, NULL, FAIL(ERR_INVALID, "USER is empty after expansion"));
	set(s, "User", json_string(text));
	return NULL;
}

/* JSON form as it is, shell form through SHELL; nothing at all empties it. */
static FALLIBLE command(struct stage *s, const struct at *at, json_t **out_list)
{
	auto_list char **shell = NULL;
	json_t *list;

	if (at->i->is_json || !at->i->n_args) {
		list = json_array();
		for (size_t k = 0; k < at->i->n_args; k++)
			(void)json_array_append_new(list, json_string(at->i->args[k]));
	} else {
		TRY(stage_shell(s, &shell));
		list = json_from_list(shell);
		(void)json_array_append_new(list, json_string(at->i->args[0]));
	}
	*out_list = list;
	return NULL;
}

static FALLIBLE do_cmd(struct stage *s, const struct at *at)
{
	json_t *list;

	TRY(command(s, at, &list));
	set(s, "Cmd", list);
	s->has_cmd = true;
	return NULL;
}

static FALLIBLE do_entrypoint(struct stage *s, const struct at *at)
{
	json_t *list;

	TRY(command(s, at, &list));
	set(s, "Entrypoint", list);
	if (!s->has_cmd) /* the base's CMD was meant for the base's entry point */
		(void)json_object_del(stage_config(s), "Cmd");
	return NULL;
}

static FALLIBLE do_shell(struct stage *s, const struct at *at)
{
	json_t *list = json_array();

	for (size_t k = 0; k < at->i->n_args; k++)
		(void)json_array_append_new(list, json_string(at->i->args[k]));
	set(s, "Shell", list);
	return NULL;
}

static FALLIBLE port_range(struct sv text, uint64_t *out_first, uint64_t *out_last)
{
	struct sv rest = text, first = sv_cut(&rest, '-');

	if (first.n == text.n)
		rest = first;
	TRY(num_parse(first, 10, 0, 65535, out_first));
	return num_parse(rest, 10, *out_first, 65535, out_last);
}

static FALLIBLE expose(struct stage *s, const char *text)
{
	struct sv proto = sv_of(text), ports = sv_cut(&proto, '/');
	uint64_t first, last;
	struct err *e = port_range(ports, &first, &last);

	if (e) {
		err_free(e);
		return FAIL(ERR_INVALID, "invalid containerPort: %s", text);
	}
	if (!proto.n)
		proto = SV("tcp");
	if (strncasecmp(proto.p, "tcp", proto.n) != 0 && strncasecmp(proto.p, "udp", proto.n) != 0 &&
	    strncasecmp(proto.p, "sctp", proto.n) != 0)
		return FAIL(ERR_INVALID, "invalid proto: " SV_FMT, SV_ARG(proto));
	for (uint64_t port = first; port <= last; port++) {
		char key[32];

		(void)snprintf(key, sizeof key, "%u/" SV_FMT, (unsigned)port, SV_ARG(proto));
		for (char *c = key; *c; c++)
			*c = (char)(*c >= 'A' && *c <= 'Z' ? *c + 32 : *c);
		(void)json_object_set_new(object(s, "ExposedPorts"), key, json_object());
	}
	return NULL;
}

static FALLIBLE do_expose(struct stage *s, const struct at *at)
{
	for (size_t k = 0; k < at->i->n_args; k++) {
		auto_free char *text = NULL;
		struct sv rest;

		TRY(stage_expand(s, at, at->i->args[k], &text));
		for (rest = sv_trim(sv_of(text)); rest.n; rest = sv_trim(rest)) { /* a variable may hold several */
			struct sv word = sv_cut(&rest, ' ');
			auto_free char *one = xstrndup(word.p, word.n);
			struct err *e = expose(s, one);

			if (e)
				return at_error(at, at->i->args[k], e);
		}
	}
	return NULL;
}

static FALLIBLE do_volume(struct stage *s, const struct at *at)
{
	for (size_t k = 0; k < at->i->n_args; k++) {
		auto_free char *text = NULL;

		TRY(stage_expand(s, at, at->i->args[k], &text));
		if (!*text)
			return at_error(at, NULL, FAIL(ERR_INVALID, "VOLUME specified can not be an empty string"));
		(void)json_object_set_new(object(s, "Volumes"), text, json_object());
	}
	return NULL;
}

static FALLIBLE do_stopsignal(struct stage *s, const struct at *at)
{
	auto_free char *text = NULL;

	TRY(stage_expand(s, at, at->i->args[0], &text));
	if (!*text || signal_number(text) < 0)
		return at_error(at, at->i->args[0], FAIL(ERR_INVALID, "invalid signal: %s", text));
	set(s, "StopSignal", json_string(text));
	return NULL;
}

static FALLIBLE do_maintainer(struct stage *s, const struct at *at)
{
	(void)json_object_set_new(s->config, "author", json_string(at->i->args[0]));
	return NULL;
}

static FALLIBLE do_onbuild(struct stage *s, const struct at *at)
{
	auto_buf struct buf b = BUF(TEXT_MAX);

	buf_str(&b, at->i->text);
	for (size_t k = 0; k < at->i->n_heredocs; k++)
		buf_fmt(&b, "\n%s%s", at->i->heredocs[k].text, at->i->heredocs[k].name);
	TRY(buf_check(&b, "ONBUILD"));
	(void)json_array_append_new(array(s, "OnBuild"), json_string(buf_text(&b)));
	return NULL;
}

/* ---- HEALTHCHECK ---- */

static FALLIBLE health_number(const struct at *at, json_t *health, const char *flag, const char *key)
{
	const char *text = instr_flag(at->i, flag);
	struct err *e;
	int64_t ns = 0;
	uint64_t n = 0;

	if (!text)
		return NULL;
	if (strcmp(flag, "retries") == 0) {
		e = num_parse(sv_of(text), 10, 0, 1000000, &n);
		ns = (int64_t)n;
	} else {
		e = num_parse_duration(sv_of(text), &ns);
		if (!e && ns != 0 && ns < 1000000)
			e = FAIL(ERR_INVALID, "interval \"%s\" cannot be less than 1ms", flag);
	}
	if (e)
		return at_error(at, text, err_ctx(e, "HEALTHCHECK --%s", flag));
	(void)json_object_set_new(health, key, json_integer(ns));
	return NULL;
}

static FALLIBLE health_test(const struct at *at, json_t *test)
{
	struct sv rest = sv_of(at->i->text), word = sv_cut(&rest, ' ');
	auto_free char *wrapped = NULL;
	struct dockerfile inner;
	struct err *e;

	rest = sv_trim(rest);
	if (word.n == 4 && strncasecmp(word.p, "NONE", 4) == 0) {
		if (rest.n)
			return FAIL(ERR_INVALID, "HEALTHCHECK NONE takes no arguments");
		(void)json_array_append_new(test, json_string("NONE"));
		return NULL;
	}
	if (word.n != 3 || strncasecmp(word.p, "CMD", 3) != 0)
		return FAIL(ERR_INVALID, "Unknown type \"" SV_FMT "\" in HEALTHCHECK (try CMD)", SV_ARG(word));
	if (!rest.n)
		return FAIL(ERR_INVALID, "Missing command after HEALTHCHECK CMD");
	wrapped = xasprintf("CMD " SV_FMT "\n", SV_ARG(rest));
	e = dockerfile_parse("HEALTHCHECK", sv_of(wrapped), &inner);
	if (e) {
		err_free(e);
		return FAIL(ERR_INVALID, "bad command after HEALTHCHECK CMD");
	}
	(void)json_array_append_new(test, json_string(inner.instrs[0].is_json ? "CMD" : "CMD-SHELL"));
	for (size_t k = 0; k < inner.instrs[0].n_args; k++)
		(void)json_array_append_new(test, json_string(inner.instrs[0].args[k]));
	dockerfile_fini(&inner);
	return NULL;
}

static FALLIBLE do_healthcheck(struct stage *s, const struct at *at)
{
	auto_json json_t *health = json_object();
	json_t *test = json_array();
	struct err *e = health_test(at, test);

	(void)json_object_set_new(health, "Test", test);
	if (e)
		return at_error(at, NULL, e);
	TRY(health_number(at, health, "interval", "Interval"));
	TRY(health_number(at, health, "timeout", "Timeout"));
	TRY(health_number(at, health, "start-period", "StartPeriod"));
	TRY(health_number(at, health, "start-interval", "StartInterval"));
	TRY(health_number(at, health, "retries", "Retries"));
	set(s, "Healthcheck", TAKE(health));
	return NULL;
}

static FALLIBLE do_arg(struct stage *s, const struct at *at)
{
	return stage_arg(s->b, s, at);
}

static struct err *(*const table[INSTR_KINDS])(struct stage *s, const struct at *at) = {
	[INSTR_ARG] = do_arg,	    [INSTR_CMD] = do_cmd,		[INSTR_ENTRYPOINT] = do_entrypoint,
	[INSTR_ENV] = do_env,	    [INSTR_EXPOSE] = do_expose,		[INSTR_HEALTHCHECK] = do_healthcheck,
	[INSTR_LABEL] = do_label,   [INSTR_MAINTAINER] = do_maintainer, [INSTR_ONBUILD] = do_onbuild,
	[INSTR_SHELL] = do_shell,   [INSTR_STOPSIGNAL] = do_stopsignal, [INSTR_USER] = do_user,
	[INSTR_VOLUME] = do_volume,
};

/* What history says: with the variables filled in where the instruction has some. */
static FALLIBLE history_text(const struct stage *s, const struct at *at, struct buf *out)
{
	const struct instr *i = at->i;
	bool expands = i->kind == INSTR_ENV || i->kind == INSTR_LABEL || i->kind == INSTR_EXPOSE || i->kind == INSTR_USER ||
		       i->kind == INSTR_STOPSIGNAL || i->kind == INSTR_VOLUME;

	buf_str(out, instr_name(i->kind));
	for (size_t k = 0; k < i->n_flags; k++)
		buf_fmt(out, " --%s%s%s", i->flags[k].name, i->flags[k].value ? "=" : "",
			i->flags[k].value ? i->flags[k].value : "");
	if (!expands) {
		buf_fmt(out, " %s", i->text);
		return NULL;
	}
	for (size_t k = 0; k < i->n_args; k++) {
		auto_free char *text = NULL;

		TRY(stage_expand(s, at, i->args[k], &text));
		buf_fmt(out, " %s", text);
	}
	return NULL;
}

FALLIBLE stage_metadata(struct stage *s, const struct at *at)
{
	auto_buf struct buf text = BUF(TEXT_MAX);

	TRY(history_text(s, at, &text));
	TRY(table[at->i->kind](s, at));
	stage_history(s, buf_text(&text), NULL);
	return NULL;
}
