/* oci.c - the OCI command line: global options, the table of commands, errors as callers read them. */
#include "runtime/oci.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "sys/sys.h"
#include <ctype.h>
#include <fcntl.h>
#include <stdio.h>

#define AT(field) offsetof(struct oci, field)
static const struct oci_opt globals[] = {
	{ OCI_STR, 0, "root", "DIR", AT(root), "where containers are kept (/run/hoy-runtime)" },
	{ OCI_STR, 0, "log", "FILE", AT(log), "write errors there too" },
	{ OCI_STR, 0, "log-format", "FORMAT", AT(log_format), "text (default) or json" },
	{ OCI_STR, 0, "cgroup-manager", "NAME", AT(manager_name), "cgroupfs (default), systemd or disabled" },
	{ OCI_FLAG, 0, "systemd-cgroup", NULL, AT(systemd), "the same as --cgroup-manager=systemd" },
	{ OCI_STR, 0, "rootless", "VALUE", AT(rootless_text),
	  "true, false or auto (default): do without control groups that may not be made when nothing is "
	  "limited" },
	{ OCI_STR, 0, "criu", "PROGRAM", AT(criu), "for checkpoint and restore (criu, searched in PATH)" },
	{ OCI_FLAG, 0, "debug", NULL, AT(debug), "tell where in the source an error began" },
	{ OCI_FLAG, 'v', "version", NULL, AT(version), "print the version" },
	{ .kind = OCI_END },
};
static const struct oci_cmd program = {
	.name = "COMMAND",
	.args = "[OPTION...] [ARG...]",
	.summary = "An OCI runtime",
	.opts = globals,
	.conf_size = sizeof(struct oci),
	.min_args = 0,
	.max_args = -1,
	.stop_at_arg = true,
};
static const struct oci_cmd *const commands[] = {
	&oci_cmd_create,
	&oci_cmd_start,
	&oci_cmd_run,
	&oci_cmd_exec,
	&oci_cmd_kill,
	&oci_cmd_delete,
	&oci_cmd_state,
	&oci_cmd_list,
	&oci_cmd_ps,
	&oci_cmd_pause,
	&oci_cmd_resume,
	&oci_cmd_update,
	&oci_cmd_events,
	&oci_cmd_checkpoint,
	&oci_cmd_restore,
	&oci_cmd_mounts,
	&oci_cmd_spec,
	&oci_cmd_features,
	NULL,
};

static int usage(FILE *to, const char *name)
{
	oci_usage(to, name, &program);
	(void)fprintf(to, "\nCOMMANDS:\n");
	for (const struct oci_cmd *const *c = commands; *c; c++)
		(void)fprintf(to, "  %-12s %s\n", (*c)->name, (*c)->summary);
	return to == stderr ? 1 : 0;
}

/*
 * The message as callers match it: docker tells "not found" (127) and "not executable" (126) apart by Go's
 * words for the errors of an exec, which begin in lower case.
 */
static char *message(const struct oci *o, const struct err *e)
{
	char *text = o->debug ? xasprintf("%s (%s)", e->msg, e->at) : xstrdup(e->msg);
	char *at = strncmp(text, "exec: ", 6) == 0 && e->os ? strstr(text, strerror(e->os)) : NULL;

	if (at)
		*at = (char)tolower(*at);
	return text;
}

/* Callers read the log file; people read standard error. */
static void report(const struct oci *o, const struct err *e)
{
	bool as_json = o->log_format && strcmp(o->log_format, "json") == 0;
	auto_fd int fd = o->log ? sys_open(o->log, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
	auto_free char *text = message(o, e);
	auto_buf struct buf b = BUF(65536);
	char now[TIME_TEXT_MAX];

	(void)time_format(time_now_ns(), now);
	if (as_json) {
		auto_json json_t *v =
		    json_pack("{s:s, s:s, s:s}", "msg", text, "level", "error", "time", now);

		json_print(v, &b);
	} else {
		buf_fmt(&b, "time=\"%s\" level=error msg=\"%s\"", now, text);
	}
	buf_ch(&b, '\n');
	if (fd >= 0)
		(void)sys_write_all(fd, buf_text(&b), b.n);
	if (as_json && !o->log)
		(void)fprintf(stderr, "%s", buf_text(&b));
	else
		(void)fprintf(stderr, "%s: %s\n", o->program, text);
}

static int version(const struct oci *o)
{
	(void)printf(
	    "%s version %s\ncommit: %s\nspec: 1.3.0\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU\n",
	    o->program, HOY_VERSION, HOY_VERSION);
	return 0;
}

static FALLIBLE check_log(struct oci *o)
{
	auto_fd int fd = -1;

	if (o->log_format && strcmp(o->log_format, "text") != 0 && strcmp(o->log_format, "json") != 0) {
		const char *bad = o->log_format;

		o->log_format = NULL;
		return FAIL(ERR_INVALID, "unknown log-format \"%s\": text or json", bad);
	}
	if (!o->log)
		return NULL;
	if (strncmp(o->log, "file:", 5) == 0)
		o->log += 5;
	if (strncmp(o->log, "journald:", 9) == 0 || strncmp(o->log, "syslog:", 7) == 0) {
		const char *bad = o->log;

		o->log = NULL;
		return FAIL(ERR_UNSUPPORTED, "--log=%s: only files are supported", bad);
	}
	fd = sys_open(o->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
	if (fd < 0) {
		const char *bad = o->log;

		o->log = NULL;
		return FAIL_OS(-fd, "open log %s", bad);
	}
	return NULL;
}

static FALLIBLE check_globals(struct oci *o)
{
	const char *m = o->manager_name ? o->manager_name : o->systemd ? "systemd" : "cgroupfs";
	const char *r = o->rootless_text ? o->rootless_text : "auto";

	TRY(check_log(o));
	if (strcmp(m, "cgroupfs") == 0)
		o->manager = OCI_CGROUPFS;
	else if (strcmp(m, "systemd") == 0)
		o->manager = OCI_SYSTEMD;
	else if (strcmp(m, "disabled") == 0)
		o->manager = OCI_NO_CGROUPS;
	else
		return FAIL(ERR_INVALID, "unknown cgroup manager \"%s\": cgroupfs, systemd or disabled", m);
	if (strcmp(r, "true") != 0 && strcmp(r, "false") != 0 && strcmp(r, "auto") != 0)
		return FAIL(ERR_INVALID, "--rootless=%s: true, false or auto", r);
	o->rootless = strcmp(r, "true") == 0 || (strcmp(r, "auto") == 0 && geteuid() != 0);
	return NULL;
}

static FALLIBLE run_command(const struct oci *o, const struct oci_cmd *c, char *argv[], int *out_exit)
{
	auto_free void *conf = xcalloc(1, c->conf_size + 1);
	auto_free char **args = NULL;
	bool help = false;
	struct err *e = oci_parse(c, argv, conf, &args, &help);

	if (!e && help)
		oci_usage(stdout, o->program, c);
	else if (!e)
		e = c->run(o, conf, args, out_exit);
	oci_conf_fini(c, conf);
	return e;
}

static FALLIBLE dispatch(struct oci *o, char *argv[], int *out_exit)
{
	TRY(check_globals(o));
	for (const struct oci_cmd *const *c = commands; *c; c++)
		if (strcmp((*c)->name, argv[0]) == 0)
			return run_command(o, *c, argv + 1, out_exit);
	return FAIL(ERR_INVALID, "unknown command \"%s\"; %s --help tells them all", argv[0], o->program);
}

int oci_main(int argc, char *argv[])
{
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
	const char *run_dir = geteuid() != 0 ? getenv("XDG_RUNTIME_DIR") : NULL;
	auto_free char *root = run_dir ? xasprintf("%s/hoy-runtime", run_dir) : xstrdup("/run/hoy-runtime");
	struct oci o = { .program = slash      ? slash + 1
				    : argc > 0 ? argv[0]
					       : "hoy-runtime",
			 .root = root,
			 .criu = "criu" };
	auto_free char **args = NULL;
	bool help = false;
	int code = 0;
	struct err *e = argc > 0 ? oci_parse(&program, argv + 1, &o, &args, &help) : NULL;

	if (!e && help)
		return usage(stdout, o.program);
	if (!e && o.version)
		return version(&o);
	if (!e && (!args || !args[0]))
		return usage(stderr, o.program);
	if (!e && strcmp(args[0], "man-page") == 0)
		oci_man(globals, commands);
	else if (!e && strcmp(args[0], "help") == 0)
		return usage(stdout, o.program);
	else if (!e)
		e = dispatch(&o, args, &code);
	if (!e)
		return fflush(stdout) == 0 ? code : 1;
	report(&o, e);
	err_free(e);
	return code > 0 ? code : 1;
}
