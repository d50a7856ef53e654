/* oci_create.c - create, start, run and exec of the OCI command line. */
#include "base/mem.h"
#include "base/num.h"
#include "base/own.h"
#include "base/text.h"
#include "base/time.h"
#include "runtime/caps.h"
#include "runtime/oci.h"
#include "state/record.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>

struct create {
	const char *bundle, *config, *pid_file, *console, *preserve, *cgroup, *ignored;
	bool no_pivot, no_keyring, detach, keep, flag;
};

static FALLIBLE create_options(struct create *c, char *argv[], const char **out_id)
{
	const struct oci_opt opts[] = { { "bundle", 'b', 's', &c->bundle },
					{ "config", 0, 's', &c->config },
					{ "pid-file", 0, 's', &c->pid_file },
					{ "console-socket", 0, 's', &c->console },
					{ "preserve-fds", 0, 's', &c->preserve },
					{ "no-pivot", 0, 'f', &c->no_pivot },
					{ "no-new-keyring", 0, 'f', &c->no_keyring },
					{ "no-subreaper", 0, 'x', &c->flag },
					{ "detach", 'd', 'f', &c->detach },
					{ "keep", 0, 'f', &c->keep },
					{ NULL, 0, 0, NULL } };
	int at = 0;

	TRY(oci_options(opts, argv, &at));
	if (!argv[at] || argv[at + 1])
		return FAIL(ERR_INVALID, "exactly one container ID is needed");
	*out_id = argv[at];
	return NULL;
}

static FALLIBLE read_bundle(const struct create *c, struct oci_box *b)
{
	char path[PATH_MAX];
	auto_free char *bundle = realpath(c->bundle ? c->bundle : ".", NULL), *config = NULL, *rootfs = NULL;
	auto_fd int fd = -1;
	const char *root;

	if (!bundle)
		return FAIL_OS(errno, "bundle %s", c->bundle);
	(void)snprintf(path, sizeof path, "%s/config.json", bundle);
	config = xstrdup(c->config ? c->config : path);
	if ((fd = sys_open(config, O_RDONLY, 0)) < 0)
		return FAIL_OS(-fd, "open %s", config);
	TRY(json_read(fd, "config.json", 4 << 20, &b->config));
	root = json_str_at(b->config, "root.path", "");
	rootfs = root[0] == '/' ? xstrdup(root) : xasprintf("%s/%s", bundle, root);
	b->state = json_pack("{s:s, s:s, s:b, s:b}", "bundle", bundle, "rootfs", rootfs, "noPivot", c->no_pivot, "noKeyring",
			     c->no_keyring);
	return NULL;
}

/* As the callers write it: "/parent/id", "slice:prefix:name" (the systemd form); nothing: the id. */
static char *cgroup_of(const json_t *config, const char *id)
{
	const char *path = json_str_at(config, "linux.cgroupsPath", "");
	struct sv rest = sv_of(path), slice, prefix;

	if (!*path)
		return xstrdup(id);
	if (path[0] == '/' || !strchr(path, ':'))
		return xstrdup(path + strspn(path, "/"));
	slice = sv_cut(&rest, ':');
	prefix = sv_cut(&rest, ':');
	return xasprintf("%.*s/%.*s-%.*s.scope", SV_ARG(slice), SV_ARG(prefix), SV_ARG(rest));
}

static FALLIBLE write_pid(const char *path, pid_t pid)
{
	auto_free char *part = NULL;
	auto_fd int fd = -1;
	char text[16];
	int n = snprintf(text, sizeof text, "%d", (int)pid), r;

	if (!path)
		return NULL;
	part = xasprintf("%s.part", path);
	fd = sys_open(part, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	r = fd < 0 ? fd : sys_write_all(fd, text, (size_t)n);
	if (r >= 0)
		r = sys_rename(AT_FDCWD, part, path);
	return r < 0 ? FAIL_OS(-r, "write %s", path) : NULL;
}

FALLIBLE oci_send_console(const char *socket_path, int tty_fd)
{
	auto_fd int sock = sys_unix_connect_stream(socket_path);
	ssize_t n;

	if (sock < 0)
		return FAIL_OS(-sock, "connect to console socket %s", socket_path);
	n = sys_send_fds(sock, "/dev/ptmx", 9, &tty_fd, 1);
	return n < 0 ? FAIL_OS((int)-n, "send the terminal to %s", socket_path) : NULL;
}

static FALLIBLE listen_for_start(struct oci_box *b, int *out_fd)
{
	char path[64];
	int fd, r;

	(void)snprintf(path, sizeof path, "/proc/self/fd/%d/start", b->dir_fd);
	fd = sys_unix_listen(path);
	if (fd < 0)
		return FAIL_OS(-fd, "make the start socket of \"%s\"", b->id);
	*out_fd = fd;
	r = sys_nonblock(fd, false);
	return r < 0 ? FAIL_OS(-r, "set up the start socket") : NULL;
}

static FALLIBLE check_console(const struct create *c, const struct oci_box *b, bool foreground)
{
	bool terminal = json_bool_at(b->config, "process.terminal", false);

	if (terminal && !c->console && !foreground)
		return FAIL(ERR_INVALID, "process.terminal is set: --console-socket is needed");
	if (!terminal && c->console)
		return FAIL(ERR_INVALID, "--console-socket is only for a container with process.terminal");
	return NULL;
}

static FALLIBLE preserved(const struct create *c, unsigned *out)
{
	uint64_t n = 0;

	if (c->preserve)
		TRY(num_parse(sv_of(c->preserve), 10, 0, 1024, &n));
	*out = (unsigned)n;
	for (unsigned i = 0; i < *out; i++) /* ours are close-on-exec, the caller's stay open */
		(void)sys_cloexec(3 + (int)i, 0);
	return NULL;
}

/* foreground: `run` without --detach, which keeps the terminal itself. */
static FALLIBLE create_in(const struct oci *o, const struct create *c, struct oci_box *b, bool foreground,
			  struct runtime_proc *out_proc)
{
	struct runtime_stdio io = { .fd = { 0, 1, 2 } };
	auto_fd int listen_fd = -1;
	auto_free char *cgroup = NULL;
	char now[TIME_TEXT_MAX];
	struct plan *plan = NULL;
	struct err *e;

	TRY(read_bundle(c, b));
	TRY(check_console(c, b, foreground));
	cgroup = cgroup_of(b->config, b->id);
	(void)json_object_set_new(b->state, "cgroup", json_string(cgroup));
	TRY(preserved(c, &io.preserve_fds));
	if (!foreground) {
		TRY(listen_for_start(b, &listen_fd));
		io.listen_fd = listen_fd;
	}
	TRY(oci_box_plan(o, b, &plan));
	e = runtime_create(plan, &io, -1, out_proc);
	plan_free(plan);
	TRY(e);
	b->pid = out_proc->pid;
	(void)json_object_set_new(b->state, "pid", json_integer(b->pid));
	(void)json_object_set_new(b->state, "pidStart", json_integer((json_int_t)oci_pid_start(b->pid)));
	(void)json_object_set_new(b->state, "created", json_string(time_format(time_now_ns(), now)));
	e = oci_box_save(b);
	if (!e && out_proc->tty_fd >= 0 && c->console)
		e = oci_send_console(c->console, out_proc->tty_fd);
	if (!e)
		e = write_pid(c->pid_file, b->pid);
	if (e) {
		(void)sys_pid_fd_kill(out_proc->pid_fd, SIGKILL);
		(void)sys_pid_fd_wait(out_proc->pid_fd, false, NULL);
		runtime_proc_fini(out_proc);
		err_free(runtime_cgroup_remove(cgroup));
	}
	return e;
}

static FALLIBLE create(const struct oci *o, const struct create *c, const char *id, bool foreground, struct oci_box *b,
		       struct runtime_proc *proc)
{
	struct err *e;

	TRY(oci_box_new(o, id, b));
	e = create_in(o, c, b, foreground, proc);
	if (e)
		err_free(oci_box_remove(b));
	return e;
}

FALLIBLE oci_create(const struct oci *o, char *argv[], int *out_exit)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	struct create c = { 0 };
	const char *id;

	(void)out_exit;
	TRY(create_options(&c, argv, &id));
	TRY(create(o, &c, id, false, &b, &proc));
	runtime_proc_fini(&proc);
	return NULL;
}

static FALLIBLE start_box(const struct oci *o, struct oci_box *b)
{
	auto_fd int sock = -1;
	struct plan *plan = NULL;
	char path[64];
	struct err *e;

	if (oci_box_status(b) != OCI_CREATED)
		return FAIL(ERR_CONFLICT, "cannot start a container that has %s", oci_box_status(b) == OCI_STOPPED ? "stopped" :
														      "already been started");
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d/start", b->dir_fd);
	if ((sock = sys_unix_connect(path)) < 0)
		return FAIL_OS(-sock, "reach the first process of \"%s\"", b->id);
	TRY(runtime_start_by(sock));
	(void)sys_unlink(b->dir_fd, "start");
	TRY(oci_box_plan(o, b, &plan));
	e = runtime_hooks(plan, "poststart", "running", b->pid);
	plan_free(plan);
	return e;
}

FALLIBLE oci_start(const struct oci *o, char *argv[], int *out_exit)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };

	(void)out_exit;
	if (!argv[0] || argv[1])
		return FAIL(ERR_INVALID, "exactly one container ID is needed");
	TRY(oci_box_open(o, argv[0], &b));
	return start_box(o, &b);
}

/* ---- the foreground ---- */

static const int forwarded[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGCONT, SIGWINCH, SIGCHLD, 0 };

static bool move(int from, int to)
{
	static char p[65536];
	ssize_t n = sys_read(from, p, sizeof p);

	if (n > 0)
		(void)sys_write_all(to, p, (size_t)n);
	return n > 0 || n == -EAGAIN;
}

static void on_signal(struct runtime_proc *proc, int sig_fd)
{
	int signo = sys_signal_read(sig_fd);
	unsigned rows, cols;

	if (signo == SIGWINCH && proc->tty_fd >= 0) {
		if (sys_tty_size(0, &rows, &cols) == 0)
			(void)sys_tty_resize(proc->tty_fd, rows, cols);
	} else if (signo > 0 && signo != SIGCHLD) {
		(void)sys_pid_fd_kill(proc->pid_fd, signo);
	}
}

FALLIBLE oci_wait(struct runtime_proc *proc, int *out_exit)
{
	auto_fd int sig_fd = sys_signal_fd(forwarded);
	struct sys_tty *saved = NULL;
	unsigned rows, cols;
	bool in_open = true, ended = false;
	int code = -EAGAIN;

	if (proc->tty_fd >= 0) {
		if (sys_tty_size(0, &rows, &cols) == 0 && rows && cols)
			(void)sys_tty_resize(proc->tty_fd, rows, cols);
		(void)sys_tty_raw(0, &saved);
	}
	while (!ended || proc->tty_fd >= 0) {
		struct pollfd f[4] = { { ended ? -1 : proc->pid_fd, POLLIN, 0 },
				       { sig_fd, POLLIN, 0 },
				       { proc->tty_fd, POLLIN, 0 },
				       { proc->tty_fd >= 0 && in_open ? 0 : -1, POLLIN, 0 } };

		if (sys_poll(f, 4, -1) < 0)
			break;
		if (f[1].revents)
			on_signal(proc, sig_fd);
		if (f[3].revents)
			in_open = move(0, proc->tty_fd);
		if (f[2].revents && !move(proc->tty_fd, 1)) {
			own_close(&proc->tty_fd);
			proc->tty_fd = -1;
		}
		if (f[0].revents) {
			code = sys_pid_fd_wait(proc->pid_fd, true, NULL);
			ended = code != -EAGAIN;
		}
	}
	if (saved)
		sys_tty_restore(saved);
	if (code < 0)
		return FAIL_OS(-code, "wait for the container");
	*out_exit = code;
	return NULL;
}

FALLIBLE oci_run(const struct oci *o, char *argv[], int *out_exit)
{
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	struct create c = { 0 };
	struct plan *plan = NULL;
	const char *id;
	struct err *e, *late;

	TRY(create_options(&c, argv, &id));
	TRY(create(o, &c, id, !c.detach, &b, &proc));
	e = c.detach ? start_box(o, &b) : runtime_start(&proc);
	if (!e && !c.detach && !(e = oci_box_plan(o, &b, &plan)))
		e = runtime_hooks(plan, "poststart", "running", b.pid);
	if (!e && c.detach) {
		runtime_proc_fini(&proc);
		return NULL;
	}
	if (c.console)
		own_close(&proc.tty_fd);
	proc.tty_fd = c.console ? -1 : proc.tty_fd;
	if (e)
		(void)sys_pid_fd_kill(proc.pid_fd, SIGKILL);
	(void)sys_flock(b.dir_fd, LOCK_UN);
	late = oci_wait(&proc, out_exit);
	if (e)
		err_free(late);
	else
		e = late;
	runtime_proc_fini(&proc);
	if (!c.keep || e) {
		err_free(runtime_cgroup_remove(oci_box_cgroup(&b)));
		if (plan)
			err_free(runtime_hooks(plan, "poststop", "stopped", 0));
		err_free(oci_box_remove(&b));
	}
	plan_free(plan);
	return e;
}

/* ---- exec ---- */

struct exec {
	const char *process, *pid_file, *console, *cwd, *user, *preserve, *cgroup, *label, *profile;
	char **env, **caps, **groups;
	bool detach, tty, no_new_privs, flag;
};

static void exec_fini(struct exec *x)
{
	text_list_free(x->env);
	text_list_free(x->caps);
	text_list_free(x->groups);
}

static FALLIBLE exec_user(const char *text, json_t *process)
{
	struct sv rest = sv_of(text), uid = sv_cut(&rest, ':');
	uint64_t u, g = 0;

	TRY(num_parse(uid, 10, 0, UINT32_MAX - 1, &u));
	if (rest.n)
		TRY(num_parse(rest, 10, 0, UINT32_MAX - 1, &g));
	(void)json_object_set_new(process, "user", json_pack("{s:I, s:I}", "uid", (json_int_t)u, "gid", (json_int_t)g));
	return NULL;
}

static FALLIBLE add_caps(const struct exec *x, json_t *process)
{
	static const char *const sets[] = { "bounding", "effective", "permitted" };
	json_t *caps = json_object_get(process, "capabilities");

	for (size_t i = 0; x->caps && x->caps[i]; i++) {
		if (runtime_cap_number(x->caps[i]) < 0)
			return FAIL(ERR_INVALID, "unknown capability \"%s\"", x->caps[i]);
		for (size_t k = 0; caps && k < LEN(sets); k++)
			if (json_object_get(caps, sets[k]))
				(void)json_array_append_new(json_object_get(caps, sets[k]), json_string(x->caps[i]));
	}
	return NULL;
}

/* The process of the configuration with what the options change, or the file's. */
static FALLIBLE exec_process(const struct exec *x, const struct oci_box *b, char *const *args, json_t **out_process)
{
	auto_json json_t *p = NULL;
	auto_fd int fd = -1;

	if (x->process) {
		if ((fd = sys_open(x->process, O_RDONLY, 0)) < 0)
			return FAIL_OS(-fd, "open %s", x->process);
		return json_read(fd, "process", 4 << 20, out_process);
	}
	if (!args[0])
		return FAIL(ERR_INVALID, "no command to execute");
	p = json_deep_copy(json_object_get(b->config, "process"));
	(void)json_object_set_new(p, "args", json_from_list(args));
	(void)json_object_set_new(p, "terminal", json_boolean(x->tty));
	if (x->cwd)
		(void)json_object_set_new(p, "cwd", json_string(x->cwd));
	if (x->no_new_privs)
		(void)json_object_set_new(p, "noNewPrivileges", json_true());
	if (x->user)
		TRY(exec_user(x->user, p));
	if (x->env) {
		auto_list char **env = NULL;

		TRY(json_list_at(p, "env", &env));
		for (size_t i = 0; x->env[i]; i++)
			text_env_set(&env, x->env[i]);
		(void)json_object_set_new(p, "env", json_from_list(env));
	}
	TRY(add_caps(x, p));
	*out_process = TAKE(p);
	return NULL;
}

static FALLIBLE exec_options(struct exec *x, char *argv[], int *at)
{
	const struct oci_opt opts[] = { { "process", 'p', 's', &x->process },
					{ "pid-file", 0, 's', &x->pid_file },
					{ "console-socket", 0, 's', &x->console },
					{ "cwd", 0, 's', &x->cwd },
					{ "user", 'u', 's', &x->user },
					{ "preserve-fds", 0, 's', &x->preserve },
					{ "env", 'e', 'l', &x->env },
					{ "cap", 'c', 'l', &x->caps },
					{ "additional-gids", 'g', 'l', &x->groups },
					{ "detach", 'd', 'f', &x->detach },
					{ "tty", 't', 'f', &x->tty },
					{ "no-new-privs", 0, 'f', &x->no_new_privs },
					{ "no-subreaper", 0, 'x', &x->flag },
					{ "ignore-paused", 0, 'x', &x->flag },
					{ NULL, 0, 0, NULL } };

	return oci_options(opts, argv, at);
}

FALLIBLE oci_exec(const struct oci *o, char *argv[], int *out_exit)
{
	CLEANUP(exec_fini) struct exec x = { 0 };
	CLEANUP(oci_box_fini) struct oci_box b = { .dir_fd = -1 };
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	struct runtime_stdio io = { .fd = { 0, 1, 2 } };
	struct create fds = { 0 };
	auto_json json_t *process = NULL;
	struct plan_opts po = { 0 };
	struct plan *plan = NULL;
	int at = 0;
	struct err *e;

	TRY(exec_options(&x, argv, &at));
	if (!argv[at])
		return FAIL(ERR_INVALID, "a container ID is needed");
	TRY(oci_box_open(o, argv[at], &b));
	if (oci_box_status(&b) != OCI_RUNNING && oci_box_status(&b) != OCI_CREATED)
		return FAIL(ERR_CONFLICT, "cannot exec in a container that is %s", oci_status_name(oci_box_status(&b)));
	TRY(exec_process(&x, &b, argv + at + 1, &process));
	fds.preserve = x.preserve;
	TRY(preserved(&fds, &io.preserve_fds));
	po.id = b.id;
	po.cgroup_path = oci_box_cgroup(&b);
	po.container = b.config;
	TRY(plan_compile_exec(process, &po, b.pid, &plan));
	e = runtime_exec(plan, b.pid, &io, &proc);
	plan_free(plan);
	TRY(e);
	(void)sys_flock(b.dir_fd, LOCK_UN); /* others may speak with the container meanwhile */
	if (x.console && proc.tty_fd >= 0) {
		e = oci_send_console(x.console, proc.tty_fd);
		own_close(&proc.tty_fd);
		proc.tty_fd = -1;
	}
	if (!e)
		e = write_pid(x.pid_file, proc.pid);
	if (e)
		(void)sys_pid_fd_kill(proc.pid_fd, SIGKILL);
	else if (!x.detach)
		e = oci_wait(&proc, out_exit);
	runtime_proc_fini(&proc);
	return e;
}
