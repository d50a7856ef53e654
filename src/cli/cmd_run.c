/* cmd_run.c - run, create, start, attach, exec: what starts processes and speaks with them. */
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/access.h"
#include "cli/cmds.h"
#include "cli/progress.h"
#include "cli/run.h"
#include "engine/container.h"
#include "image/ref.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

/* 127: no such program, 126: it can't be executed, as a shell has it; everything else is ours: 125. */
static int exit_of(const struct err *e)
{
	if (strncmp(e->msg, "exec:", 5) != 0)
		return 125;
	return e->os == ENOENT || e->os == ENOTDIR ? 127 : 126;
}

static FALLIBLE policy_of(const char *text, enum pull_policy *out)
{
	static const char *const names[] = { "missing", "always", "never" };

	*out = PULL_MISSING;
	for (int i = 0; text && i < 3; i++)
		if (strcmp(names[i], text) == 0) {
			*out = (enum pull_policy)i;
			return NULL;
		}
	return text ? FAIL(ERR_INVALID, "invalid pull option: '%s': must be one of \"always\", \"missing\" or \"never\"", text) :
		      NULL;
}

static FALLIBLE write_cidfile(const char *path, const char *id)
{
	auto_fd int fd = sys_open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
	int r = fd < 0 ? fd : sys_write_all(fd, id, strlen(id));

	return r < 0 ? FAIL_OS(-r, "write container ID file %s", path) : NULL;
}

/* A short name that stood for something else than docker takes it for is written out; "debian" stays as it was said. */
static bool stands_for_another(const char *said, const char *found)
{
	struct ref r = { 0 };
	auto_free char *usual = NULL;
	struct err *err;

	if (!ref_is_short(said) || ref_is_short(found))
		return false;
	err = ref_parse(said, &r);
	usual = err ? NULL : ref_full(&r);
	err_free(err);
	ref_fini(&r);
	return !usual || strcmp(usual, found) != 0;
}

static FALLIBLE create(struct engine *e, const struct run_conf *c, char *const args[], char **out_id)
{
	CLEANUP(engine_image_fini) struct engine_image image = { 0 };
	CLEANUP(progress_fini) struct progress p = progress_begin(c->quiet, stderr);
	struct engine_transfer_opts o = { .platform = c->platform, .quiet = c->quiet, .progress = progress_sink(&p), .choose = cmd_chooser() };
	auto_json json_t *body = NULL;
	auto_free char *creds = NULL;
	enum pull_policy policy;

	TRY(access_complete(&c->access, &creds, &o.access));
	TRY(policy_of(c->pull, &policy));
	TRY(run_body(c, args, &body));
	TRY(engine_image_ensure(e, args[0], policy, &o, &image));
	if (stands_for_another(args[0], image.ref))
		(void)json_object_set_new(body, "Image", json_string(image.ref));
	TRY(container_create(e, c->name, body, out_id));
	if (!c->cidfile)
		return NULL;
	{
		struct err *err = write_cidfile(c->cidfile, *out_id);

		if (err)
			err_free(container_remove(e, *out_id, (struct container_rm){ .force = true, .volumes = true }));
		return err;
	}
}

static FALLIBLE run_create(const void *conf, char *const args[], int *out_exit)
{
	auto_free char *id = NULL;
	struct engine *e;

	(void)out_exit;
	TRY(cmd_engine(&e));
	TRY(create(e, conf, args, &id));
	(void)printf("%s\n", id);
	return NULL;
}

static bool attaches(const struct run_conf *c, const char *stream)
{
	if (!c->attach)
		return true;
	for (size_t i = 0; c->attach[i]; i++)
		if (strcasecmp(c->attach[i], stream) == 0)
			return true;
	return false;
}

static FALLIBLE check_attach(const struct run_conf *c)
{
	for (size_t i = 0; c->attach && c->attach[i]; i++)
		if (strcasecmp(c->attach[i], "stdin") && strcasecmp(c->attach[i], "stdout") && strcasecmp(c->attach[i], "stderr"))
			return FAIL(ERR_INVALID, "invalid argument \"%s\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT "
						 "and STDERR", c->attach[i]);
	if (c->attach && c->detach)
		return FAIL(ERR_INVALID, "conflicting options: cannot specify both --attach and --detach");
	if (c->tty && c->interactive && !c->detach && !isatty(STDIN_FILENO))
		return FAIL(ERR_INVALID, "the input device is not a TTY");
	return NULL;
}

/* What never ran is not left behind, so that the same command can be given again. */
static FALLIBLE failed(struct engine *e, const char *id, struct err *err, int *out_exit)
{
	auto_json json_t *doc = NULL;
	struct err *gone = container_inspect(e, id, &doc);

	*out_exit = exit_of(err);
	if (!gone && strcmp(json_str_at(doc, "State.Status", ""), "created") == 0)
		gone = container_remove(e, id, (struct container_rm){ .force = true, .volumes = true });
	err_free(gone);
	return err;
}

static FALLIBLE run_run(const void *conf, char *const args[], int *out_exit)
{
	const struct run_conf *c = conf;
	auto_free char *id = NULL;
	struct engine *e;
	struct container_stdio io = { .in = -1, .out = -1, .err = -1, .is_tty = c->tty, .detach_keys = c->detach_keys };
	bool detached = false;
	struct err *err;

	*out_exit = 125;
	TRY(check_attach(c));
	TRY(cmd_engine(&e));
	TRY(create(e, c, args, &id));
	*out_exit = 0;
	if (c->detach) {
		err = container_start(e, id);
		if (err)
			return failed(e, id, err, out_exit);
		(void)printf("%s\n", id);
		return NULL;
	}
	io.in = c->interactive && attaches(c, "stdin") ? STDIN_FILENO : -1;
	io.out = attaches(c, "stdout") ? STDOUT_FILENO : -1;
	io.err = attaches(c, "stderr") ? STDERR_FILENO : -1;
	io.sig_proxy = !c->no_sig_proxy;
	err = container_start_attached(e, id, &io, &detached, out_exit);
	return err ? failed(e, id, err, out_exit) : NULL;
}

const struct cmd cmd_run = { "run",  "IMAGE [COMMAND] [ARG...]", "Create and run a new container from an image",
			     run_opts, sizeof(struct run_conf),	 1, -1, true, 125, false, run_run, NULL, NULL };
const struct cmd cmd_create = { "create", "IMAGE [COMMAND] [ARG...]", "Create a new container",
				run_opts, sizeof(struct run_conf),    1, -1, true, 125, false, run_create, NULL, NULL };

/* ---- start, attach ---- */

struct start_conf {
	bool attach, interactive;
	const char *detach_keys;
};
static const struct opt start_opts[] = {
	{ OPT_FLAG, 'a', "attach", NULL, offsetof(struct start_conf, attach), 0, "Attach STDOUT and STDERR, forward signals" },
	{ OPT_STR, 0, "detach-keys", "KEYS", offsetof(struct start_conf, detach_keys), 0, "Keys for detaching (ctrl-p,ctrl-q)" },
	{ OPT_FLAG, 'i', "interactive", NULL, offsetof(struct start_conf, interactive), 0, "Attach STDIN" },
	{ 0 },
};

static FALLIBLE is_tty(struct engine *e, const char *text, bool *out_tty)
{
	auto_json json_t *doc = NULL;

	TRY(container_inspect(e, text, &doc));
	*out_tty = json_bool_at(doc, "Config.Tty", false);
	return NULL;
}

static FALLIBLE run_start(const void *conf, char *const args[], int *out_exit)
{
	const struct start_conf *c = conf;
	struct container_stdio io = { .in = c->interactive ? STDIN_FILENO : -1, .out = STDOUT_FILENO, .err = STDERR_FILENO,
				      .sig_proxy = true, .detach_keys = c->detach_keys };
	struct engine *e;
	bool detached;

	TRY(cmd_engine(&e));
	if (!c->attach && !c->interactive)
		return cmd_each(e, args, container_start, out_exit);
	if (args[1])
		return FAIL(ERR_INVALID, "you cannot start and attach multiple containers at once");
	TRY(is_tty(e, args[0], &io.is_tty));
	return container_start_attached(e, args[0], &io, &detached, out_exit);
}
const struct cmd cmd_start = { "start",	   "CONTAINER [CONTAINER...]", "Start one or more stopped containers",
			       start_opts, sizeof(struct start_conf),  1, -1, false, 0, false, run_start, NULL, NULL };

struct attach_conf {
	bool no_stdin, sig_proxy;
	const char *detach_keys;
};
static const struct opt attach_opts[] = {
	{ OPT_STR, 0, "detach-keys", "KEYS", offsetof(struct attach_conf, detach_keys), 0, "Keys for detaching (ctrl-p,ctrl-q)" },
	{ OPT_FLAG, 0, "no-stdin", NULL, offsetof(struct attach_conf, no_stdin), 0, "Do not attach STDIN" },
	{ 0 },
};

static FALLIBLE run_attach(const void *conf, char *const args[], int *out_exit)
{
	const struct attach_conf *c = conf;
	struct container_stdio io = { .in = c->no_stdin ? -1 : STDIN_FILENO, .out = STDOUT_FILENO, .err = STDERR_FILENO,
				      .sig_proxy = true, .detach_keys = c->detach_keys };
	struct engine *e;
	bool detached;

	TRY(cmd_engine(&e));
	TRY(is_tty(e, args[0], &io.is_tty));
	return container_attach(e, args[0], &io, &detached, out_exit);
}
const struct cmd cmd_attach = { "attach",    "CONTAINER", "Attach standard streams to a running container",
				attach_opts, sizeof(struct attach_conf), 1, 1, false, 0, false, run_attach, NULL, NULL };

/* ---- exec ---- */

struct exec_conf {
	bool detach, interactive, privileged, tty;
	char **env, **env_file;
	const char *user, *workdir, *detach_keys;
};
static const struct opt exec_opts[] = {
	{ OPT_FLAG, 'd', "detach", NULL, offsetof(struct exec_conf, detach), 0, "Run in the background" },
	{ OPT_LIST, 'e', "env", "NAME=VALUE", offsetof(struct exec_conf, env), 0, "Set an environment variable" },
	{ OPT_FLAG, 'i', "interactive", NULL, offsetof(struct exec_conf, interactive), 0, "Keep STDIN open" },
	{ OPT_FLAG, 0, "privileged", NULL, offsetof(struct exec_conf, privileged), 0, "Give all capabilities" },
	{ OPT_FLAG, 't', "tty", NULL, offsetof(struct exec_conf, tty), 0, "Give the process a terminal" },
	{ OPT_STR, 'u', "user", "USER[:GROUP]", offsetof(struct exec_conf, user), 0, "User name or number" },
	{ OPT_STR, 'w', "workdir", "DIR", offsetof(struct exec_conf, workdir), 0, "Working directory inside" },
	{ 0 },
};

static FALLIBLE run_exec(const void *conf, char *const args[], int *out_exit)
{
	const struct exec_conf *c = conf;
	struct container_stdio io = { .in = c->interactive ? STDIN_FILENO : -1, .out = STDOUT_FILENO, .err = STDERR_FILENO,
				      .is_tty = c->tty };
	auto_json json_t *body = json_pack("{s:o, s:o, s:s, s:s, s:b, s:b, s:b}", "Cmd", json_from_list(args + 1), "Env",
					   json_from_list(c->env), "User", c->user ? c->user : "", "WorkingDir",
					   c->workdir ? c->workdir : "", "Tty", c->tty, "Privileged", c->privileged, "Detach",
					   c->detach);
	struct engine *e;
	struct err *err;

	if (c->tty && c->interactive && !isatty(STDIN_FILENO))
		return FAIL(ERR_INVALID, "the input device is not a TTY");
	TRY(cmd_engine(&e));
	err = container_exec(e, args[0], body, &io, out_exit);
	if (err)
		*out_exit = strncmp(err->msg, "exec:", 5) == 0 ? exit_of(err) : 1;
	return err;
}
const struct cmd cmd_exec = { "exec",	 "CONTAINER COMMAND [ARG...]", "Execute a command in a running container",
			      exec_opts, sizeof(struct exec_conf),     2, -1, true, 0, false, run_exec, NULL, NULL };
