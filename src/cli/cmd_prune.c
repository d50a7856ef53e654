/* cmd_prune.c - image prune, builder prune, system prune. */
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "build/build.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "engine/container.h"
#include "engine/image.h"
#include "engine/volume.h"
#include <stdio.h>

struct prune_conf {
	bool all, force, volumes;
};
#define AT(field) offsetof(struct prune_conf, field)

static void tell_space(uint64_t bytes)
{
	char size[16];

	(void)printf("Total reclaimed space: %s\n", num_human(bytes, size));
}

static FALLIBLE prune_images(struct engine *e, bool all, uint64_t *out_bytes)
{
	auto_json json_t *events = NULL;
	size_t i;
	json_t *v, *what;
	const char *key;

	TRY(engine_image_prune(e, all, &events, out_bytes));
	if (json_array_size(events))
		(void)printf("Deleted Images:\n");
	json_array_foreach (events, i, v)
		json_object_foreach (v, key, what)
			(void)printf("%s: %s\n", strcmp(key, "Untagged") == 0 ? "untagged" : "deleted", json_string_value(what));
	return NULL;
}

static FALLIBLE run_image_prune(const void *conf, char *const args[], int *out_exit)
{
	const struct prune_conf *c = conf;
	struct engine *e;
	uint64_t bytes = 0;

	(void)args;
	(void)out_exit;
	if (!c->force && !out_ask(c->all ? "WARNING! This will remove all images without at least one container associated to "
					   "them.\nAre you sure you want to continue?" :
					   "WARNING! This will remove all dangling images.\nAre you sure you want to continue?"))
		return NULL;
	TRY(cmd_engine(&e));
	TRY(prune_images(e, c->all, &bytes));
	tell_space(bytes);
	return NULL;
}
static const struct opt image_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0, "All images that no container uses, not only those without a name" },
	{ OPT_FLAG, 'f', "force", NULL, AT(force), 0, "Do not ask" },
	{ 0 },
};
const struct cmd cmd_image_prune = { "prune", "", "Remove unused images", image_opts, sizeof(struct prune_conf), 0, 0, false, 0, false,
				     run_image_prune, NULL, NULL };

static FALLIBLE prune_cache(struct engine *e, uint64_t *out_bytes)
{
	auto_list char **keys = NULL;

	TRY(build_prune(e, &keys, out_bytes));
	if (keys)
		(void)printf("Deleted build cache objects:\n");
	for (size_t i = 0; keys && keys[i]; i++)
		(void)printf("%s\n", keys[i]);
	return NULL;
}

static FALLIBLE run_builder_prune(const void *conf, char *const args[], int *out_exit)
{
	const struct prune_conf *c = conf;
	struct engine *e;
	uint64_t bytes = 0;

	(void)args;
	(void)out_exit;
	if (!c->force && !out_ask("WARNING! This will remove all build cache.\nAre you sure you want to continue?"))
		return NULL;
	TRY(cmd_engine(&e));
	TRY(prune_cache(e, &bytes));
	tell_space(bytes);
	return NULL;
}
static const struct opt builder_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0, "Accepted for docker's sake: all of it always goes" },
	{ OPT_FLAG, 'f', "force", NULL, AT(force), 0, "Do not ask" },
	{ 0 },
};
static const struct cmd builder_prune = { "prune",	 "", "Remove build cache", builder_opts, sizeof(struct prune_conf), 0, 0, false, 0,
					  false, run_builder_prune, NULL, NULL };
static const struct cmd *const builder_subs[] = { &cmd_build, &builder_prune, NULL };
const struct cmd cmd_builder = { .name = "builder", .summary = "Manage builds", .subs = builder_subs };

/* ---- system ---- */

static FALLIBLE prune_containers(struct engine *e)
{
	auto_json json_t *list = NULL, *filters = json_pack("{s:[s,s]}", "status", "exited", "created");
	size_t i;
	json_t *item;

	TRY(container_list(e, true, filters, &list));
	if (json_array_size(list))
		(void)printf("Deleted Containers:\n");
	json_array_foreach (list, i, item) {
		TRY(container_remove(e, json_str_at(item, "Id", ""), (struct container_rm){ 0 }));
		(void)printf("%s\n", json_str_at(item, "Id", ""));
	}
	return NULL;
}

static FALLIBLE prune_volumes(struct engine *e, uint64_t *out_bytes)
{
	auto_json json_t *names = NULL;
	size_t i;
	json_t *v;

	TRY(volume_prune(e, false, &names, out_bytes));
	if (json_array_size(names))
		(void)printf("Deleted Volumes:\n");
	json_array_foreach (names, i, v)
		(void)printf("%s\n", json_string_value(v));
	return NULL;
}

static FALLIBLE run_system_prune(const void *conf, char *const args[], int *out_exit)
{
	const struct prune_conf *c = conf;
	uint64_t images = 0, cache = 0, volumes = 0;
	struct engine *e;

	(void)out_exit;
	if (!c->force && !out_ask("WARNING! This will remove all stopped containers, all networks not used by at least one container, "
				  "all dangling images and all build cache.\nAre you sure you want to continue?"))
		return NULL;
	TRY(cmd_engine(&e));
	TRY(prune_containers(e));
	TRY(cmd_network_prune(args, true));
	if (c->volumes)
		TRY(prune_volumes(e, &volumes));
	TRY(prune_cache(e, &cache)); /* before the images: it keeps their layers */
	TRY(prune_images(e, c->all, &images));
	tell_space(images + cache + volumes);
	return NULL;
}
static const struct opt system_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0, "All images that no container uses, not only those without a name" },
	{ OPT_FLAG, 'f', "force", NULL, AT(force), 0, "Do not ask" },
	{ OPT_FLAG, 0, "volumes", NULL, AT(volumes), 0, "Unused anonymous volumes, too" },
	{ 0 },
};
const struct cmd cmd_system_prune = { "prune", "", "Remove what is not used", system_opts, sizeof(struct prune_conf), 0, 0, false, 0,
				      false, run_system_prune, NULL, NULL };
