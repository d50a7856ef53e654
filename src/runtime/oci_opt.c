/* oci_opt.c - options of the OCI command line; see oci_opt.h. */
#include "runtime/oci_opt.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include <string.h>

static void *field(void *conf, const struct oci_opt *o)
{
	return (char *)conf + o->at;
}

static FALLIBLE take(const struct oci_opt *o, void *conf, const char *value)
{
	bool on = !value || strcmp(value, "true") == 0;
	void *at = field(conf, o);

	if (o->kind == OCI_STR)
		memcpy(at, &value, sizeof value);
	else if (o->kind == OCI_LIST)
		text_list_add(at, value);
	else if (!on && strcmp(value, "false") != 0)
		return FAIL(ERR_INVALID, "option --%s: \"%s\" is neither true nor false", o->name, value);
	else if (o->kind == OCI_FLAG)
		memcpy(at, &on, sizeof on);
	return NULL;
}

static bool wants_value(const struct oci_opt *o)
{
	return o->kind == OCI_STR || o->kind == OCI_LIST;
}

static const struct oci_opt *find(const struct oci_opt *opts, const char *name, size_t n, char letter)
{
	for (; opts && opts->kind != OCI_END; opts++)
		if (letter ? opts->letter == letter
			   : strlen(opts->name) == n && strncmp(opts->name, name, n) == 0)
			return opts;
	return NULL;
}

/* A word "--name[=value]"; *used grows when the next word is its value. */
static FALLIBLE long_option(const struct oci_cmd *c, char *const at[], void *conf, size_t *used)
{
	const char *word = at[0] + 2, *eq = strchr(word, '=');
	const struct oci_opt *o = find(c->opts, word, eq ? (size_t)(eq - word) : strlen(word), 0);
	const char *value = eq ? eq + 1 : NULL;

	if (!o)
		return FAIL(ERR_INVALID, "unknown option \"%s\"", at[0]);
	if (!value && wants_value(o) && !(value = at[(*used)++]))
		return FAIL(ERR_INVALID, "option --%s needs a value", o->name);
	return take(o, conf, value);
}

/* A word "-abc": flags, the last perhaps with a value behind it or in the next word. */
static FALLIBLE short_options(const struct oci_cmd *c, char *const at[], void *conf, size_t *used)
{
	for (const char *l = at[0] + 1; *l; l++) {
		const struct oci_opt *o = find(c->opts, "", 0, *l);
		const char *value = NULL;

		if (!o)
			return FAIL(ERR_INVALID, "unknown option \"-%c\"", *l);
		if (!wants_value(o)) {
			TRY(take(o, conf, NULL));
			continue;
		}
		value = l[1] ? l + 1 : at[(*used)++];
		if (!value)
			return FAIL(ERR_INVALID, "option -%c needs a value", *l);
		return take(o, conf, value);
	}
	return NULL;
}

static bool is_help(const char *word)
{
	return !strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "-?") ||
	       !strcmp(word, "--usage");
}

FALLIBLE oci_parse(const struct oci_cmd *c, char *const argv[], void *conf, char ***out_args, bool *out_help)
{
	size_t words = 0, n = 0;
	auto_free char **args = NULL;
	bool ended = false;

	while (argv[words])
		words++;
	args = xcalloc(words + 1, sizeof *args);
	for (size_t i = 0; i < words;) {
		size_t used = 1;

		if (ended || argv[i][0] != '-' || !argv[i][1]) {
			args[n++] = argv[i];
			ended |= c->stop_at_arg;
		} else if (strcmp(argv[i], "--") == 0) {
			ended = true;
		} else if (is_help(argv[i])) {
			*out_help = true;
		} else {
			TRY((argv[i][1] == '-' ? long_option : short_options)(c, argv + i, conf, &used));
		}
		i += used;
	}
	if (!*out_help && (n < (size_t)c->min_args || (c->max_args >= 0 && n > (size_t)c->max_args)))
		return FAIL(ERR_INVALID, "%s: %s arguments: \"%s %s\" is what it takes", c->name,
			    n < (size_t)c->min_args ? "too few" : "too many", c->name, c->args);
	*out_args = TAKE(args);
	return NULL;
}

void oci_conf_fini(const struct oci_cmd *c, void *conf)
{
	for (const struct oci_opt *o = c->opts; o && o->kind != OCI_END; o++) {
		if (o->kind == OCI_LIST) {
			char **list;

			memcpy(&list, field(conf, o), sizeof list);
			text_list_free(list);
		}
	}
}

/* ---- help ---- */

static void option_line(FILE *to, const struct oci_opt *o)
{
	char left[64];

	(void)snprintf(left, sizeof left, "%c%c%c --%s%s%s", o->letter ? '-' : ' ',
		       o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name, o->arg ? "=" : "",
		       o->arg ? o->arg : "");
	(void)fprintf(to, "  %-34s %s\n", left, o->help);
}

void oci_usage(FILE *to, const char *program, const struct oci_cmd *c)
{
	(void)fprintf(to, "Usage: %s [OPTION...] %s%s%s\n\n%s.\n", program, c->name, c->args[0] ? " " : "",
		      c->args, c->summary);
	if (c->opts && c->opts->kind != OCI_END)
		(void)fprintf(to, "\n");
	for (const struct oci_opt *o = c->opts; o && o->kind != OCI_END; o++)
		option_line(to, o);
}

/* ---- the manual page ---- */

/* roff reads "-" as a hyphen and a leading "." or "'" as a request. */
static void text(const char *s)
{
	for (; *s; s++) {
		if (*s == '-' || *s == '\\')
			(void)putchar('\\');
		(void)putchar(*s == '\\' ? 'e' : *s);
	}
}

static void man_options(const struct oci_opt *o)
{
	for (; o && o->kind != OCI_END; o++) {
		(void)printf(".TP\n");
		if (o->letter)
			(void)printf("\\fB\\-%c\\fR, ", o->letter);
		(void)printf("\\fB\\-\\-");
		text(o->name);
		(void)printf("\\fR%s%s%s\n", o->arg ? "=\\fI" : "", o->arg ? o->arg : "",
			     o->arg ? "\\fR" : "");
		text(o->help);
		(void)printf("\n");
	}
}

void oci_man(const struct oci_opt *globals, const struct oci_cmd *const *commands)
{
	(void)printf(".TH HOY\\-RUNTIME 8 \"\" \"hoy %s\" \"System Administration\"\n.SH NAME\nhoy\\-runtime "
		     "\\- an OCI runtime\n"
		     ".SH SYNOPSIS\n.B hoy\\-runtime\n[\\fIOPTION\\fR...] \\fICOMMAND\\fR "
		     "[\\fIOPTION\\fR...] [\\fIARG\\fR...]\n"
		     ".SH DESCRIPTION\nRuns containers from OCI bundles with the command line of crun and "
		     "runc, so that podman, "
		     "containerd, docker and buildah can use it: \\fBpodman \\-\\-runtime "
		     "/usr/sbin/hoy\\-runtime run \\fR...\n.PP\n"
		     "Started through a link it calls itself by the name of the link.\n.SH OPTIONS\n",
		     HOY_VERSION);
	man_options(globals);
	(void)printf(".SH COMMANDS\n");
	for (; *commands; commands++) {
		(void)printf(".SS \"");
		text((*commands)->name);
		(void)printf("%s", (*commands)->args[0] ? " " : "");
		text((*commands)->args);
		(void)printf("\"\n");
		text((*commands)->summary);
		(void)printf(".\n");
		man_options((*commands)->opts);
	}
	(void)printf(".SH EXIT STATUS\n0 success; 1 an error; for run and exec in the foreground the exit "
		     "status of the process "
		     "(128 + signal).\n.SH FILES\n.TP\n/run/hoy\\-runtime\nwhere containers are kept "
		     "(\\fB\\-\\-root\\fR)\n"
		     ".SH SEE ALSO\n.BR hoy (1)\n");
}
