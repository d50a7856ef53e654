/* cmd_network.c - network create, ls, inspect, rm. */
#include "base/own.h"
#include "base/text.h"
#include "base/mem.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "engine/filter.h"
#include "network/network.h"
#include <stdio.h>

struct network_conf {
	const char *driver, *subnet, *gateway, *format;
	char **label, **filter, **opt;
	bool internal, quiet, no_trunc, force;
};
static const struct opt create_opts[] = {
	{ OPT_STR, 'd', "driver", NULL, offsetof(struct network_conf, driver), 0, "Driver: bridge" },
	{ OPT_STR, 0, "gateway", "IP", offsetof(struct network_conf, gateway), 0, "Gateway of the subnet" },
	{ OPT_FLAG, 0, "internal", NULL, offsetof(struct network_conf, internal), 0, "No way out of this network" },
	{ OPT_LIST, 0, "label", "KEY[=VALUE]", offsetof(struct network_conf, label), 0, "Set a label" },
	{ OPT_STR, 0, "subnet", "CIDR", offsetof(struct network_conf, subnet), 0, "Subnet, for example 10.5.0.0/16" },
	{ 0 },
};

static FALLIBLE open_network(struct network **out)
{
	struct engine *e;

	TRY(cmd_engine(&e));
	return engine_network(e, out);
}

static FALLIBLE run_create(const void *conf, char *const args[], int *out_exit)
{
	const struct network_conf *c = conf;
	auto_json json_t *labels = json_object();
	struct net_create want = { .name = args[0], .subnet = c->subnet, .gateway = c->gateway, .is_internal = c->internal };
	auto_free char *id = NULL;
	struct network *n;

	(void)out_exit;
	if (c->driver && strcmp(c->driver, "bridge") != 0)
		return FAIL(ERR_UNSUPPORTED, "could not find plugin %s in v1 plugin registry: only \"bridge\" is built in", c->driver);
	for (size_t i = 0; c->label && c->label[i]; i++) {
		const char *eq = strchr(c->label[i], '=');
		auto_free char *key = xstrndup(c->label[i], eq ? (size_t)(eq - c->label[i]) : strlen(c->label[i]));

		(void)json_object_set_new(labels, key, json_string(eq ? eq + 1 : ""));
	}
	want.labels = labels;
	TRY(open_network(&n));
	TRY(network_create(n, &want, &id));
	(void)printf("%s\n", id);
	return NULL;
}
static const struct cmd create = { "create",	"NETWORK", "Create a network", create_opts, sizeof(struct network_conf), 1, 1, false, 0,
				   false, run_create, NULL, NULL };

static const struct opt ls_opts[] = {
	{ OPT_LIST, 'f', "filter", "KEY=VALUE", offsetof(struct network_conf, filter), 0,
	  "Only what fits (id, name, label, driver, scope, type)" },
	{ OPT_STR, 0, "format", NULL, offsetof(struct network_conf, format), 0, "Template, \"table …\" or json" },
	{ OPT_FLAG, 0, "no-trunc", NULL, offsetof(struct network_conf, no_trunc), 0, "Do not truncate" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct network_conf, quiet), 0, "Only print IDs" },
	{ 0 },
};

static bool keeps(const json_t *filters, const json_t *v)
{
	const char *name = json_str_at(v, "Name", "");
	bool is_ours = strcmp(name, "bridge") == 0 || strcmp(name, "host") == 0 || strcmp(name, "none") == 0;

	return filter_by_name(filters, "name", name) && filter_prefix(filters, "id", json_str_at(v, "Id", "")) &&
	       filter_is(filters, "driver", json_str_at(v, "Driver", "")) && filter_is(filters, "scope", "local") &&
	       filter_is(filters, "type", is_ours ? "builtin" : "custom") && filter_labels(filters, json_object_get(v, "Labels"));
}

static void add_row(json_t *rows, const char *id, const char *name, const char *driver, bool no_trunc)
{
	auto_free char *shown = xstrndup(id, no_trunc ? 64 : 12);

	(void)json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:s}", "ID", shown, "Name", name, "Driver", driver, "Scope",
						    "local"));
}

static FALLIBLE run_ls(const void *conf, char *const args[], int *out_exit)
{
	static const char *const headings[][2] = { { "ID", "NETWORK ID" }, { NULL, NULL } };
	const struct network_conf *c = conf;
	struct out_format f = { c->format, "table {{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.Scope}}", headings, c->quiet ? "ID" : NULL };
	static const char *const known[] = { "id", "name", "label", "driver", "scope", "type", NULL };
	auto_json json_t *filters = NULL, *list = NULL, *rows = json_array();
	struct network *n;
	size_t i;
	json_t *v;

	(void)args;
	(void)out_exit;
	TRY(cmd_filters(c->filter, &filters));
	TRY(filter_check(filters, known));
	TRY(open_network(&n));
	TRY(network_list(n, &list));
	json_array_foreach (list, i, v)
		if (keeps(filters, v))
			add_row(rows, json_str_at(v, "Id", ""), json_str_at(v, "Name", ""), json_str_at(v, "Driver", ""), c->no_trunc);
	return out_rows(&f, rows);
}
static const struct cmd ls = { "ls", "", "List networks", ls_opts, sizeof(struct network_conf), 0, 0, false, 0, false, run_ls, NULL,
			       NULL };

static const struct opt inspect_opts[] = {
	{ OPT_STR, 'f', "format", NULL, offsetof(struct network_conf, format), 0, "Template or json" },
	{ 0 },
};

static FALLIBLE run_inspect(const void *conf, char *const args[], int *out_exit)
{
	const struct network_conf *c = conf;
	auto_json json_t *found = json_array();
	struct network *n;
	size_t i;
	json_t *v;

	TRY(open_network(&n));
	for (; *args; args++) {
		json_t *one = NULL;
		struct err *err = network_inspect(n, *args, &one);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)json_array_append_new(found, one);
		}
	}
	if (!c->format)
		return out_value(NULL, found); /* "[]" for a script that reads on */
	json_array_foreach (found, i, v)
		TRY(out_value(c->format, v));
	return NULL;
}
static const struct cmd inspect = { "inspect",	 "NETWORK [NETWORK...]", "Show everything about networks",
				    inspect_opts, sizeof(struct network_conf), 1, -1, false, 0, false, run_inspect, NULL, NULL };

static FALLIBLE run_rm(const void *conf, char *const args[], int *out_exit)
{
	struct network *n;

	(void)conf;
	TRY(open_network(&n));
	for (; *args; args++) {
		struct err *err = network_remove(n, *args);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)printf("%s\n", *args);
		}
	}
	return NULL;
}
static const struct cmd rm = { "rm", "NETWORK [NETWORK...]", "Remove networks", NULL, 0, 1, -1, false, 0, false, run_rm, NULL, NULL };

static const struct cmd *const subs[] = { &create, &inspect, &ls, &cmd_network_prune, &rm, NULL };
const struct cmd cmd_network = { .name = "network", .summary = "Manage networks", .subs = subs };
