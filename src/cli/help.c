/* help.c - help out of the option tables. */
#include "base/mem.h"
#include "base/own.h"
#include "cli/cmd.h"
#include <stdio.h>

static const char *type_word(const struct opt *o)
{
	switch (o->type) {
	case OPT_STR:
		return "string";
	case OPT_UINT:
	case OPT_INT:
		return "int";
	case OPT_LIST:
		return "list";
	case OPT_BYTES:
		return "bytes";
	case OPT_CPUS:
		return "decimal";
	case OPT_FLAG:
	case OPT_NOT:
	case OPT_BOTH:
	case OPT_END:
		break;
	}
	return "";
}

static int by_name(const void *a, const void *b)
{
	const struct opt *const *x = a, *const *y = b;

	return strcmp((*x)->name, (*y)->name);
}

const struct opt **cmd_opts_sorted(const struct cmd *c, size_t *out_n)
{
	const struct opt **list;
	size_t n = 0;

	while (c->opts && c->opts[n].type != OPT_END)
		n++;
	list = xcalloc(n + 1, sizeof *list);
	for (size_t i = 0; i < n; i++)
		list[i] = &c->opts[i];
	qsort(list, n, sizeof *list, by_name);
	*out_n = n;
	return list;
}

static void option_lines(const struct cmd *c)
{
	size_t width = 0, n_opts = 0;
	auto_free const struct opt **list = cmd_opts_sorted(c, &n_opts);

	for (int pass = 0; pass < 2; pass++)
		for (size_t i = 0; i < n_opts; i++) {
			const struct opt *o = list[i];
			char left[96];
			int n;

			n = snprintf(left, sizeof left, "  %c%c%c --%s %s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ',
				     o->letter ? ',' : ' ', o->name, cmd_opt_is_flag(o) ? "" : o->arg ? o->arg : type_word(o));
			if (pass == 0 && (size_t)n > width)
				width = (size_t)n;
			if (pass == 1)
				(void)printf("%-*s   %s\n", (int)width, left, o->help ? o->help : "");
		}
}

static void command_lines(const struct cmd *const *list)
{
	for (; *list; list++)
		if (!(*list)->is_hidden)
			(void)printf("  %-11s %s\n", (*list)->name, (*list)->summary);
}

void cmd_help(const struct cmd *c, const char *path)
{
	if (!c) {
		(void)printf("Usage:  hoy [OPTIONS] COMMAND\n\n"
			     "Builds, distributes and runs containers, without a daemon\n\nCommands:\n");
		command_lines(cmd_all);
		(void)printf("\nGlobal Options:\n"
			     "      --root DIR      where images, containers and volumes are kept ($HOY_ROOT, /var/lib/hoy)\n"
			     "      --run DIR       where the state of running containers is kept ($HOY_RUN, /run/hoy)\n"
			     "      --storage-driver NAME  erofs, erofs-loop or overlay ($HOY_STORAGE_DRIVER, the first that works)\n"
			     "      --debug         tell on standard error what happens\n"
			     "  -v, --version       print the version\n\n"
			     "Run 'hoy COMMAND --help' for more information on a command.\n");
		return;
	}
	if (c->subs) {
		(void)printf("Usage:  hoy %s COMMAND\n\n%s\n\nCommands:\n", path, c->summary);
		command_lines(c->subs);
		(void)printf("\nRun 'hoy %s COMMAND --help' for more information on a command.\n", path);
		return;
	}
	(void)printf("Usage:  hoy %s%s%s%s\n\n%s\n", path, c->opts && c->opts->type != OPT_END ? " [OPTIONS]" : "",
		     c->args && *c->args ? " " : "", c->args ? c->args : "", c->summary);
	if (c->opts && c->opts->type != OPT_END) {
		(void)printf("\nOptions:\n");
		option_lines(c);
	}
}
