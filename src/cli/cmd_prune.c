/* cmd_prune.c - image, container, volume, network, builder and system prune, with docker's words. */
#include "base/buf.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "build/build.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "engine/prune.h"
#include <stdio.h>

struct prune_conf {
	bool all, force, volumes;
	char **filter;
};
#define AT(field) offsetof(struct prune_conf, field)
#define OPT_FORCE                                                                                            \
	{                                                                                                    \
		OPT_FLAG, 'f', "force", NULL, AT(force), 0, "Do not ask"                                     \
	}
#define OPT_FILTER(help)                                                                                     \
	{                                                                                                    \
		OPT_LIST, 0, "filter", "KEY=VALUE", AT(filter), 0, help                                      \
	}
#define PRUNE(opts, summary, run)                                                                            \
	{                                                                                                    \
		"prune", "", summary, opts, sizeof(struct prune_conf), 0, 0, false, 0, false, run, NULL,     \
		    NULL                                                                                     \
	}
#define SURE "Are you sure you want to continue?"

static void tell_space(uint64_t bytes)
{
	char size[16];

	(void)printf("Total reclaimed space: %s\n", num_human4(bytes, size));
}

/* Under a heading, and a blank line behind. */
static void tell_list(const char *heading, const json_t *names)
{
	size_t i;
	json_t *v;

	if (!json_array_size(names))
		return;
	(void)printf("%s:\n", heading);
	json_array_foreach(names, i, v)(void) printf("%s\n", json_string_value(v));
	(void)printf("\n");
}

/* ---- one kind each; *bytes grows ---- */

static FALLIBLE prune_images(struct engine *e, bool all, const json_t *filters, uint64_t *bytes)
{
	auto_json json_t *events = NULL;
	uint64_t freed = 0;
	size_t i;
	json_t *v, *what;
	const char *key;

	TRY(engine_image_prune(e, all, filters, &events, &freed));
	*bytes += freed;
	if (json_array_size(events))
		(void)printf("Deleted Images:\n");
	json_array_foreach(events, i, v) json_object_foreach(v, key, what)(void) printf(
	    "%s: %s\n", strcmp(key, "Untagged") == 0 ? "untagged" : "deleted", json_string_value(what));
	if (json_array_size(events))
		(void)printf("\n");
	return NULL;
}

static FALLIBLE prune_containers(struct engine *e, bool all, const json_t *filters, uint64_t *bytes)
{
	auto_json json_t *ids = NULL;
	uint64_t freed = 0;

	(void)all;
	TRY(engine_container_prune(e, filters, &ids, &freed));
	*bytes += freed;
	tell_list("Deleted Containers", ids);
	return NULL;
}

static FALLIBLE prune_volumes(struct engine *e, bool all, const json_t *filters, uint64_t *bytes)
{
	auto_json json_t *names = NULL;
	uint64_t freed = 0;

	TRY(engine_volume_prune(e, all, filters, &names, &freed));
	*bytes += freed;
	tell_list("Deleted Volumes", names);
	return NULL;
}

static FALLIBLE prune_networks(struct engine *e, const json_t *filters)
{
	auto_json json_t *names = NULL;

	TRY(engine_network_prune(e, filters, &names));
	tell_list("Deleted Networks", names);
	return NULL;
}

static FALLIBLE prune_cache(struct engine *e, bool all, const json_t *filters, uint64_t *bytes)
{
	auto_list char **keys = NULL;
	auto_json json_t *list = NULL;
	uint64_t freed = 0;

	TRY(build_prune(e, all, filters, &keys, &freed));
	*bytes += freed;
	list = json_from_list(keys);
	tell_list("Deleted build cache objects", list);
	return NULL;
}

/* ---- commands ---- */

static FALLIBLE run_prune(const struct prune_conf *c, const char *question,
			  struct err *(*prune)(struct engine *e, bool all, const json_t *filters,
					       uint64_t *bytes))
{
	auto_json json_t *filters = NULL;
	struct engine *e;
	uint64_t bytes = 0;

	TRY(cmd_filters(c->filter, &filters));
	if (!c->force && !out_ask(question))
		return NULL;
	TRY(cmd_engine(&e));
	TRY(prune(e, c->all, filters, &bytes));
	tell_space(bytes);
	return NULL;
}

static FALLIBLE run_image_prune(const void *conf, char *const args[], int *out_exit)
{
	const struct prune_conf *c = conf;

	(void)args;
	(void)out_exit;
	return run_prune(c,
			 c->all ? "WARNING! This will remove all images without at least one container "
				  "associated to them.\n" SURE
				: "WARNING! This will remove all dangling images.\n" SURE,
			 prune_images);
}
static const struct opt image_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0,
	  "All images that no container uses, not only those without a name" },
	OPT_FILTER("Only what fits (until=24h: made and named before that, label=x, label!=x)"),
	OPT_FORCE,
	{ 0 },
};
const struct cmd cmd_image_prune = PRUNE(image_opts, "Remove unused images", run_image_prune);

static FALLIBLE run_container_prune(const void *conf, char *const args[], int *out_exit)
{
	(void)args;
	(void)out_exit;
	return run_prune(conf, "WARNING! This will remove all stopped containers.\n" SURE, prune_containers);
}
static const struct opt container_opts[] = { OPT_FILTER("Only what fits (until=24h, label=x, label!=x)"),
					     OPT_FORCE,
					     { 0 } };
const struct cmd cmd_container_prune =
    PRUNE(container_opts, "Remove all stopped containers", run_container_prune);

static FALLIBLE run_volume_prune(const void *conf, char *const args[], int *out_exit)
{
	const struct prune_conf *c = conf;

	(void)args;
	(void)out_exit;
	return run_prune(
	    c,
	    c->all ? "WARNING! This will remove all volumes not used by at least one container.\n" SURE
		   : "WARNING! This will remove anonymous local volumes not used by at least one "
		     "container.\n" SURE,
	    prune_volumes);
}
static const struct opt volume_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0, "Named volumes, too" },
	OPT_FILTER("Only what fits (label=x, label!=x, all=true)"),
	OPT_FORCE,
	{ 0 },
};
const struct cmd cmd_volume_prune = PRUNE(volume_opts, "Remove unused volumes", run_volume_prune);

static FALLIBLE run_network_prune(const void *conf, char *const args[], int *out_exit)
{
	const struct prune_conf *c = conf;
	auto_json json_t *filters = NULL;
	struct engine *e;

	(void)args;
	(void)out_exit;
	TRY(cmd_filters(c->filter, &filters));
	if (!c->force &&
	    !out_ask(
		"WARNING! This will remove all custom networks not used by at least one container.\n" SURE))
		return NULL;
	TRY(cmd_engine(&e));
	return prune_networks(e, filters);
}
static const struct opt network_opts[] = { OPT_FILTER("Only what fits (until=24h, label=x, label!=x)"),
					   OPT_FORCE,
					   { 0 } };
const struct cmd cmd_network_prune = PRUNE(network_opts, "Remove unused networks", run_network_prune);

static FALLIBLE run_builder_prune(const void *conf, char *const args[], int *out_exit)
{
	const struct prune_conf *c = conf;

	(void)args;
	(void)out_exit;
	return run_prune(c,
			 c->all ? "WARNING! This will remove all build cache.\n" SURE
				: "WARNING! This will remove all dangling build cache.\n" SURE,
			 prune_cache);
}
static const struct opt builder_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0, "All of it, not only steps that no image is made of" },
	OPT_FILTER("Only what fits (until=24h: last used before that)"),
	OPT_FORCE,
	{ 0 },
};
static const struct cmd builder_prune = PRUNE(builder_opts, "Remove build cache", run_builder_prune);
static const struct cmd *const builder_subs[] = { &cmd_build, &builder_prune, NULL };
const struct cmd cmd_builder = { .name = "builder", .summary = "Manage builds", .subs = builder_subs };

/* ---- system ---- */

static bool ask_system(const struct prune_conf *c)
{
	auto_buf struct buf b = BUF(1 << 16);

	buf_str(&b, "WARNING! This will remove:\n"
		    "  - all stopped containers\n"
		    "  - all networks not used by at least one container\n");
	if (c->volumes)
		buf_str(&b, "  - all anonymous volumes not used by at least one container\n");
	buf_str(&b, c->all ? "  - all images without at least one container associated to them\n"
			     "  - all build cache\n"
			   : "  - all dangling images\n"
			     "  - all dangling build cache\n");
	for (size_t i = 0; c->filter && c->filter[i]; i++)
		buf_fmt(&b, "%s  - %s\n", i ? "" : "\n  Items to be pruned will be filtered with:\n",
			c->filter[i]);
	buf_str(&b, "\n" SURE);
	return out_ask(buf_text(&b));
}

/* Volumes have no age that counts, build steps no labels: what they cannot be filtered by keeps them out or
 * is refused. */
static FALLIBLE prune_system(struct engine *e, const struct prune_conf *c, const json_t *filters,
			     uint64_t *bytes)
{
	bool has_label = json_object_get(filters, "label") || json_object_get(filters, "label!");

	TRY(prune_containers(e, false, filters, bytes));
	TRY(prune_networks(e, filters));
	if (c->volumes)
		TRY(prune_volumes(e, false, filters, bytes));
	if (!has_label) /* before the images: it keeps their layers */
		TRY(prune_cache(e, c->all, filters, bytes));
	return prune_images(e, c->all, filters, bytes);
}

static FALLIBLE run_system_prune(const void *conf, char *const args[], int *out_exit)
{
	const struct prune_conf *c = conf;
	auto_json json_t *filters = NULL;
	uint64_t bytes = 0;
	struct engine *e;

	(void)args;
	(void)out_exit;
	TRY(cmd_filters(c->filter, &filters));
	if (c->volumes && json_object_get(filters, "until"))
		return FAIL(ERR_INVALID, "the \"until\" filter is not supported with \"--volumes\"");
	if (!c->force && !ask_system(c))
		return NULL;
	TRY(cmd_engine(&e));
	TRY(prune_system(e, c, filters, &bytes));
	tell_space(bytes);
	return NULL;
}
static const struct opt system_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0,
	  "All images that no container uses, not only those without a name" },
	OPT_FILTER("Only what fits (until=24h, label=x, label!=x)"),
	OPT_FORCE,
	{ OPT_FLAG, 0, "volumes", NULL, AT(volumes), 0, "Unused anonymous volumes, too" },
	{ 0 },
};
const struct cmd cmd_system_prune = PRUNE(system_opts, "Remove what is not used", run_system_prune);
