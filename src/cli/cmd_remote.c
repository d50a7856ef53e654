/* cmd_remote.c - images where they are: image inspect (also of a registry), image tags, image copy. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "engine/image.h"
#include "sys/sys.h"
#include <fcntl.h>
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
	{ OPT_NOT, 0, "tls-verify", NULL, AT(insecure), 0, "=false: as --insecure" },
	{ 0 },
};
#undef AT

/* skopeo's "docker://" before a name; other forms of its are no registry. */
static FALLIBLE name_of(const char *text, const char **out_name)
{
	static const char *const others[] = { "oci:", "oci-archive:", "docker-archive:", "dir:", "docker-daemon:", "containers-storage:" };

	for (size_t i = 0; i < LEN(others); i++)
		if (strncmp(text, others[i], strlen(others[i])) == 0)
			return FAIL(ERR_INVALID, "%s is no registry's: hoy image copy takes it, hoy load what is in an archive", text);
	*out_name = strncmp(text, "docker://", 9) == 0 ? text + 9 : text;
	return NULL;
}

static FALLIBLE ask_registry(const struct inspect_conf *c, const char *name, json_t **out_image)
{
	struct engine_transfer_opts o = { 0 };
	auto_list char **words = NULL;
	auto_json json_t *result = NULL;

	TRY(name_of(name, &name));
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
		return out_value(NULL, found);
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
	{ OPT_NOT, 0, "tls-verify", NULL, offsetof(struct tags_conf, insecure), 0, "=false: as --insecure" },
	{ 0 },
};

FALLIBLE cmd_remote_tags(const char *name, bool insecure, char ***out_tags)
{
	struct engine_transfer_opts o = { 0 };
	auto_list char **words = NULL;
	auto_json json_t *result = NULL;

	TRY(name_of(name, &name));
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
	bool all, insecure, quiet, preserve, src_open, dest_open, src_no_creds, dest_no_creds;
	const char *platform, *format, *digestfile, *authfile, *src_authfile, *dest_authfile, *src_creds, *dest_creds;
};
#define AT(field) offsetof(struct copy_conf, field)
static const struct opt copy_opts[] = {
	{ OPT_FLAG, 'a', "all", NULL, AT(all), 0, "Every platform of a multi-platform image, and its index" },
	{ OPT_STR, 0, "authfile", "FILE", AT(authfile), 0, "Credentials of both sides (auth.json)" },
	{ OPT_STR, 0, "dest-authfile", "FILE", AT(dest_authfile), 0, "Credentials of the destination" },
	{ OPT_STR, 0, "dest-creds", "USER[:PASSWORD]", AT(dest_creds), 0, "Who we are at the destination" },
	{ OPT_FLAG, 0, "dest-no-creds", NULL, AT(dest_no_creds), 0, "Nobody at the destination" },
	{ OPT_NOT, 0, "dest-tls-verify", NULL, AT(dest_open), 0, "=false: accept plain HTTP and any certificate there" },
	{ OPT_STR, 0, "digestfile", "FILE", AT(digestfile), 0, "Write the digest of what stands at the destination to FILE" },
	{ OPT_STR, 'f', "format", "oci|v2s2", AT(format), 0, "Write manifests of this kind (default: as they are)" },
	{ OPT_FLAG, 0, "insecure", NULL, AT(insecure), 0, "Accept plain HTTP and any certificate" },
	{ OPT_STR, 0, "platform", "OS/ARCH", AT(platform), 0, "Which of a multi-platform image" },
	{ OPT_FLAG, 0, "preserve-digests", NULL, AT(preserve), 0, "Fail rather than change a digest" },
	{ OPT_FLAG, 'q', "quiet", NULL, AT(quiet), 0, "Print only the digest" },
	{ OPT_STR, 0, "src-authfile", "FILE", AT(src_authfile), 0, "Credentials of the source" },
	{ OPT_STR, 0, "src-creds", "USER[:PASSWORD]", AT(src_creds), 0, "Who we are at the source" },
	{ OPT_FLAG, 0, "src-no-creds", NULL, AT(src_no_creds), 0, "Nobody at the source" },
	{ OPT_NOT, 0, "src-tls-verify", NULL, AT(src_open), 0, "=false: accept plain HTTP and any certificate there" },
	{ 0 },
};
#undef AT

static FALLIBLE write_digest(const char *path, const char *digest)
{
	auto_fd int fd = sys_open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	int r = fd < 0 ? fd : sys_write_all(fd, digest, strlen(digest));

	return r < 0 ? FAIL_OS(-r, "write %s", path) : NULL;
}

static FALLIBLE check_copy(const struct copy_conf *c)
{
	if ((c->src_creds && c->src_no_creds) || (c->dest_creds && c->dest_no_creds))
		return FAIL(ERR_INVALID, "credentials and no credentials exclude each other");
	if ((c->src_creds && !*c->src_creds) || (c->dest_creds && !*c->dest_creds))
		return FAIL(ERR_INVALID, "empty credentials (wanted USER[:PASSWORD])");
	return c->all && c->platform ? FAIL(ERR_INVALID, "--all and --platform exclude each other") : NULL;
}

static FALLIBLE run_copy(const void *conf, char *const args[], int *out_exit)
{
	const struct copy_conf *c = conf;
	CLEANUP(progress_fini) struct progress p = progress_begin(c->quiet, stdout);
	struct engine_transfer_opts o = {
		.platform = c->platform, .insecure = c->insecure, .quiet = c->quiet, .progress = progress_sink(&p)
	};
	struct engine_copy copy = {
		.from = args[0],
		.to = args[1],
		.source = { c->src_open, c->src_no_creds, c->src_creds, c->src_authfile ? c->src_authfile : c->authfile },
		.destination = { c->dest_open, c->dest_no_creds, c->dest_creds, c->dest_authfile ? c->dest_authfile : c->authfile },
		.format = c->format,
		.all = c->all,
		.preserve_digests = c->preserve,
	};
	auto_free char *digest = NULL;
	struct engine *e;

	(void)out_exit;
	TRY(check_copy(c));
	TRY(cmd_engine(&e));
	TRY(engine_image_copy(e, &copy, &o, &digest));
	if (c->digestfile)
		TRY(write_digest(c->digestfile, digest));
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
