/* cmd_changes.c - diff and export: what a container has made of its image. */
#include "cli/cmds.h"
#include "cli/out.h"
#include "engine/container.h"
#include <stdio.h>

static struct err *show(void *ctx, char kind, const char *path)
{
	(void)ctx;
	(void)printf("%c %s\n", kind, path);
	return NULL;
}

static FALLIBLE run_diff(const void *conf, char *const args[], int *out_exit)
{
	struct engine *e;

	(void)conf;
	(void)out_exit;
	TRY(cmd_engine(&e));
	return container_changes(e, args[0], show, NULL);
}
const struct cmd cmd_diff = { "diff", "CONTAINER", "Show what a container changed in its file system (A added, C changed, D deleted)",
			      NULL,   0,	   1, 1, false, 0, false, run_diff, NULL, NULL };

struct export_conf {
	const char *output;
};
static const struct opt export_opts[] = {
	{ OPT_STR, 'o', "output", "FILE", offsetof(struct export_conf, output), 0, "Write to a file instead of standard output" },
	{ 0 },
};
struct exporting {
	struct engine *e;
	const char *name;
};

static struct err *export(void *ctx, struct zip_sink sink)
{
	const struct exporting *x = ctx;

	return container_export(x->e, x->name, sink);
}

static FALLIBLE run_export(const void *conf, char *const args[], int *out_exit)
{
	const struct export_conf *c = conf;
	struct exporting x = { .name = args[0] };

	(void)out_exit;
	TRY(cmd_engine(&x.e));
	return out_archive(c->output, export, &x);
}
const struct cmd cmd_export = { "export",    "CONTAINER",		 "Write a container's file system as a tar archive",
				export_opts, sizeof(struct export_conf), 1, 1, false, 0, false, run_export, NULL, NULL };
