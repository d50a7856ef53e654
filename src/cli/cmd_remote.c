/* cmd_remote.c - images where they are: image inspect (also of a registry), image tags, image copy. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/access.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "cli/progress.h"
#include <stdio.h>

/* ---- inspect ---- */

struct inspect_conf {
	const char *format, *platform;
	bool is_remote, is_raw, is_config;
	struct engine_access access;
};
#define AT(field) offsetof(struct inspect_conf, field)
static const struct opt inspect_opts[] = {
	ACCESS_OPTS(struct inspect_conf, access, "", "the registry"),
	{ OPT_FLAG, 0, "config", NULL, AT(is_config), 0, "With --remote: the configuration as it is" },
	{ OPT_STR, 'f', "format", NULL, AT(format), 0, "Template or json" },
	ACCESS_INSECURE(struct inspect_conf, access.insecure),
	ACCESS_NO_CREDS(struct inspect_conf, access, "", "the registry"),
	{ OPT_STR, 0, "platform", "OS/ARCH", AT(platform), 0, "With --remote: platform of a multi-platform image" },
	{ OPT_FLAG, 0, "raw", NULL, AT(is_raw), 0, "With --remote: the manifest or index as it is" },
	{ OPT_FLAG, 0, "remote", NULL, AT(is_remote), 0, "Ask the registry; nothing is downloaded" },
	{ 0 },
};
#undef AT

FALLIBLE cmd_registry_name(const char *text, const char **out_name)
{
	static const char *const others[] = { "oci:", "oci-archive:", "docker-archive:", "dir:", "docker-daemon:", "containers-storage:" };

	for (size_t i = 0; i < LEN(others); i++)
		if (strncmp(text, others[i], strlen(others[i])) == 0)
			return FAIL(ERR_INVALID, "%s is no registry's: hoy image copy takes it, hoy load what is in an archive", text);
	*out_name = strncmp(text, "docker://", 9) == 0 ? text + 9 : text;
	return NULL;
}

static FALLIBLE ask_registry(const struct inspect_conf *c, const struct engine_access *access, const char *name, json_t **out_image)
{
	struct engine_transfer_opts o = { .access = *access };
	auto_list char **words = NULL;
	auto_json json_t *result = NULL;

	TRY(cmd_registry_name(name, &name));
	text_list_add(&words, "inspect");
	if (c->is_raw || c->is_config)
		text_list_add(&words, c->is_raw ? "--raw" : "--config");
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

	if (!c->is_remote && (is_text || c->platform || access_is_said(&c->access)))
		return FAIL(ERR_INVALID, "--raw, --config, --platform and what is said of a registry need --remote");
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
	auto_free char *creds = NULL;
	struct engine_access access;
	struct engine *e = NULL;
	size_t i;
	json_t *v;

	TRY(check_inspect(c, args));
	TRY(access_complete(&c->access, &creds, &access));
	if (!c->is_remote)
		TRY(cmd_engine(&e));
	for (; *args; args++) {
		json_t *one = NULL;
		struct err *err = e ? engine_image_inspect(e, *args, &one) : ask_registry(c, &access, *args, &one);

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
		return out_value(NULL, found);
	json_array_foreach (found, i, v)
		TRY(out_value(c->format, v));
	return NULL;
}
const struct cmd cmd_image_inspect = { "inspect", "IMAGE [IMAGE...]", "Show everything about images", inspect_opts,
				       sizeof(struct inspect_conf), 1, -1, false, 0, false, run_inspect, NULL, NULL };

/* ---- tags ---- */

struct tags_conf {
	struct engine_access access;
};
static const struct opt tags_opts[] = {
	ACCESS_OPTS(struct tags_conf, access, "", "the registry"),
	ACCESS_INSECURE(struct tags_conf, access.insecure),
	ACCESS_NO_CREDS(struct tags_conf, access, "", "the registry"),
	{ 0 },
};

FALLIBLE cmd_remote_tags(const char *name, const struct engine_access *access, char ***out_tags)
{
	struct engine_transfer_opts o = { .access = *access };
	auto_list char **words = NULL;
	auto_json json_t *result = NULL;

	TRY(cmd_registry_name(name, &name));
	text_list_add(&words, "tags");
	text_list_add(&words, name);
	TRY(engine_transfer_run(words, -1, &o, &result));
	return json_list_at(result, "tags", out_tags);
}

static FALLIBLE run_tags(const void *conf, char *const args[], int *out_exit)
{
	const struct tags_conf *c = conf;
	const char *last = strrchr(args[0], '/');
	auto_list char **tags = NULL;
	auto_free char *creds = NULL;
	struct engine_access access;

	(void)out_exit;
	if (strpbrk(last ? last : args[0], ":@"))
		return FAIL(ERR_INVALID, "%s: all tags of a repository are listed: its name is without tag and digest", args[0]);
	TRY(access_complete(&c->access, &creds, &access));
	TRY(cmd_remote_tags(args[0], &access, &tags));
	for (char **tag = tags; tag && *tag; tag++)
		(void)printf("%s\n", *tag);
	return NULL;
}
const struct cmd cmd_image_tags = { "tags",    "REPOSITORY",		  "List the tags a registry has of a repository",
				    tags_opts, sizeof(struct tags_conf), 1, 1, false, 0, false, run_tags, NULL, NULL };

/* ---- copy ---- */

struct copy_conf {
	bool all, insecure, quiet, preserve;
	const char *platform, *format, *digestfile, *authfile;
	struct engine_access source, destination;
};
#define AT(field) offsetof(struct copy_conf, field)
static const struct opt copy_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0, "Every platform of a multi-platform image, and its index" },
	{ OPT_STR, 0, "authfile", "FILE", AT(authfile), 0, "Credentials of both sides (auth.json)" },
	ACCESS_OPTS(struct copy_conf, destination, "dest-", "the destination"),
	ACCESS_NO_CREDS(struct copy_conf, destination, "dest-", "the destination"),
	{ OPT_STR, 0, "digestfile", "FILE", AT(digestfile), 0, "Write the digest of what stands at the destination to FILE" },
	{ OPT_STR, 'f', "format", "oci|v2s2", AT(format), 0, "Write manifests of this kind (default: as they are)" },
	ACCESS_INSECURE(struct copy_conf, insecure),
	{ OPT_STR, 0, "platform", "OS/ARCH", AT(platform), 0, "Which of a multi-platform image" },
	{ OPT_FLAG, 0, "preserve-digests", NULL, AT(preserve), 0, "Fail rather than change a digest" },
	{ OPT_FLAG, 'q', "quiet", NULL, AT(quiet), 0, "Print only the digest" },
	ACCESS_OPTS(struct copy_conf, source, "src-", "the source"),
	ACCESS_NO_CREDS(struct copy_conf, source, "src-", "the source"),
	{ 0 },
};
#undef AT

static FALLIBLE check_copy(const struct copy_conf *c)
{
	return c->all && c->platform ? FAIL(ERR_INVALID, "--all and --platform exclude each other") : NULL;
}

/* What holds for one side: what was said of it, else of both. */
static FALLIBLE complete_side(const struct copy_conf *c, const struct engine_access *said, char **out_creds,
			      struct engine_access *out_access)
{
	TRY(access_complete(said, out_creds, out_access));
	out_access->insecure = said->insecure || (c->insecure && !said->strict);
	out_access->authfile = said->authfile ? said->authfile : c->authfile;
	return NULL;
}

static FALLIBLE run_copy(const void *conf, char *const args[], int *out_exit)
{
	const struct copy_conf *c = conf;
	CLEANUP(progress_fini) struct progress p = progress_begin(c->quiet, stdout);
	struct engine_transfer_opts o = {
		.platform = c->platform, .quiet = c->quiet, .progress = progress_sink(&p)
	};
	struct engine_copy copy = {
		.from = args[0],
		.to = args[1],
		.format = c->format,
		.all = c->all,
		.preserve_digests = c->preserve,
	};
	auto_free char *digest = NULL, *source_creds = NULL, *destination_creds = NULL;
	struct engine *e;

	(void)out_exit;
	TRY(check_copy(c));
	TRY(complete_side(c, &c->source, &source_creds, &copy.source));
	TRY(complete_side(c, &c->destination, &destination_creds, &copy.destination));
	TRY(cmd_engine(&e));
	TRY(engine_image_copy(e, &copy, &o, &digest));
	if (c->digestfile)
		TRY(out_file(c->digestfile, digest));
	(void)printf("%s%s\n", c->quiet ? "" : "Digest: ", digest);
	return NULL;
}
const struct cmd cmd_image_copy = { "copy",
				    "FROM TO",
				    "Copy an image as it is between registries (NAME), oci:PATH[:TAG], dir:PATH, oci-archive:PATH[:TAG] "
				    "and docker-archive:PATH[:NAME]",
				    copy_opts,
				    sizeof(struct copy_conf),
				    2,
				    2,
				    false,
				    0,
				    false,
				    run_copy,
				    NULL,
				    NULL };
