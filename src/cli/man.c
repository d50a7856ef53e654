/* man.c - the manual page out of the command tables, so that it can't differ from what the parser takes. */
#include "base/own.h"
#include "cli/cmds.h"
#include <stdio.h>

/* roff reads "-" as a hyphen and a leading "." or "'" as a request. */
static void text(const char *s)
{
	for (; s && *s; s++) {
		if (*s == '-' || *s == '\\')
			(void)putchar('\\');
		if (*s == '\\')
			(void)putchar('e');
		else
			(void)putchar(*s);
	}
}

static void options(const struct cmd *c)
{
	size_t n = 0;
	auto_free const struct opt **list = cmd_opts_sorted(c, &n);

	for (size_t i = 0; i < n; i++) {
		const struct opt *o = list[i];

		(void)printf(".TP\n");
		if (o->letter)
			(void)printf("\\fB\\-%c\\fR, ", o->letter);
		(void)printf("\\fB\\-\\-");
		text(o->name);
		(void)printf("\\fR");
		if (!cmd_opt_is_flag(o)) {
			(void)printf("=\\fI");
			text(o->arg ? o->arg : "VALUE");
			(void)printf("\\fR");
		}
		(void)printf("\n");
		text(o->help);
		(void)printf("\n");
	}
}

static void command(const struct cmd *c, const char *group)
{
	(void)printf(".SS \"");
	if (group)
		(void)printf("%s ", group);
	text(c->name);
	if (c->args && *c->args) {
		(void)printf(" ");
		text(c->args);
	}
	(void)printf("\"\n");
	text(c->summary);
	(void)printf(".\n");
	options(c);
}

static FALLIBLE run_man(const void *conf, char *const args[], int *out_exit)
{
	(void)conf;
	(void)args;
	(void)out_exit;
	(void)printf(".TH HOY 1 \"\" \"hoy %s\" \"User Commands\"\n.SH NAME\nhoy \\- builds, distributes and runs containers, without "
		     "a daemon\n.SH SYNOPSIS\n.B hoy\n[\\fB\\-\\-root\\fR \\fIDIR\\fR] [\\fB\\-\\-run\\fR \\fIDIR\\fR] "
		     "[\\fB\\-\\-debug\\fR] \\fICOMMAND\\fR [\\fIARG\\fR...]\n.SH COMMANDS\n", HOY_VERSION);
	for (const struct cmd *const *c = cmd_all; *c; c++) {
		if ((*c)->is_hidden)
			continue;
		if (!(*c)->subs)
			command(*c, NULL);
		for (const struct cmd *const *s = (*c)->subs; s && *s; s++)
			command(*s, (*c)->name);
	}
	(void)printf(".SH EXIT STATUS\n0 success; 1 an error of hoy; for run and create 125 an error of hoy, 126 the program can't be "
		     "executed, 127 there is no such program, else the exit status of the container (128 + signal).\n"
		     ".SH FILES\n.TP\n/var/lib/hoy\nimages, containers, volumes (\\fB\\-\\-root\\fR, \\fBHOY_ROOT\\fR)\n.TP\n/run/hoy\n"
		     "state of running containers (\\fB\\-\\-run\\fR, \\fBHOY_RUN\\fR)\n.TP\n~/.docker/config.json\ncredentials of registries"
		     "\n.SH SEE ALSO\n.BR hoy\\-runtime (8)\n");
	return NULL;
}
const struct cmd cmd_man = { "man-page", "", "Print this manual as roff", NULL, 0, 0, 0, false, 0, true, run_man, NULL, NULL };
