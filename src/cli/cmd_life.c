/* cmd_life.c - stop, restart, kill, rm, pause, unpause, rename, wait, and what they share. */
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/text.h"
#include "cli/cmds.h"
#include "cli/out.h"
#include "engine/container.h"
#include "engine/signals.h"
#include "supervise/health.h"
#include <stdio.h>

void cmd_tell(struct err *e)
{
	(void)fprintf(stderr, "hoy: %s\n", e->msg);
	err_free(e);
}

FALLIBLE cmd_each(struct engine *e, char *const args[], struct err *(*one)(struct engine *e, const char *text), int *out_exit)
{
	for (; *args; args++) {
		struct err *err = one(e, *args);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)printf("%s\n", *args);
			(void)fflush(stdout);
		}
	}
	return NULL;
}

FALLIBLE cmd_filters(char *const *list, json_t **out_filters)
{
	auto_json json_t *filters = json_object();

	for (; list && *list; list++) {
		const char *eq = strchr(*list, '=');
		auto_free char *key = xstrndup(*list, eq ? (size_t)(eq - *list) : 0);

		if (!eq || eq == *list)
			return FAIL(ERR_INVALID, "invalid argument \"%s\" for \"-f, --filter\" flag: bad format of filter (expected "
						 "name=value)", *list);
		if (!json_object_get(filters, key))
			(void)json_object_set_new(filters, key, json_array());
		(void)json_array_append_new(json_object_get(filters, key), json_string(eq + 1));
	}
	*out_filters = json_object_size(filters) ? TAKE(filters) : NULL;
	return NULL;
}

/* ---- stop, restart ---- */

struct stop_conf {
	const char *time_text;
};
static const struct opt stop_opts[] = {
	{ OPT_STR, 't', "time", "SECONDS", offsetof(struct stop_conf, time_text), 0, "Seconds to wait before killing" },
	{ 0 },
};

static FALLIBLE seconds_of(const struct stop_conf *c, int *out)
{
	char *end;
	long v;

	*out = -1;
	if (!c->time_text)
		return NULL;
	v = strtol(c->time_text, &end, 10);
	if (*end || end == c->time_text || v < -1 || v > 1 << 30)
		return FAIL(ERR_INVALID, "invalid argument \"%s\" for \"-t, --time\" flag: expected seconds", c->time_text);
	*out = v < 0 ? 1 << 20 : (int)v; /* -1: wait as long as it takes */
	return NULL;
}

static FALLIBLE stop_like(const struct stop_conf *c, char *const args[], int *out_exit,
			  struct err *(*one)(struct engine *e, const char *text, int seconds))
{
	struct engine *e;
	int seconds;

	TRY(seconds_of(c, &seconds));
	TRY(cmd_engine(&e));
	for (; *args; args++) {
		struct err *err = one(e, *args, seconds);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)printf("%s\n", *args);
			(void)fflush(stdout);
		}
	}
	return NULL;
}

static FALLIBLE run_stop(const void *conf, char *const args[], int *out_exit)
{
	return stop_like(conf, args, out_exit, container_stop);
}

static FALLIBLE run_restart(const void *conf, char *const args[], int *out_exit)
{
	return stop_like(conf, args, out_exit, container_restart);
}
const struct cmd cmd_stop = { "stop",	 "CONTAINER [CONTAINER...]", "Stop one or more running containers",
			      stop_opts, sizeof(struct stop_conf),   1, -1, false, 0, false, run_stop, NULL, NULL };
const struct cmd cmd_restart = { "restart", "CONTAINER [CONTAINER...]", "Restart one or more containers",
				 stop_opts, sizeof(struct stop_conf),	1, -1, false, 0, false, run_restart, NULL, NULL };

/* ---- kill ---- */

struct kill_conf {
	const char *signal;
};
static const struct opt kill_opts[] = {
	{ OPT_STR, 's', "signal", NULL, offsetof(struct kill_conf, signal), 0, "Signal to send" },
	{ 0 },
};

static FALLIBLE run_kill(const void *conf, char *const args[], int *out_exit)
{
	const struct kill_conf *c = conf;
	int signo = signal_number(c->signal ? c->signal : "KILL");
	struct engine *e;

	if (signo <= 0)
		return FAIL(ERR_INVALID, "invalid signal: %s", c->signal);
	TRY(cmd_engine(&e));
	for (; *args; args++) {
		struct err *err = container_kill(e, *args, signo);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)printf("%s\n", *args);
		}
	}
	return NULL;
}
const struct cmd cmd_kill = { "kill",	 "CONTAINER [CONTAINER...]", "Kill one or more running containers",
			      kill_opts, sizeof(struct kill_conf),   1, -1, false, 0, false, run_kill, NULL, NULL };

/* ---- rm ---- */

struct rm_conf {
	bool force, volumes;
};
static const struct opt rm_opts[] = {
	{ OPT_FLAG, 'f', "force", NULL, offsetof(struct rm_conf, force), 0, "Kill a running container before" },
	{ OPT_FLAG, 'v', "volumes", NULL, offsetof(struct rm_conf, volumes), 0, "Remove its anonymous volumes too" },
	{ 0 },
};

static FALLIBLE run_rm(const void *conf, char *const args[], int *out_exit)
{
	const struct rm_conf *c = conf;
	struct engine *e;

	TRY(cmd_engine(&e));
	for (; *args; args++) {
		struct err *err = container_remove(e, *args, (struct container_rm){ c->force, c->volumes });

		if (err && err->kind == ERR_NOT_FOUND && c->force) {
			(void)fprintf(stderr, "hoy: %s\n", err->msg);
			err_free(err);
		} else if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)printf("%s\n", *args);
		}
	}
	return NULL;
}
const struct cmd cmd_rm = { "rm",    "CONTAINER [CONTAINER...]", "Remove one or more containers",
			    rm_opts, sizeof(struct rm_conf),	 1, -1, false, 0, false, run_rm, NULL, NULL };

/* ---- pause, unpause, rename, wait ---- */

static struct err *pause_one(struct engine *e, const char *text)
{
	return container_pause(e, text, true);
}

static struct err *unpause_one(struct engine *e, const char *text)
{
	return container_pause(e, text, false);
}

static FALLIBLE run_pause(const void *conf, char *const args[], int *out_exit)
{
	struct engine *e;

	(void)conf;
	TRY(cmd_engine(&e));
	return cmd_each(e, args, pause_one, out_exit);
}

static FALLIBLE run_unpause(const void *conf, char *const args[], int *out_exit)
{
	struct engine *e;

	(void)conf;
	TRY(cmd_engine(&e));
	return cmd_each(e, args, unpause_one, out_exit);
}
const struct cmd cmd_pause = { "pause", "CONTAINER [CONTAINER...]", "Pause all processes of one or more containers",
			       NULL,	0,			    1, -1, false, 0, false, run_pause, NULL, NULL };
const struct cmd cmd_unpause = { "unpause", "CONTAINER [CONTAINER...]", "Unpause all processes of one or more containers",
				 NULL,	    0,				1, -1, false, 0, false, run_unpause, NULL, NULL };

static FALLIBLE run_rename(const void *conf, char *const args[], int *out_exit)
{
	struct engine *e;

	(void)conf;
	(void)out_exit;
	TRY(cmd_engine(&e));
	return container_rename(e, args[0], args[1]);
}
const struct cmd cmd_rename = { "rename", "CONTAINER NEW_NAME", "Rename a container", NULL, 0, 2, 2, false, 0, false, run_rename,
				NULL, NULL };

static FALLIBLE run_wait(const void *conf, char *const args[], int *out_exit)
{
	struct engine *e;

	(void)conf;
	TRY(cmd_engine(&e));
	for (; *args; args++) {
		int code = 0;
		struct err *err = container_wait(e, *args, &code);

		if (err) {
			cmd_tell(err);
			*out_exit = 1;
		} else {
			(void)printf("%d\n", code);
			(void)fflush(stdout);
		}
	}
	return NULL;
}
const struct cmd cmd_wait = { "wait", "CONTAINER [CONTAINER...]", "Wait until containers stop, then print their exit codes",
			      NULL,   0,			  1, -1, false, 0, false, run_wait, NULL, NULL };

/* ---- keeper-exit ---- */

static FALLIBLE run_keeper_exit(const void *conf, char *const args[], int *out_exit)
{
	struct engine *e;

	(void)conf;
	(void)out_exit;
	TRY(cmd_engine(&e));
	return container_reap(e, args[0]);
}
const struct cmd cmd_keeper_exit = { "keeper-exit", "ID", "What a keeper calls when its container ended",
				     NULL,	    0,	  1, 1, false, 0, true, run_keeper_exit, NULL, NULL };

static FALLIBLE run_keeper_health(const void *conf, char *const args[], int *out_exit)
{
	bool is_starting = true;
	struct engine *e;

	(void)conf;
	TRY(cmd_engine(&e));
	TRY(container_probe(e, args[0], &is_starting));
	*out_exit = is_starting ? HEALTH_STARTING : 0;
	return NULL;
}
const struct cmd cmd_keeper_health = { "keeper-health", "ID", "What a keeper calls when a health check is due",
				       NULL, 0, 1, 1, false, 0, true, run_keeper_health, NULL, NULL };

static FALLIBLE run_keeper_exec(const void *conf, char *const args[], int *out_exit)
{
	struct engine *e;

	(void)conf;
	(void)out_exit;
	TRY(cmd_engine(&e));
	return container_exec_detached(e, args[0], STDIN_FILENO);
}
const struct cmd cmd_keeper_exec = { "keeper-exec", "ID", "What a keeper calls for a detached process",
				     NULL, 0, 1, 1, false, 0, true, run_keeper_exec, NULL, NULL };

static FALLIBLE run_collect(const void *conf, char *const args[], int *out_exit)
{
	(void)conf;
	(void)args;
	(void)out_exit;
	return engine_collect(cmd_engine_opts());
}
const struct cmd cmd_network_collect = { "network-collect", "", "What is started when a network has become unused",
					 NULL, 0, 0, 0, false, 0, true, run_collect, NULL, NULL };
