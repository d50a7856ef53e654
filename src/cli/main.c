/* main.c - from the words of the command line to a command, and its error to people. */
#include "base/log.h"
#include "base/mem.h"
#include "base/own.h"
#include "cli/cmd.h"
#include "engine/engine.h"
#include <stdio.h>

static struct engine_opts global;
static struct engine *opened;

const struct engine_opts *cmd_engine_opts(void)
{
	return &global;
}

FALLIBLE cmd_engine(struct engine **out_engine)
{
	if (!opened)
		TRY(engine_open(&global, &opened));
	*out_engine = opened;
	return NULL;
}

static bool global_value(char ***argv, const char *name, const char **out)
{
	size_t n = strlen(name);

	if (strncmp(**argv, name, n) != 0)
		return false;
	if ((**argv)[n] == '=') {
		*out = **argv + n + 1;
		return true;
	}
	if ((**argv)[n] || !(*argv)[1])
		return false;
	(*argv)++;
	*out = **argv;
	return true;
}

/* -1: go on; else the exit code. */
static int global_options(char ***argv)
{
	for (; **argv && (**argv)[0] == '-'; (*argv)++) {
		if (global_value(argv, "--root", &global.root) || global_value(argv, "--run", &global.run) ||
		    global_value(argv, "--storage-driver", &global.storage_driver))
			continue;
		if (strcmp(**argv, "--debug") == 0 || strcmp(**argv, "-D") == 0) {
			log_level = LOG_DEBUG;
		} else if (strcmp(**argv, "--version") == 0 || strcmp(**argv, "-v") == 0) {
			(void)printf("hoy version %s\n", HOY_VERSION);
			return 0;
		} else if (strcmp(**argv, "--help") == 0 || strcmp(**argv, "-h") == 0) {
			cmd_help(NULL, "");
			return 0;
		} else {
			(void)fprintf(stderr, "hoy: unknown flag: %s\nSee 'hoy --help'.\n", **argv);
			return 125;
		}
	}
	return -1;
}

static bool wants_help(const struct cmd *c, char *argv[])
{
	for (; *argv && strcmp(*argv, "--") != 0; argv++) {
		if (strcmp(*argv, "--help") == 0)
			return true;
		if (c->stop_at_arg && (*argv)[0] != '-')
			return false;
	}
	return false;
}

/* A line, without the newlines that a foreign text may have. */
static void tell(const struct err *e)
{
	(void)fprintf(stderr, "hoy: ");
	for (const char *p = e->msg; *p; p++)
		(void)fputc(*p == '\n' && !p[1] ? ' ' : *p, stderr);
	(void)fputc('\n', stderr);
	log_debug("at %s", e->at);
}

static int run(const struct cmd *c, const char *path, char *argv[])
{
	auto_err struct err *e = NULL;
	auto_free char **args = NULL;
	void *conf = NULL;
	int code = -1;

	e = cmd_parse(c, path, argv, &conf, &args);
	if (e) {
		(void)fprintf(stderr, "hoy: %s\nSee 'hoy %s --help'.\n", e->msg, path);
		return c->error_exit ? c->error_exit : 1;
	}
	code = 0;
	e = c->run(conf, args, &code);
	cmd_conf_free(c, conf);
	if (e)
		tell(e);
	return !e ? code : code ? code : c->error_exit ? c->error_exit : 1;
}

int cmd_main(char *argv[])
{
	char **rest, path[64] = "";
	const struct cmd *c;
	int code;

	argv += argv[0] != NULL;
	if ((code = global_options(&argv)) >= 0)
		return code;
	if (!argv[0]) {
		cmd_help(NULL, "");
		return 0;
	}
	if (strcmp(argv[0], "help") == 0) {
		c = cmd_find(argv + 1, &rest, path);
		cmd_help(c, path);
		return 0;
	}
	c = cmd_find(argv, &rest, path);
	if (!c) {
		(void)fprintf(stderr, "hoy: '%s' is not a hoy command.\nSee 'hoy --help'.\n", argv[0]);
		return 1;
	}
	if (c->subs && rest[0] && strcmp(rest[0], "--help") != 0) {
		(void)fprintf(stderr, "hoy: '%s %s' is not a hoy command.\nSee 'hoy %s --help'.\n", path, rest[0], path);
		return 1;
	}
	if (c->subs || wants_help(c, rest)) {
		cmd_help(c, path);
		return 0;
	}
	code = run(c, path, rest);
	engine_close(opened);
	errno = 0;
	if ((fflush(stdout) != 0 || ferror(stdout)) && code == 0) {
		tell(FAIL_OS(errno ? errno : EIO, "write standard output"));
		code = 1;
	}
	return code;
}
