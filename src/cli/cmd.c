/* cmd.c - one parser for all commands, over their option tables. */
#include "cli/cmd.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include <stdint.h>
#include <stdio.h>

static const struct opt no_opts[] = { { 0 } };

static const struct opt *by_name(const struct cmd *c, const char *name, size_t n)
{
	for (const struct opt *o = c->opts ? c->opts : no_opts; o->type != OPT_END; o++)
		if (o->name && strlen(o->name) == n && memcmp(o->name, name, n) == 0)
			return o;
	return NULL;
}

static const struct opt *by_letter(const struct cmd *c, char letter)
{
	for (const struct opt *o = c->opts ? c->opts : no_opts; o->type != OPT_END; o++)
		if (o->letter == letter)
			return o;
	return NULL;
}

bool cmd_opt_is_flag(const struct opt *o)
{
	return o->type == OPT_FLAG || o->type == OPT_NOT || o->type == OPT_BOTH;
}

static void flag_names(const struct opt *o, char out[64])
{
	if (o->letter && o->name)
		(void)snprintf(out, 64, "-%c, --%s", o->letter, o->name);
	else if (o->name)
		(void)snprintf(out, 64, "--%s", o->name);
	else
		(void)snprintf(out, 64, "-%c", o->letter);
}

static FALLIBLE bad_value(const struct opt *o, const char *value, struct err *why)
{
	char names[64];
	struct err *e;

	flag_names(o, names);
	e = FAIL(ERR_INVALID, "invalid argument \"%s\" for \"%s\" flag: %s", value, names, why ? why->msg : "bad value");
	err_free(why);
	return e;
}

static bool parse_bool(const char *text, bool *out)
{
	static const char *const yes[] = { "true", "1", "t", "T", "TRUE", "True" };
	static const char *const no[] = { "false", "0", "f", "F", "FALSE", "False" };

	for (size_t i = 0; i < LEN(yes); i++) {
		if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
			*out = strcmp(text, yes[i]) == 0;
			return true;
		}
	}
	return false;
}

/* value NULL: a flag standing alone */
static FALLIBLE store(const struct opt *o, const char *value, char *conf)
{
	union {
		char *bytes;
		bool *flag;
		const char **str;
		unsigned *u;
		int *i;
		uint64_t *u64;
		char ***list;
	} at = { .bytes = conf + o->at };
	struct err *e = NULL;
	uint64_t v = 0;
	int64_t s = 0;

	switch (o->type) {
	case OPT_FLAG:
		if (!value)
			*at.flag = true;
		else if (!parse_bool(value, at.flag))
			return bad_value(o, value, FAIL(ERR_INVALID, "expected true or false"));
		return NULL;
	case OPT_NOT:
		if (value && !parse_bool(value, at.flag))
			return bad_value(o, value, FAIL(ERR_INVALID, "expected true or false"));
		*at.flag = value && !*at.flag;
		return NULL;
	case OPT_BOTH:
		at.flag[0] = true;
		if (value && !parse_bool(value, at.flag))
			return bad_value(o, value, FAIL(ERR_INVALID, "expected true or false"));
		at.flag[1] = !at.flag[0];
		return NULL;
	case OPT_STR:
		*at.str = value;
		return NULL;
	case OPT_UINT:
		e = num_parse(sv_of(value), 10, 0, o->max ? o->max : UINT32_MAX, &v);
		*at.u = (unsigned)v;
		break;
	case OPT_INT:
		e = num_parse_signed(sv_of(value), INT32_MIN, INT32_MAX, &s);
		*at.i = (int)s;
		break;
	case OPT_LIST:
		text_list_add(at.list, value);
		return NULL;
	case OPT_BYTES:
		e = num_parse_bytes(sv_of(value), at.u64);
		break;
	case OPT_CPUS:
		e = num_parse_cpus(sv_of(value), at.u64);
		break;
	case OPT_END:
		break;
	}
	return e ? bad_value(o, value, e) : NULL;
}

static FALLIBLE long_option(const struct cmd *c, char ***argv, char *conf)
{
	const char *text = **argv + 2, *eq = strchr(text, '=');
	size_t n = eq ? (size_t)(eq - text) : strlen(text);
	const struct opt *o = by_name(c, text, n);

	if (!o)
		return FAIL(ERR_INVALID, "unknown flag: --%.*s", (int)n, text);
	if (eq || cmd_opt_is_flag(o))
		return store(o, eq ? eq + 1 : NULL, conf);
	if (!(*argv)[1])
		return FAIL(ERR_INVALID, "flag needs an argument: --%s", o->name);
	(*argv)++;
	return store(o, **argv, conf);
}

static FALLIBLE short_options(const struct cmd *c, char ***argv, char *conf)
{
	for (const char *p = **argv + 1; *p; p++) {
		const struct opt *o = by_letter(c, *p);

		if (!o)
			return FAIL(ERR_INVALID, "unknown shorthand flag: '%c' in %s", *p, **argv);
		if (cmd_opt_is_flag(o) && p[1] != '=') {
			TRY(store(o, NULL, conf));
			continue;
		}
		if (p[1])
			return store(o, p[1] == '=' ? p + 2 : p + 1, conf);
		if (!(*argv)[1])
			return FAIL(ERR_INVALID, "flag needs an argument: '%c' in %s", *p, **argv);
		(*argv)++;
		return store(o, **argv, conf);
	}
	return NULL;
}

/* path: "image rm" */
static FALLIBLE check_count(const struct cmd *c, const char *path, size_t n)
{
	const char *s = c->min_args == 1 ? "" : "s";

	if (c->min_args == c->max_args && n != (size_t)c->min_args)
		return c->min_args == 0 ? FAIL(ERR_INVALID, "\"hoy %s\" accepts no arguments", path) :
					  FAIL(ERR_INVALID, "\"hoy %s\" requires exactly %d argument%s", path, c->min_args, s);
	if (n < (size_t)c->min_args)
		return FAIL(ERR_INVALID, "\"hoy %s\" requires at least %d argument%s", path, c->min_args, s);
	if (c->max_args >= 0 && n > (size_t)c->max_args)
		return FAIL(ERR_INVALID, "\"hoy %s\" requires at most %d argument%s", path, c->max_args,
			    c->max_args == 1 ? "" : "s");
	return NULL;
}

static FALLIBLE parse(const struct cmd *c, const char *path, char *argv[], char *conf, char **args)
{
	size_t n = 0;
	bool options = true;

	for (; *argv; argv++) {
		const char *word = *argv;

		if (options && strcmp(word, "--") == 0) {
			options = false;
		} else if (options && word[0] == '-' && word[1] == '-') {
			TRY(long_option(c, &argv, conf));
		} else if (options && word[0] == '-' && word[1]) {
			TRY(short_options(c, &argv, conf));
		} else {
			args[n++] = *argv;
			options &= !c->stop_at_arg;
		}
	}
	return check_count(c, path, n);
}

void cmd_conf_free(const struct cmd *c, void *conf)
{
	char *bytes = conf;

	if (!conf)
		return;
	for (const struct opt *o = c->opts ? c->opts : no_opts; o->type != OPT_END; o++)
		if (o->type == OPT_LIST) {
			char **list;

			memcpy(&list, bytes + o->at, sizeof list);
			text_list_free(list);
		}
	free(conf);
}

FALLIBLE cmd_parse(const struct cmd *c, const char *path, char *argv[], void **out_conf, char ***out_args)
{
	char *conf = xcalloc(1, c->conf_size ? c->conf_size : 1);
	char **args;
	size_t n = 0;
	struct err *e;

	while (argv[n])
		n++;
	args = xcalloc(n + 1, sizeof *args);
	e = parse(c, path, argv, conf, args);
	if (e) {
		cmd_conf_free(c, conf);
		free(args);
		return e;
	}
	*out_conf = conf;
	*out_args = args;
	return NULL;
}

static const struct cmd *find_in(const struct cmd *const *list, const char *name)
{
	for (; *list; list++)
		if (strcmp((*list)->name, name) == 0)
			return *list;
	return NULL;
}

/* Words that docker has beside ours in each group: image list, volume remove; container ps. */
static const char *usual_word(const char *group, const char *word)
{
	static const char *const words[][2] = { { "list", "ls" }, { "remove", "rm" } };

	if (strcmp(group, "container") == 0 && strcmp(word, "ps") == 0)
		return "ls";
	for (size_t i = 0; i < LEN(words); i++)
		if (strcmp(words[i][0], word) == 0)
			return words[i][1];
	return word;
}

const struct cmd *cmd_find(char *argv[], char ***out_argv, char out_path[64])
{
	const struct cmd *c = argv[0] ? find_in(cmd_all, argv[0]) : NULL, *sub;

	if (!c)
		return NULL;
	(void)snprintf(out_path, 64, "%s", c->name);
	*out_argv = argv + 1;
	if (!c->subs || !argv[1])
		return c;
	sub = find_in(c->subs, usual_word(c->name, argv[1]));
	if (!sub)
		return c;
	(void)snprintf(out_path, 64, "%s %s", c->name, sub->name);
	*out_argv = argv + 2;
	return sub;
}
