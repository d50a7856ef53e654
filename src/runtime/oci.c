/* oci.c - the OCI command line: global options, the table of commands, errors as callers read them. */
#include "runtime/oci.h"
#include "base/buf.h"
#include "base/mem.h"
#include "base/own.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <stdio.h>

#define AT(field) offsetof(struct oci, field)
static const struct oci_opt globals[] = {
	{ OCI_STR, 0, "root", "DIR", AT(root), "where containers are kept (/run/hoy-runtime)" },
	{ OCI_STR, 0, "log", "FILE", AT(log), "write errors there too; or journald:NAME, syslog:NAME" },
	{ OCI_STR, 0, "log-format", "FORMAT", AT(log_format), "text (default) or json" },
	{ OCI_STR, 0, "log-level", "LEVEL", AT(log_level), "error, warning (default) or debug" },
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

static int version(const struct oci *o)
{
	(void)printf(
	    "%s version %s\ncommit: %s\nspec: 1.3.0\n+SYSTEMD +SELINUX +APPARMOR +CAP +SECCOMP +EBPF +CRIU\n",
	    o->program, HOY_VERSION, HOY_VERSION);
	return 0;
}

static FALLIBLE check_globals(struct oci *o)
{
	const char *m = o->manager_name ? o->manager_name : o->systemd ? "systemd" : "cgroupfs";
	const char *r = o->rootless_text ? o->rootless_text : "auto";

	TRY(oci_log_check(o));
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
	if (o.root == root) /* ours and nobody else's: it goes with the last container */
		(void)sys_rmdir(AT_FDCWD, root);
	if (!e)
		return fflush(stdout) == 0 ? code : 1;
	oci_report(&o, e);
	err_free(e);
	return code > 0 ? code : 1;
}
