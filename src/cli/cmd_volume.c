/* cmd_volume.c - volume create, ls, inspect, rm, prune. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "engine/volume.h"
#include <stdio.h>

struct volume_conf {
	const char *name, *driver, *format;
	char **label, **opt, **filter;
	bool quiet, force, all;
};
static const struct opt create_opts[] = {
	{ OPT_STR, 'd', "driver", NULL, offsetof(struct volume_conf, driver), 0, "Volume driver: local" },
	{ OPT_LIST, 0, "label", "KEY[=VALUE]", offsetof(struct volume_conf, label), 0, "Set a label" },
	{ OPT_STR, 0, "name", NULL, offsetof(struct volume_conf, name), 0, "Name of the volume" },
	{ OPT_LIST, 'o', "opt", "KEY=VALUE", offsetof(struct volume_conf, opt), 0, "Driver option" },
	{ 0 },
};

static FALLIBLE run_create(const void *conf, char *const args[], int *out_exit)
{
	const struct volume_conf *c = conf;
	auto_json json_t *body = json_object(), *volume = NULL, *labels = json_object();
	const char *name = args[0] ? args[0] : c->name;
	struct engine *e;

	(void)out_exit;
	if (args[0] && c->name)
		return FAIL(ERR_INVALID, "conflicting options: either specify --name or provide a positional name, not both");
	for (size_t i = 0; c->label && c->label[i]; i++) {
		const char *eq = strchr(c->label[i], '=');
		auto_free char *key = xstrndup(c->label[i], eq ? (size_t)(eq - c->label[i]) : strlen(c->label[i]));

		(void)json_object_set_new(labels, key, json_string(eq ? eq + 1 : ""));
	}
	(void)json_object_set(body, "Labels", labels);
	(void)json_object_set_new(body, "Name", json_string(name ? name : ""));
	(void)json_object_set_new(body, "Driver", json_string(c->driver ? c->driver : "local"));
	if (c->opt)
		(void)json_object_set_new(body, "DriverOpts", json_pack("{s:s}", c->opt[0], ""));
	TRY(cmd_engine(&e));
	TRY(volume_create(e, body, &volume));
	(void)printf("%s\n", json_str_at(volume, "Name", ""));
	return NULL;
}
static const struct cmd volume_create_cmd = { "create",	   "[VOLUME]", "Create a volume", create_opts, sizeof(struct volume_conf),
					      0, 1, false, 0, false, run_create, NULL, NULL };

static const struct opt ls_opts[] = {
	{ OPT_LIST, 'f', "filter", "KEY=VALUE", offsetof(struct volume_conf, filter), 0, "Only what fits (name, label, dangling)" },
	{ OPT_STR, 0, "format", NULL, offsetof(struct volume_conf, format), 0, "Template, \"table …\" or json" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct volume_conf, quiet), 0, "Only print names" },
	{ 0 },
};

static FALLIBLE run_ls(const void *conf, char *const args[], int *out_exit)
{
	static const char *const headings[][2] = { { "Name", "VOLUME NAME" }, { NULL, NULL } };
	const struct volume_conf *c = conf;
	struct out_format f = { c->format, "table {{.Driver}}\t{{.Name}}", headings, c->quiet ? "Name" : NULL };
	auto_json json_t *filters = NULL, *list = NULL;
	struct engine *e;

	(void)args;
	(void)out_exit;
	TRY(cmd_filters(c->filter, &filters));
	TRY(cmd_engine(&e));
	TRY(volume_list(e, filters, &list));
	return out_rows(&f, list);
}
static const struct cmd volume_ls_cmd = { "ls", "", "List volumes", ls_opts, sizeof(struct volume_conf), 0, 0, false, 0, false,
					  run_ls, NULL, NULL };

static const struct opt inspect_opts[] = {
	{ OPT_STR, 'f', "format", NULL, offsetof(struct volume_conf, format), 0, "Template or json" },
	{ 0 },
};

static FALLIBLE run_inspect(const void *conf, char *const args[], int *out_exit)
{
	const struct volume_conf *c = conf;
	auto_json json_t *found = json_array();
	struct engine *e;
	size_t i;
	json_t *v;

	TRY(cmd_engine(&e));
	for (; *args; args++) {
		json_t *one = NULL;
		struct err *err = volume_inspect(e, *args, &one);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)json_array_append_new(found, one);
		}
	}
	if (!c->format)
		return json_array_size(found) ? out_value(NULL, found) : NULL;
	json_array_foreach (found, i, v)
		TRY(out_value(c->format, v));
	return NULL;
}
static const struct cmd volume_inspect_cmd = { "inspect",    "VOLUME [VOLUME...]", "Show everything about volumes",
					       inspect_opts, sizeof(struct volume_conf), 1, -1, false, 0, false, run_inspect, NULL,
					       NULL };

static const struct opt rm_opts[] = {
	{ OPT_FLAG, 'f', "force", NULL, offsetof(struct volume_conf, force), 0, "A volume that is not there is no error" },
	{ 0 },
};

static FALLIBLE run_rm(const void *conf, char *const args[], int *out_exit)
{
	const struct volume_conf *c = conf;
	struct engine *e;

	TRY(cmd_engine(&e));
	for (; *args; args++) {
		struct err *err = volume_remove(e, *args, c->force);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)printf("%s\n", *args);
		}
	}
	return NULL;
}
static const struct cmd volume_rm_cmd = { "rm",	   "VOLUME [VOLUME...]", "Remove volumes", rm_opts, sizeof(struct volume_conf), 1, -1,
					  false, 0, false, run_rm, NULL, NULL };

static const struct cmd *const subs[] = { &volume_create_cmd, &volume_inspect_cmd, &volume_ls_cmd, &cmd_volume_prune, &volume_rm_cmd,
					  NULL };
const struct cmd cmd_volume = { .name = "volume", .summary = "Manage volumes", .subs = subs };
