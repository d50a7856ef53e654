/* oci.c - the OCI command line: options, the commands about containers that exist, errors as callers read them. */
#include "runtime/oci.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "runtime/caps.h"
#include "sys/fs.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>

/* ---- options ---- */

static FALLIBLE take(const struct oci_opt *o, const char *value)
{
	union {
		void *any;
		const char **str;
		bool *flag;
		char ***list;
	} at = { .any = o->at };

	if (o->kind == 's')
		*at.str = value;
	else if (o->kind == 'l')
		text_list_add(at.list, value);
	else if (o->kind == 'f' || o->kind == 'x')
		*at.flag = !value || strcmp(value, "false") != 0;
	return NULL;
}

FALLIBLE oci_options(const struct oci_opt *opts, char *argv[], int *at)
{
	for (; argv[*at] && argv[*at][0] == '-' && argv[*at][1]; (*at)++) {
		const char *word = argv[*at], *eq = strchr(word, '=');
		bool is_long = word[1] == '-';
		size_t n = is_long ? (eq ? (size_t)(eq - word) : strlen(word)) - 2 : 1;
		const struct oci_opt *o = opts;
		const char *value = eq ? eq + 1 : NULL;

		if (strcmp(word, "--") == 0) {
			(*at)++;
			return NULL;
		}
		while (o->name && !(is_long ? strlen(o->name) == n && strncmp(o->name, word + 2, n) == 0 : o->letter == word[1]))
			o++;
		if (!o->name)
			return FAIL(ERR_INVALID, "unknown option %s", word);
		if (!is_long)
			value = word[2] ? word + 2 : NULL;
		if (!value && o->kind != 'f' && o->kind != 'x') {
			if (!argv[*at + 1])
				return FAIL(ERR_INVALID, "option %s needs a value", word);
			value = argv[++*at];
		}
		TRY(take(o, value));
	}
	return NULL;
}

/* ---- state, list ---- */

static FALLIBLE print(const json_t *v)
{
	auto_buf struct buf b = BUF(16 << 20);

	json_print_indent(v, 2, &b);
	(void)printf("%s\n", buf_text(&b));
	return NULL;
}

static FALLIBLE one_id(char *argv[])
{
	return argv[0] && !argv[1] ? NULL : FAIL(ERR_INVALID, "exactly one container ID is needed");
}

static FALLIBLE cmd_state(const struct oci *o, char *argv[], int *out_exit)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
	auto_json json_t *doc = NULL;

	(void)out_exit;
	TRY(one_id(argv));
	TRY(oci_box_open(o, argv[0], &b));
	doc = oci_box_document(&b);
	return print(doc);
}

static FALLIBLE cmd_list(const struct oci *o, char *argv[], int *out_exit)
{
	const char *format = "table";
	bool quiet = false;
	const struct oci_opt opts[] = { { "format", 'f', 's', &format }, { "quiet", 'q', 'f', &quiet }, { NULL, 0, 0, NULL } };
	auto_fd int root = sys_open_dir(o->root);
	auto_list char **names = NULL;
	auto_json json_t *all = json_array();
	int at = 0;

	(void)out_exit;
	TRY(oci_options(opts, argv, &at));
	if (strcmp(format, "table") != 0 && strcmp(format, "json") != 0)
		return FAIL(ERR_INVALID, "unknown format \"%s\": table or json", format);
	if (root >= 0 && fs_list(root, &names) < 0)
		names = NULL;
	if (strcmp(format, "table") == 0 && !quiet)
		(void)printf("%-32s %-8s %-10s %s\n", "ID", "PID", "STATUS", "BUNDLE");
	for (size_t i = 0; names && names[i]; i++) {
		CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
		struct err *e = oci_box_open(o, names[i], &b);
		json_t *doc;

		if (e) { /* being created or deleted */
			err_free(e);
			continue;
		}
		doc = oci_box_document(&b);
		(void)json_array_append_new(all, doc);
		if (quiet)
			(void)printf("%s\n", b.id);
		else if (strcmp(format, "table") == 0)
			(void)printf("%-32s %-8lld %-10s %s\n", b.id, (long long)json_int_at(doc, "pid", 0),
				     json_str_at(doc, "status", ""), json_str_at(doc, "bundle", ""));
	}
	return strcmp(format, "json") == 0 && !quiet ? print(all) : NULL;
}

/* ---- kill, delete ---- */

static FALLIBLE signal_of(const char *text, int *out)
{
	static const struct {
		const char *name;
		int number;
	} all[] = { { "HUP", SIGHUP },	 { "INT", SIGINT },   { "QUIT", SIGQUIT }, { "KILL", SIGKILL }, { "USR1", SIGUSR1 },
		    { "USR2", SIGUSR2 }, { "TERM", SIGTERM }, { "CONT", SIGCONT }, { "STOP", SIGSTOP }, { "WINCH", SIGWINCH },
		    { "ALRM", SIGALRM }, { "ABRT", SIGABRT }, { "SEGV", SIGSEGV }, { "PIPE", SIGPIPE }, { "CHLD", SIGCHLD },
		    { "TSTP", SIGTSTP }, { "TTIN", SIGTTIN }, { "TTOU", SIGTTOU }, { "URG", SIGURG },	{ "IO", SIGIO },
		    { "PWR", SIGPWR },	 { "SYS", SIGSYS },   { "TRAP", SIGTRAP }, { "BUS", SIGBUS },	{ "FPE", SIGFPE },
		    { "ILL", SIGILL },	 { "PROF", SIGPROF }, { "XCPU", SIGXCPU }, { "XFSZ", SIGXFSZ }, { "VTALRM", SIGVTALRM } };
	const char *name = strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text;
	uint64_t n;
	struct err *e = num_parse(sv_of(text), 10, 0, 64, &n);

	if (!e) {
		*out = (int)n;
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

static FALLIBLE cmd_kill(const struct oci *o, char *argv[], int *out_exit)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
	bool all = false;
	const struct oci_opt opts[] = { { "all", 'a', 'f', &all }, { NULL, 0, 0, NULL } };
	int at = 0, signo = SIGTERM, r;

	(void)out_exit;
	TRY(oci_options(opts, argv, &at));
	if (!argv[at] || (argv[at + 1] && argv[at + 2]))
		return FAIL(ERR_INVALID, "a container ID and at most one signal are needed");
	if (argv[at + 1])
		TRY(signal_of(argv[at + 1], &signo));
	TRY(oci_box_open(o, argv[at], &b));
	if (all)
		return runtime_kill_all(oci_box_cgroup(&b), signo);
	if (oci_box_status(&b) == OCI_STOPPED)
		return FAIL(ERR_CONFLICT, "container not running");
	r = sys_pid_kill(b.pid, signo);
	return r < 0 ? FAIL_OS(-r, "signal container \"%s\"", b.id) : NULL;
}

/* The first process is not our child: gone when its start time is not that any more. */
static bool wait_gone(const struct oci_box *b, int timeout_ms)
{
	int64_t until = time_monotonic_ns() + (int64_t)timeout_ms * 1000000;

	while (oci_box_status(b) != OCI_STOPPED) {
		if (time_monotonic_ns() > until)
			return false;
		(void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
	return true;
}

static FALLIBLE cmd_delete(const struct oci *o, char *argv[], int *out_exit)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
	bool force = false;
	const struct oci_opt opts[] = { { "force", 'f', 'f', &force }, { NULL, 0, 0, NULL } };
	struct plan *plan = NULL;
	struct err *e;
	int at = 0;

	(void)out_exit;
	TRY(oci_options(opts, argv, &at));
	TRY(one_id(argv + at));
	e = oci_box_open(o, argv[at], &b);
	if (e && force && e->kind == ERR_NOT_FOUND) {
		err_free(e);
		return NULL;
	}
	TRY(e);
	if (oci_box_status(&b) != OCI_STOPPED && oci_box_status(&b) != OCI_CREATED && !force)
		return FAIL(ERR_CONFLICT, "cannot delete container \"%s\" that is not stopped: %s", b.id,
			    oci_status_name(oci_box_status(&b)));
	if (oci_box_status(&b) != OCI_STOPPED) {
		(void)sys_pid_kill(b.pid, SIGKILL);
		TRY(runtime_kill_all(oci_box_cgroup(&b), SIGKILL));
		if (!wait_gone(&b, 10000))
			return FAIL(ERR_TIMEOUT, "container \"%s\" does not end", b.id);
	}
	TRY(runtime_cgroup_remove(oci_box_cgroup(&b)));
	e = oci_box_plan(o, &b, &plan);
	if (!e)
		e = runtime_hooks(plan, "poststop", "stopped", 0);
	if (e) { /* the specification: a warning */
		(void)fprintf(stderr, "hoy-runtime: warning: %s\n", e->msg);
		err_free(e);
	}
	plan_free(plan);
	return oci_box_remove(&b);
}

/* ---- pause, ps, features, spec ---- */

static FALLIBLE freeze(const struct oci *o, char *argv[], bool frozen)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };

	TRY(one_id(argv));
	TRY(oci_box_open(o, argv[0], &b));
	if (oci_box_status(&b) != (frozen ? OCI_RUNNING : OCI_PAUSED))
		return FAIL(ERR_CONFLICT, "container \"%s\" is %s", b.id, oci_status_name(oci_box_status(&b)));
	return runtime_freeze(oci_box_cgroup(&b), frozen);
}

static FALLIBLE cmd_pause(const struct oci *o, char *argv[], int *out_exit)
{
	(void)out_exit;
	return freeze(o, argv, true);
}

static FALLIBLE cmd_resume(const struct oci *o, char *argv[], int *out_exit)
{
	(void)out_exit;
	return freeze(o, argv, false);
}

static FALLIBLE cmd_ps(const struct oci *o, char *argv[], int *out_exit)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
	const char *format = "table";
	const struct oci_opt opts[] = { { "format", 'f', 's', &format }, { NULL, 0, 0, NULL } };
	auto_json json_t *list = json_array();
	auto_free pid_t *pids = NULL;
	size_t n = 0;
	int at = 0;

	(void)out_exit;
	TRY(oci_options(opts, argv, &at));
	if (!argv[at])
		return FAIL(ERR_INVALID, "a container ID is needed");
	TRY(oci_box_open(o, argv[at], &b));
	TRY(runtime_pids(oci_box_cgroup(&b), &pids, &n));
	if (strcmp(format, "json") != 0)
		(void)printf("PID\n");
	for (size_t i = 0; i < n; i++) {
		(void)json_array_append_new(list, json_integer(pids[i]));
		if (strcmp(format, "json") != 0)
			(void)printf("%d\n", (int)pids[i]);
	}
	return strcmp(format, "json") == 0 ? print(list) : NULL;
}

static FALLIBLE cmd_features(const struct oci *o, char *argv[], int *out_exit)
{
	auto_json json_t *v = NULL, *caps = json_array();

	(void)o;
	(void)argv;
	(void)out_exit;
	for (int i = 0; runtime_cap_name(i); i++)
		(void)json_array_append_new(caps, json_string(runtime_cap_name(i)));
	v = json_pack("{s:s, s:s, s:[ssssss], s:{s:[sssssss], s:O, s:{s:b, s:b, s:b}, s:{s:b}}}", "ociVersionMin", "1.0.0",
		      "ociVersionMax", "1.2.0", "hooks", "prestart", "createRuntime", "createContainer", "startContainer",
		      "poststart", "poststop", "linux", "namespaces", "cgroup", "ipc", "mount", "network", "pid", "user", "uts",
		      "capabilities", caps, "cgroup", "v1", true, "v2", true, "systemd", false, "seccomp", "enabled", true);
	return print(v);
}

/* ---- main ---- */

static const struct {
	const char *name;
	struct err *(*run)(const struct oci *o, char *argv[], int *out_exit);
} commands[] = { { "create", oci_create }, { "start", oci_start },   { "run", oci_run },	     { "exec", oci_exec },
		 { "state", cmd_state },   { "list", cmd_list },     { "kill", cmd_kill },   { "delete", cmd_delete },
		 { "pause", cmd_pause },   { "resume", cmd_resume }, { "ps", cmd_ps },	     { "features", cmd_features } };

static int usage(FILE *to)
{
	(void)fprintf(to, "Usage: hoy-runtime [OPTIONS] COMMAND [OPTIONS] ID\n\nAn OCI runtime.\n\nCommands:");
	for (size_t i = 0; i < LEN(commands); i++)
		(void)fprintf(to, " %s", commands[i].name);
	(void)fprintf(to, "\n\nOptions:\n  --root DIR            where containers are kept (/run/hoy-runtime)\n"
			  "  --log FILE            write errors there too\n  --log-format FORMAT   text or json\n"
			  "  --debug, --version, --help\n");
	return to == stderr ? 1 : 0;
}

/* Callers read the log file; people read standard error. */
static void report(const struct oci *o, const struct err *e)
{
	auto_fd int fd = o->log ? sys_open(o->log, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
	auto_buf struct buf b = BUF(65536);
	char now[TIME_TEXT_MAX];

	(void)time_format(time_now_ns(), now);
	if (o->log_format && strcmp(o->log_format, "json") == 0) {
		auto_json json_t *v = json_pack("{s:s, s:s, s:s}", "msg", e->msg, "level", "error", "time", now);

		json_print(v, &b);
	} else {
		buf_fmt(&b, "time=\"%s\" level=error msg=\"%s\"", now, e->msg);
	}
	buf_ch(&b, '\n');
	if (fd >= 0)
		(void)sys_write_all(fd, buf_text(&b), b.n);
	(void)fprintf(stderr, "hoy-runtime: %s\n", e->msg);
}

int oci_main(int argc, char *argv[])
{
	struct oci o = { .root = "/run/hoy-runtime", .cgroup_manager = "cgroupfs" };
	const char *rootless = NULL;
	bool version = false, help = false, systemd = false;
	const struct oci_opt opts[] = { { "root", 0, 's', &o.root },
					{ "log", 0, 's', &o.log },
					{ "log-format", 0, 's', &o.log_format },
					{ "cgroup-manager", 0, 's', &o.cgroup_manager },
					{ "rootless", 0, 's', &rootless },
					{ "debug", 0, 'f', &o.debug },
					{ "systemd-cgroup", 0, 'f', &systemd },
					{ "version", 'v', 'f', &version },
					{ "help", 'h', 'f', &help },
					{ NULL, 0, 0, NULL } };
	int at = 1, code = 0;
	struct err *e = argc > 0 ? oci_options(opts, argv, &at) : NULL;

	if (!e && version) {
		(void)printf("hoy-runtime version %s\nspec: 1.0.2\n", HOY_VERSION);
		return 0;
	}
	if (!e && (systemd || strcmp(o.cgroup_manager, "cgroupfs") != 0))
		e = FAIL(ERR_UNSUPPORTED, "cgroup manager \"%s\" is not supported: only cgroupfs is",
			 systemd ? "systemd" : o.cgroup_manager);
	if (!e && (help || !argv[at]))
		return usage(help ? stdout : stderr);
	if (!e) {
		size_t i = 0;

		while (i < LEN(commands) && strcmp(commands[i].name, argv[at]) != 0)
			i++;
		e = i < LEN(commands) ? commands[i].run(&o, argv + at + 1, &code) :
					FAIL(ERR_INVALID, "unknown command \"%s\"", argv[at]);
	}
	if (!e)
		return fflush(stdout) == 0 ? code : 1;
	report(&o, e);
	err_free(e);
	return code > 0 ? code : 1;
}
