/*
 * oci_life.c - kill, delete, pause and resume.
 *
 * Signals need no lock: they must reach a container whose start is stuck in a hook. A frozen process dies
 * only when it is thawed, wherever somebody has frozen it, so `delete --force` looks where it is.
 */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "runtime/oci.h"
#include "runtime/pid.h"
#include "sys/cgroup.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

static FALLIBLE signal_of(const char *text, int *out)
{
	static const struct {
		const char *name;
		int number;
	} all[] = {
		{ "HUP", SIGHUP },   { "INT", SIGINT },       { "QUIT", SIGQUIT }, { "KILL", SIGKILL },
		{ "USR1", SIGUSR1 }, { "USR2", SIGUSR2 },     { "TERM", SIGTERM }, { "CONT", SIGCONT },
		{ "STOP", SIGSTOP }, { "WINCH", SIGWINCH },   { "ALRM", SIGALRM }, { "ABRT", SIGABRT },
		{ "SEGV", SIGSEGV }, { "PIPE", SIGPIPE },     { "CHLD", SIGCHLD }, { "TSTP", SIGTSTP },
		{ "TTIN", SIGTTIN }, { "TTOU", SIGTTOU },     { "URG", SIGURG },   { "IO", SIGIO },
		{ "PWR", SIGPWR },   { "SYS", SIGSYS },       { "TRAP", SIGTRAP }, { "BUS", SIGBUS },
		{ "FPE", SIGFPE },   { "ILL", SIGILL },       { "PROF", SIGPROF }, { "XCPU", SIGXCPU },
		{ "XFSZ", SIGXFSZ }, { "VTALRM", SIGVTALRM }, { "POLL", SIGPOLL }, { "STKFLT", SIGSTKFLT },
		{ "IOT", SIGIOT },   { "CLD", SIGCHLD }
	};
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
	bool from_max = strncasecmp(name, "RTMAX-", 6) == 0, from_min = strncasecmp(name, "RTMIN+", 6) == 0;
	uint64_t n;
	struct err *e = num_parse(sv_of(from_max || from_min ? name + 6 : text), 10, 0,
				  from_max || from_min ? 30 : 64, &n);

	if (!e) {
		*out = from_max ? SIGRTMAX - (int)n : from_min ? SIGRTMIN + (int)n : (int)n;
		return NULL;
	}
	err_free(e);
	for (size_t i = 0; i < LEN(all); i++)
		if (strcasecmp(all[i].name, name) == 0) {
			*out = all[i].number;
			return NULL;
		}
	return FAIL(ERR_INVALID, "unknown signal \"%s\"", text);
}

/* ---- kill ---- */

struct kill_conf {
	bool all, regex;
};
static const struct oci_opt kill_opts[] = {
	{ OCI_FLAG, 'a', "all", NULL, offsetof(struct kill_conf, all), "to every process of the container" },
	{ OCI_FLAG, 'r', "regex", NULL, offsetof(struct kill_conf, regex),
	  "CONTAINER is an extended regular expression" },
	{ .kind = OCI_END },
};

static FALLIBLE kill_box(const struct oci *o, const char *id, bool all, int signo)
{
	auto_box struct oci_box b = OCI_BOX;
	int r;

	TRY(oci_box_open(o, id, false, &b));
	if (all) {
		struct err *e = oci_box_need_cgroup(&b);

		return e ? e : runtime_kill_all(oci_box_cgroup(&b), signo);
	}
	if (oci_box_status(&b) == OCI_STOPPED || b.pid <= 0)
		return FAIL(ERR_CONFLICT, "container not running: \"%s\"", b.id);
	r = sys_pid_kill(b.pid, signo);
	if (r == -ESRCH)
		return FAIL(ERR_CONFLICT, "container not running: \"%s\"", b.id);
	return r < 0 ? FAIL_OS(-r, "signal container \"%s\"", b.id) : NULL;
}

static struct err *run_kill(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	const struct kill_conf *c = conf;
	auto_list char **ids = NULL;
	int signo = SIGTERM;

	(void)out_exit;
	if (args[1])
		TRY(signal_of(args[1], &signo));
	if (!c->regex)
		return kill_box(o, args[0], c->all, signo);
	TRY(oci_box_ids(o, args[0], &ids));
	for (size_t i = 0; ids && ids[i]; i++)
		TRY(kill_box(o, ids[i], c->all, signo));
	return NULL;
}

/* ---- delete ---- */

struct delete_conf {
	bool force, regex;
};
static const struct oci_opt delete_opts[] = {
	{ OCI_FLAG, 'f', "force", NULL, offsetof(struct delete_conf, force),
	  "kill it first; one that is not there is no error" },
	{ OCI_FLAG, 'r', "regex", NULL, offsetof(struct delete_conf, regex),
	  "CONTAINER is an extended regular expression" },
	{ .kind = OCI_END },
};

/* The v1 freezer group the process is in, perhaps not ours any more. */
static void thaw(pid_t pid)
{
	char text[8192], *at;

	(void)pid_text(pid, "cgroup", text, sizeof text); /* gone: nothing to thaw */
	if ((at = strstr(text, ":freezer:/"))) {
		at += strlen(":freezer:/");
		at[strcspn(at, "\n")] = 0;
		if (*at)
			err_free(runtime_freeze(at, false));
	}
}

FALLIBLE oci_end(const struct oci_box *b)
{
	int64_t until = time_monotonic_ns() + INT64_C(10000000000), pause = 200000;

	if (b->pid > 0)
		(void)sys_pid_kill(b->pid, SIGKILL);
	if (*oci_box_cgroup(b)) {
		struct err *e = runtime_kill_all(oci_box_cgroup(b), SIGKILL);

		if (e && e->kind != ERR_NOT_FOUND)
			return e;
		err_free(e);
	}
	for (bool thawed = false; oci_box_status(b) != OCI_STOPPED;) {
		if (time_monotonic_ns() > until)
			return FAIL(ERR_TIMEOUT, "container \"%s\" does not end", b->id);
		sys_pause_ns(pause);
		if (pause < 10000000) {
			pause *= 2;
		} else if (!thawed) {
			thaw(b->pid);
			thawed = true;
		}
	}
	return NULL;
}

static FALLIBLE delete_box(const struct oci *o, const char *id, bool force)
{
	auto_box struct oci_box b = OCI_BOX;
	struct err *e = oci_box_open(o, id, true, &b);
	enum oci_status status;

	if (e && force && e->kind == ERR_NOT_FOUND) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	status = oci_box_status(&b);
	if (status != OCI_STOPPED && status != OCI_CREATED && !force)
		return FAIL(ERR_CONFLICT, "cannot delete container \"%s\" that is not stopped: %s", b.id,
			    oci_status_name(status));
	if (status != OCI_STOPPED)
		TRY(oci_end(&b));
	return oci_forget(o, &b);
}

static struct err *run_delete(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	const struct delete_conf *c = conf;
	auto_list char **ids = NULL;

	(void)out_exit;
	if (!c->regex)
		return delete_box(o, args[0], c->force);
	TRY(oci_box_ids(o, args[0], &ids));
	for (size_t i = 0; ids && ids[i]; i++)
		TRY(delete_box(o, ids[i], c->force));
	return NULL;
}

/* ---- pause, resume ---- */

static FALLIBLE freeze(const struct oci *o, const char *id, bool frozen)
{
	auto_box struct oci_box b = OCI_BOX;
	enum oci_status s;

	TRY(oci_box_open(o, id, false, &b));
	TRY(oci_box_need_cgroup(&b));
	s = oci_box_status(&b);
	if (frozen && s != OCI_RUNNING && s != OCI_CREATED)
		return FAIL(ERR_CONFLICT, "container not running: \"%s\" is %s", b.id, oci_status_name(s));
	if (!frozen && s != OCI_PAUSED)
		return FAIL(ERR_CONFLICT, "container not paused: \"%s\" is %s", b.id, oci_status_name(s));
	return runtime_freeze(oci_box_cgroup(&b), frozen);
}

static struct err *run_pause(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	(void)conf;
	(void)out_exit;
	return freeze(o, args[0], true);
}

static struct err *run_resume(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	(void)conf;
	(void)out_exit;
	return freeze(o, args[0], false);
}

const struct oci_cmd oci_cmd_kill = {
	.name = "kill",
	.args = "CONTAINER [SIGNAL]",
	.summary = "Send a signal (SIGTERM) to the container's first process",
	.opts = kill_opts,
	.conf_size = sizeof(struct kill_conf),
	.min_args = 1,
	.max_args = 2,
	.run = run_kill,
};
const struct oci_cmd oci_cmd_delete = {
	.name = "delete",
	.args = "CONTAINER",
	.summary = "Remove what a stopped container holds",
	.opts = delete_opts,
	.conf_size = sizeof(struct delete_conf),
	.min_args = 1,
	.max_args = 1,
	.run = run_delete,
};
const struct oci_cmd oci_cmd_pause = {
	.name = "pause",
	.args = "CONTAINER",
	.summary = "Freeze every process of a container",
	.min_args = 1,
	.max_args = 1,
	.run = run_pause,
};
const struct oci_cmd oci_cmd_resume = {
	.name = "resume",
	.args = "CONTAINER",
	.summary = "Let a paused container go on",
	.min_args = 1,
	.max_args = 1,
	.run = run_resume,
};
