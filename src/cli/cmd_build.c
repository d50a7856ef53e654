/* cmd_build.c - hoy build. */
#include "base/own.h"
#include "build/build.h"
#include "cli/access.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "sys/event.h"
#include "sys/sys.h"
#include <signal.h>
#include <stdio.h>

struct build_conf {
	char **tags, **args, **labels, **secrets;
	const char *file, *target, *progress, *iidfile;
	bool no_cache, pull, quiet, host_ca;
	struct engine_access access;
};
#define AT(field) offsetof(struct build_conf, field)
static const struct opt build_options[] = {
	ACCESS_OPTS(struct build_conf, access, "", "the registry of the base image"),
	{ OPT_LIST, 0, "build-arg", "NAME[=VALUE]", AT(args), 0, "Set a build-time variable" },
	{ OPT_STR, 'f', "file", "FILE", AT(file), 0, "The Dockerfile (default CONTEXT/Dockerfile; - is standard input)" },
	{ OPT_FLAG, 0, "host-ca", NULL, AT(host_ca), 0, "Trust this host's certificates in RUN, leaving none in the image" },
	{ OPT_STR, 0, "iidfile", "FILE", AT(iidfile), 0, "Write the image ID to a file" },
	ACCESS_INSECURE(struct build_conf, access.insecure),
	{ OPT_LIST, 0, "label", "KEY=VALUE", AT(labels), 0, "Set metadata of the image" },
	{ OPT_FLAG, 0, "no-cache", NULL, AT(no_cache), 0, "Do not use the cache" },
	{ OPT_STR, 0, "progress", "MODE", AT(progress), 0, "auto, plain or tty" },
	{ OPT_FLAG, 0, "pull", NULL, AT(pull), 0, "Always try to get newer base images" },
	{ OPT_FLAG, 'q', "quiet", NULL, AT(quiet), 0, "Only print the image ID" },
	{ OPT_LIST, 0, "secret", "id=ID,src=FILE", AT(secrets), 0, "A file (or env=NAME) for RUN --mount=type=secret" },
	{ OPT_LIST, 't', "tag", "NAME[:TAG]", AT(tags), 0, "Name of the image" },
	{ OPT_STR, 0, "target", "STAGE", AT(target), 0, "Build up to this stage" },
	{ 0 },
};
#undef AT

static FALLIBLE progress_mode(const char *text, enum build_progress *out_mode)
{
	static const char *const names[] = { "auto", "plain", "tty" };

	*out_mode = BUILD_PROGRESS_AUTO;
	for (unsigned i = 0; text && i < 3; i++)
		if (strcmp(text, names[i]) == 0)
			*out_mode = (enum build_progress)i;
	if (text && strcmp(text, names[*out_mode]) != 0)
		return FAIL(ERR_INVALID, "invalid progress mode %s (auto, plain, tty)", text);
	return NULL;
}

static FALLIBLE run_build(const void *conf, char *const args[], int *out_exit)
{
	const struct build_conf *c = conf;
	struct build_opts o = { .context_dir = args[0], .dockerfile = c->file, .tags = c->tags, .target = c->target,
				.build_args = c->args, .labels = c->labels, .secrets = c->secrets, .no_cache = c->no_cache, .pull = c->pull,
				.quiet = c->quiet, .host_ca = c->host_ca };
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP, 0 };
	auto_free char *id = NULL, *creds = NULL;
	auto_fd int signals = -1;
	struct engine *e;

	(void)out_exit;
	if (strcmp(args[0], "-") == 0)
		return FAIL(ERR_UNSUPPORTED, "a context from standard input is not supported: unpack it, and name the directory");
	TRY(access_complete(&c->access, &creds, &o.access));
	TRY(progress_mode(c->progress, &o.progress));
	TRY(cmd_engine(&e));
	o.cancel_fd = signals = sys_signal_fd(stops); /* so that ctrl-c leaves nothing to be swept */
	if (signals < 0)
		return FAIL_OS(-signals, "watch for signals");
	TRY(build_run(e, &o, &id));
	if (c->iidfile)
		TRY(out_file(c->iidfile, id));
	if (c->quiet)
		printf("%s\n", id);
	return NULL;
}

const struct cmd cmd_build = { .name = "build", .args = "CONTEXT", .summary = "Make an image of a Dockerfile", .opts = build_options,
			       .conf_size = sizeof(struct build_conf), .min_args = 1, .max_args = 1, .run = run_build };
