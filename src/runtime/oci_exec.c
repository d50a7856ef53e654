/* oci_exec.c - a further process in a running container. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "runtime/caps.h"
#include "runtime/oci.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

struct exec {
	const char *process, *pid_file, *console, *pidfd_socket, *cwd, *user, *preserve, *cgroup, *label,
	    *profile;
	char **env, **caps, **groups;
	bool detach, tty, no_new_privs, ignore_paused;
};
#define AT(field) offsetof(struct exec, field)
static const struct oci_opt exec_opts[] = {
	{ OCI_STR, 'p', "process", "FILE", AT(process), "the whole process as OCI JSON" },
	{ OCI_STR, 0, "cwd", "DIR", AT(cwd), "working directory" },
	{ OCI_LIST, 'e', "env", "NAME=VALUE", AT(env), "set an environment variable" },
	{ OCI_FLAG, 't', "tty", NULL, AT(tty), "allocate a terminal" },
	{ OCI_STR, 'u', "user", "UID[:GID]", AT(user), "user and group" },
	{ OCI_LIST, 'g', "additional-gids", "GID", AT(groups),
	  "a supplementary group; several may be separated by commas" },
	{ OCI_LIST, 'c', "cap", "CAP", AT(caps), "add a capability" },
	{ OCI_STR, 0, "apparmor", "PROFILE", AT(profile), "AppArmor profile" },
	{ OCI_STR, 0, "process-label", "LABEL", AT(label), "SELinux label" },
	{ OCI_FLAG, 0, "no-new-privs", NULL, AT(no_new_privs), "no new privileges by exec" },
	{ OCI_STR, 0, "cgroup", "[CONTROLLER,...:]PATH", AT(cgroup),
	  "a control group below the container's" },
	{ OCI_STR, 0, "console-socket", "PATH", AT(console), "send the terminal's master to this socket" },
	{ OCI_STR, 0, "pidfd-socket", "PATH", AT(pidfd_socket),
	  "send a pidfd of the process to this socket" },
	{ OCI_STR, 0, "pid-file", "FILE", AT(pid_file), "write the pid there" },
	{ OCI_STR, 0, "preserve-fds", "N", AT(preserve),
	  "pass N descriptors from 3 on (besides $LISTEN_FDS)" },
	{ OCI_FLAG, 'd', "detach", NULL, AT(detach), "do not wait for the end" },
	{ OCI_FLAG, 0, "ignore-paused", NULL, AT(ignore_paused),
	  "also in a paused container: it runs when that is resumed" },
	{ OCI_ACCEPT, 0, "no-subreaper", NULL, 0, "accepted: nothing here needs a subreaper" },
	{ .kind = OCI_END },
};

static FALLIBLE set_user(const char *text, json_t *process)
{
	struct sv rest = sv_of(text), uid = sv_cut(&rest, ':');
	uint64_t u, g = 0;
	struct err *e = num_parse(uid, 10, 0, UINT32_MAX - 1, &u);

	if (!e && rest.n)
		e = num_parse(rest, 10, 0, UINT32_MAX - 1, &g);
	if (e)
		return err_ctx(e, "--user %s", text);
	(void)json_object_set_new(process, "user",
				  json_pack("{s:I, s:I}", "uid", (json_int_t)u, "gid", (json_int_t)g));
	return NULL;
}

static FALLIBLE add_groups(char *const *groups, json_t *process)
{
	json_t *list = json_array();

	(void)json_object_set_new(json_object_get(process, "user"), "additionalGids", list);
	for (size_t i = 0; groups && groups[i]; i++)
		for (struct sv rest = sv_of(groups[i]); rest.n;) {
			uint64_t gid;
			struct err *e = num_parse(sv_cut(&rest, ','), 10, 0, UINT32_MAX - 1, &gid);

			if (e)
				return err_ctx(e, "--additional-gids %s", groups[i]);
			(void)json_array_append_new(list, json_integer((json_int_t)gid));
		}
	return NULL;
}

/* As runc: into all sets but the ambient one; the inheritable one only where the container uses it. */
static FALLIBLE add_caps(char *const *names, json_t *process)
{
	static const char *const sets[] = { "bounding", "effective", "permitted" };
	json_t *caps = json_object_get(process, "capabilities");

	if (names && names[0] && !caps) {
		caps = json_object();
		(void)json_object_set_new(process, "capabilities", caps);
	}
	for (size_t i = 0; names && names[i]; i++) {
		if (runtime_cap_number(names[i]) < 0)
			return FAIL(ERR_INVALID, "unknown capability \"%s\"", names[i]);
		for (size_t k = 0; k < LEN(sets); k++) {
			json_t *set = json_object_get(caps, sets[k]);

			if (!set)
				(void)json_object_set_new(caps, sets[k], set = json_array());
			(void)json_array_append_new(set, json_string(names[i]));
		}
	}
	return NULL;
}

static FALLIBLE add_env(char *const *more, json_t *process)
{
	auto_list char **env = NULL;

	if (!more)
		return NULL;
	TRY(json_list_at(process, "env", &env));
	for (size_t i = 0; more[i]; i++) {
		if (!strchr(more[i], '='))
			return FAIL(ERR_INVALID, "--env %s: NAME=VALUE is needed", more[i]);
		text_env_set(&env, more[i]);
	}
	(void)json_object_set_new(process, "env", json_from_list(env));
	return NULL;
}

/* The process of the configuration with what the options change, or the file's. */
static FALLIBLE process_of(const struct exec *x, const struct oci_box *b, char *const *args,
			   json_t **out_process)
{
	bool changed = false; /* it is not kept */
	auto_json json_t *p = NULL;

	if (x->process && args[0])
		return FAIL(ERR_INVALID, "--process has the command already: \"%s\" is too much", args[0]);
	if (!x->process && !args[0])
		return FAIL(ERR_INVALID, "no command to execute");
	if (x->process)
		TRY(oci_read_json(x->process, x->process, &p));
	else
		p = json_deep_copy(json_object_get(b->config, "process"));
	if (x->process && !json_object_get(p, "capabilities")) /* the container's, as runc has it */
		(void)json_object_set_new(p, "capabilities",
					  json_deep_copy(json_at(b->config, "process.capabilities")));
	if (args[0]) {
		(void)json_object_set_new(p, "args", json_from_list(args));
		(void)json_object_set_new(p, "terminal", json_boolean(x->tty));
	} else if (x->tty) {
		(void)json_object_set_new(p, "terminal", json_true());
	}
	if (x->cwd)
		(void)json_object_set_new(p, "cwd", json_string(x->cwd));
	if (x->no_new_privs)
		(void)json_object_set_new(p, "noNewPrivileges", json_true());
	if (x->profile)
		(void)json_object_set_new(p, "apparmorProfile", json_string(x->profile));
	if (x->label)
		(void)json_object_set_new(p, "selinuxLabel", json_string(x->label));
	if (x->user)
		TRY(set_user(x->user, p));
	if (x->groups)
		TRY(add_groups(x->groups, p));
	TRY(add_env(x->env, p));
	TRY(add_caps(x->caps, p));
	TRY(oci_listen_env(p, &changed));
	*out_process = TAKE(p);
	return NULL;
}

struct place {
	const char *cgroup, *sub;
};

static struct err *into_sub(void *ctx, pid_t pid)
{
	const struct place *p = ctx;

	return oci_cgroup_join_sub(p->cgroup, p->sub, pid);
}

static FALLIBLE check(const struct exec *x, const struct oci_box *b)
{
	enum oci_status status = oci_box_status(b);

	if (status == OCI_STOPPED)
		return FAIL(ERR_CONFLICT, "cannot exec in a stopped container: container not running: \"%s\"",
			    b->id);
	if (status == OCI_PAUSED && !x->ignore_paused)
		return FAIL(ERR_CONFLICT,
			    "cannot exec in a paused container (use --ignore-paused to override): \"%s\"",
			    b->id);
	if (x->cgroup) {
		TRY(oci_box_need_cgroup(b));
		TRY(oci_cgroup_check_sub(x->cgroup));
	}
	return NULL;
}

static FALLIBLE launch(const struct exec *x, const struct oci_box *b, char *const *args, unsigned preserve,
		       struct runtime_proc *out_proc)
{
	struct place place = { oci_box_cgroup(b), x->cgroup };
	struct runtime_stdio io = { .fd = { 0, 1, 2 }, .null_streams = oci_null_streams(), .preserve_fds = preserve, .one_shot = geteuid() != 0 };
	struct plan_opts po = { .id = b->id,
				.cgroup_path = place.cgroup,
				.no_cgroup = !*place.cgroup,
				.container = b->config,
				.bundle = json_str_at(b->state, "bundle", ""),
				.oci_annotations = true };
	auto_json json_t *process = NULL;
	struct plan *plan = NULL;
	struct err *e;

	if (x->cgroup) {
		io.on_born = into_sub;
		io.ctx = &place;
	}
	TRY(process_of(x, b, args, &process));
	if (x->console && !json_bool_at(process, "terminal", false))
		return FAIL(ERR_INVALID, "--console-socket is only for a process with a terminal (--tty)");
	if (x->detach && !x->console && json_bool_at(process, "terminal", false))
		return FAIL(ERR_INVALID, "a detached process with a terminal: use --console-socket");
	TRY(plan_compile_exec(process, &po, b->pid, &plan));
	e = runtime_exec(plan, b->pid, &io, out_proc);
	plan_free(plan);
	return e;
}

static FALLIBLE announce(const struct exec *x, struct runtime_proc *proc)
{
	if (x->console && proc->tty_fd >= 0) {
		TRY(oci_send_fd(x->console, "/dev/ptmx", proc->tty_fd));
		own_close(&proc->tty_fd);
		proc->tty_fd = -1;
	}
	if (x->pidfd_socket)
		TRY(oci_send_fd(x->pidfd_socket, "setns", proc->pid_fd));
	return oci_write_pid(x->pid_file, proc->pid);
}

static struct err *run_exec(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	const struct exec *x = conf;
	auto_fd int sig_fd = -1;
	unsigned preserve;
	struct err *e;

	*out_exit = 255; /* as runc: told apart from what a program says */
	TRY(oci_preserve(x->preserve, &preserve));
	TRY(oci_box_open(o, args[0], false, &b));
	TRY(check(x, &b));
	if (!x->detach && (sig_fd = oci_signals()) < 0)
		return FAIL_OS(-sig_fd, "take over signals");
	TRY(launch(x, &b, args + 1, preserve, &proc));
	e = announce(x, &proc);
	if (e)
		(void)sys_pid_fd_kill(proc.pid_fd, SIGKILL);
	else if (x->detach)
		*out_exit = 0;
	else
		e = oci_wait(&proc, sig_fd, NULL, out_exit);
	runtime_proc_fini(&proc);
	return e;
}

const struct oci_cmd oci_cmd_exec = {
	.name = "exec",
	.args = "CONTAINER cmd [ARG...]",
	.summary = "Run a further process in a container",
	.opts = exec_opts,
	.conf_size = sizeof(struct exec),
	.min_args = 1,
	.max_args = -1,
	.stop_at_arg = true,
	.run = run_exec,
};
