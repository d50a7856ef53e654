/* cmd_remote.c - images where they are: image inspect (also of a registry), image tags, image copy. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "engine/image.h"
#include <stdio.h>

/* ---- inspect ---- */

struct inspect_conf {
	const char *format, *platform;
	bool is_remote, is_raw, is_config, insecure;
};
#define AT(field) offsetof(struct inspect_conf, field)
static const struct opt inspect_opts[] = {
	{ OPT_FLAG, 0, "config", NULL, AT(is_config), 0, "With --remote: the configuration as it is" },
	{ OPT_STR, 'f', "format", NULL, AT(format), 0, "Template or json" },
	{ OPT_FLAG, 0, "insecure", NULL, AT(insecure), 0, "Accept plain HTTP and any certificate" },
	{ OPT_STR, 0, "platform", "OS/ARCH", AT(platform), 0, "With --remote: platform of a multi-platform image" },
	{ OPT_FLAG, 0, "raw", NULL, AT(is_raw), 0, "With --remote: the manifest or index as it is" },
	{ OPT_FLAG, 0, "remote", NULL, AT(is_remote), 0, "Ask the registry; nothing is downloaded" },
	{ 0 },
};
#undef AT

static FALLIBLE ask_registry(const struct inspect_conf *c, const char *name, json_t **out_image)
{
	struct engine_transfer_opts o = { 0 };
	auto_list char **words = NULL;
	auto_json json_t *result = NULL;

	text_list_add(&words, "inspect");
	if (c->is_raw || c->is_config)
		text_list_add(&words, c->is_raw ? "--raw" : "--config");
	if (c->insecure)
		text_list_add(&words, "--insecure");
	if (c->platform) {
		text_list_add(&words, "--platform");
		text_list_add(&words, c->platform);
	}
	text_list_add(&words, name);
	TRY(engine_transfer_run(words, -1, &o, &result));
	*out_image = json_incref(json_object_get(result, "image"));
	return NULL;
}

static FALLIBLE check_inspect(const struct inspect_conf *c, char *const args[])
{
	bool is_text = c->is_raw || c->is_config;

	if (!c->is_remote && (is_text || c->insecure || c->platform))
		return FAIL(ERR_INVALID, "--raw, --config, --platform and --insecure need --remote");
	if (c->is_raw && c->is_config)
		return FAIL(ERR_INVALID, "--raw and --config exclude each other");
	if (is_text && (args[1] || c->format))
		return FAIL(ERR_INVALID, "--raw and --config show one document as it is");
	return NULL;
}

static FALLIBLE run_inspect(const void *conf, char *const args[], int *out_exit)
{
	const struct inspect_conf *c = conf;
	auto_json json_t *found = json_array();
	struct engine *e = NULL;
	size_t i;
	json_t *v;

	TRY(check_inspect(c, args));
	if (!c->is_remote)
		TRY(cmd_engine(&e));
	for (; *args; args++) {
		json_t *one = NULL;
		struct err *err = e ? engine_image_inspect(e, *args, &one) : ask_registry(c, *args, &one);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)json_array_append_new(found, one);
		}
	}
	if ((c->is_raw || c->is_config) && json_array_size(found)) {
		v = json_array_get(found, 0);
		return out_text(json_string_value(v), json_string_length(v));
	}
	if (!c->format)
		return *out_exit && !json_array_size(found) ? NULL : out_value(NULL, found);
	json_array_foreach (found, i, v)
		TRY(out_value(c->format, v));
	return NULL;
}
const struct cmd cmd_image_inspect = { "inspect", "IMAGE [IMAGE...]", "Show everything about images", inspect_opts,
				       sizeof(struct inspect_conf), 1, -1, false, 0, false, run_inspect, NULL, NULL };

/* ---- tags ---- */

struct tags_conf {
	bool insecure;
};
static const struct opt tags_opts[] = {
	{ OPT_FLAG, 0, "insecure", NULL, offsetof(struct tags_conf, insecure), 0, "Accept plain HTTP and any certificate" },
	{ 0 },
};

FALLIBLE cmd_remote_tags(const char *name, bool insecure, char ***out_tags)
{
	struct engine_transfer_opts o = { 0 };
	auto_list char **words = NULL;
	auto_json json_t *result = NULL;

	text_list_add(&words, "tags");
	if (insecure)
		text_list_add(&words, "--insecure");
	text_list_add(&words, name);
	TRY(engine_transfer_run(words, -1, &o, &result));
	return json_list_at(result, "tags", out_tags);
}

static FALLIBLE run_tags(const void *conf, char *const args[], int *out_exit)
{
	const struct tags_conf *c = conf;
	auto_list char **tags = NULL;

	(void)out_exit;
	TRY(cmd_remote_tags(args[0], c->insecure, &tags));
	for (char **tag = tags; tag && *tag; tag++)
		(void)printf("%s\n", *tag);
	return NULL;
}
const struct cmd cmd_image_tags = { "tags",    "REPOSITORY",		  "List the tags a registry has of a repository",
				    tags_opts, sizeof(struct tags_conf), 1, 1, false, 0, false, run_tags, NULL, NULL };

/* ---- copy ---- */

struct copy_conf {
	bool all, insecure, quiet;
	const char *platform;
};
static const struct opt copy_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, offsetof(struct copy_conf, all), 0, "Every platform of a multi-platform image, and its index" },
	{ OPT_FLAG, 0, "insecure", NULL, offsetof(struct copy_conf, insecure), 0, "Accept plain HTTP and any certificate" },
	{ OPT_STR, 0, "platform", "OS/ARCH", offsetof(struct copy_conf, platform), 0, "Which of a multi-platform image" },
	{ OPT_FLAG, 'q', "quiet", NULL, offsetof(struct copy_conf, quiet), 0, "Print only the digest" },
	{ 0 },
};

static FALLIBLE run_copy(const void *conf, char *const args[], int *out_exit)
{
	const struct copy_conf *c = conf;
	CLEANUP(progress_fini) struct progress p = progress_begin(c->quiet, stdout);
	struct engine_transfer_opts o = { c->platform, c->insecure, c->quiet, progress_sink(&p), NULL, NULL, NULL, NULL, false };
	auto_free char *digest = NULL;
	struct engine *e;

	(void)out_exit;
	TRY(cmd_engine(&e));
	TRY(engine_image_copy(e, args[0], args[1], c->all, &o, &digest));
	(void)printf("%s%s\n", c->quiet ? "" : "Digest: ", digest);
	return NULL;
}
const struct cmd cmd_image_copy = {
	"copy",	   "FROM TO",		     "Copy an image between registries (NAME), oci:PATH[:TAG] and dir:PATH as it is",
	copy_opts, sizeof(struct copy_conf), 2, 2, false, 0, false, run_copy, NULL, NULL
};
