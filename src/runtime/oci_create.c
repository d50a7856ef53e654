/*
 * oci_create.c - create, start and run of the OCI command line.
 *
 * Order of create: descriptors of the caller are marked before anything is opened; the status is written
 * before there is a process or a control group, so that `delete --force` finds what a killed create has left;
 * the pid file comes last, because callers take it for success. What failed is undone in reverse and leaves
 * no directory.
 */
#include "base/mem.h"
#include "base/own.h"
#include "base/time.h"
#include "runtime/cgroup.h"
#include "runtime/oci.h"
#include "runtime/rdt.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>

#define AT(field) offsetof(struct oci_create, field)
#define CREATE_OPTIONS                                                                                          \
	{ OCI_STR, 'b', "bundle", "DIR", AT(bundle), "the bundle (default: the working directory)" },           \
	    { OCI_STR, 'f',        "config",                                                                    \
	      "FILE",  AT(config), "its configuration (default: config.json in the bundle)" },                  \
	    { OCI_STR, 0, "pid-file", "FILE", AT(pid_file), "write the pid of the container there" },           \
	    { OCI_STR, 0, "console-socket", "PATH", AT(console), "send the terminal's master to this socket" }, \
	    { OCI_STR,          0,                                                                              \
	      "pidfd-socket",   "PATH",                                                                         \
	      AT(pidfd_socket), "send a pidfd of the container to this socket" },                               \
	    { OCI_STR,        0,                                                                                \
	      "preserve-fds", "N",                                                                              \
	      AT(preserve),   "pass N descriptors from 3 on (besides $LISTEN_FDS)" },                           \
	    { OCI_FLAG,     0,                                                                                  \
	      "no-pivot",   NULL,                                                                               \
	      AT(no_pivot), "move the root instead of pivot_root (on a ramdisk)" },                             \
	    { OCI_FLAG, 0, "no-new-keyring", NULL, AT(no_keyring), "keep the caller's session keyring" },       \
	{                                                                                                       \
		OCI_ACCEPT, 0, "no-subreaper", NULL, 0, "accepted: nothing here needs a subreaper"              \
	}
static const struct oci_opt create_opts[] = { CREATE_OPTIONS, { .kind = OCI_END } };
static const struct oci_opt run_opts[] = {
	CREATE_OPTIONS,
	{ OCI_FLAG, 'd', "detach", NULL, AT(detach), "do not wait for the end" },
	{ OCI_FLAG, 0, "keep", NULL, AT(keep), "do not delete the container at its end" },
	{ .kind = OCI_END },
};
#undef AT

static FALLIBLE read_config(const char *path, struct oci_box *b)
{
	auto_fd int fd = -1;

	if (strcmp(path, "-") == 0)
		return json_read_text(0, path, &b->text, &b->config);
	if ((fd = sys_open(path, O_RDONLY, 0)) < 0)
		return FAIL_OS(-fd, "open %s", path);
	return json_read_text(fd, path, &b->text, &b->config);
}

FALLIBLE oci_read_bundle(const struct oci_create *c, struct oci_box *b)
{
	auto_free char *bundle = realpath(c->bundle ? c->bundle : ".", NULL), *config = NULL, *rootfs = NULL;
	const char *root;

	if (!bundle)
		return FAIL_OS(errno, "bundle %s", c->bundle ? c->bundle : ".");
	config = c->config && c->config[0] == '/'
		     ? xstrdup(c->config)
		     : xasprintf("%s/%s", bundle, c->config ? c->config : "config.json");
	TRY(read_config(config, b));
	root = json_str_at(b->config, "root.path", "");
	rootfs = root[0] == '/' ? xstrdup(root) : xasprintf("%s/%s", bundle, root);
	json_decref(b->state);
	b->state = json_pack("{s:s, s:s, s:b, s:b}", "bundle", bundle, "rootfs", rootfs, "no-pivot",
			     c->no_pivot, "no-new-keyring", c->no_keyring);
	return NULL;
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

FALLIBLE oci_check_console(const struct oci_create *c, const struct oci_box *b, bool foreground)
{
	bool terminal = json_bool_at(b->config, "process.terminal", false);

	if (terminal && !c->console && !foreground)
		return FAIL(ERR_INVALID, "process.terminal is set and the container is not in the "
					 "foreground: use --console-socket");
	if (!terminal && c->console)
		return FAIL(ERR_INVALID, "--console-socket is only for a container with process.terminal");
	return NULL;
}

void oci_note_streams(struct oci_box *b, pid_t pid)
{
	auto_json json_t *list = json_array();
	auto_buf struct buf text = BUF(65536);

	for (int i = 0; i < 3; i++) {
		char path[40], target[PATH_MAX];

		(void)snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, i);
		if (sys_readlink(AT_FDCWD, path, target, sizeof target) < 0)
			target[0] = 0;
		(void)json_array_append_new(list, json_string(target));
	}
	json_print(list, &text);
	(void)json_object_set_new(b->state, "external_descriptors", json_string(buf_text(&text)));
}

/* What the container is to be, into its directory. foreground: `run` without --detach, which keeps the
 * terminal itself. */
static FALLIBLE prepare(const struct oci *o, const struct oci_create *c, struct oci_box *b, bool foreground)
{
	char now[TIME_TEXT_MAX];

	TRY(oci_read_bundle(c, b));
	TRY(oci_annotations(b));
	TRY(oci_check_console(c, b, foreground));
	if (json_object_get(b->config, "process"))
		TRY(oci_listen_env(json_object_get(b->config, "process"), &b->is_changed));
	TRY(oci_notify_prepare(b));
	TRY(oci_cgroup_choose(o, b));
	oci_note_streams(b, getpid());
	(void)json_object_set_new(b->state, "created", json_string(time_format(time_now_ns(), now)));
	TRY(oci_box_save_config(b));
	return oci_box_save(b);
}

/* The process is there: it is written down and told to who asked. */
static FALLIBLE announce(const struct oci_create *c, struct oci_box *b, const struct runtime_proc *proc)
{
	const char *receiver = oci_annotation(b->config, "run.oci.pidfd_receiver");

	b->pid = proc->pid;
	TRY(oci_cgroup_delegate(b));
	(void)json_object_set_new(b->state, "pid", json_integer(b->pid));
	(void)json_object_set_new(b->state, "process-start-time", json_integer((json_int_t)proc->start_time));
	TRY(oci_box_save(b));
	if (c->console && proc->tty_fd >= 0)
		TRY(oci_send_fd(c->console, "/dev/ptmx", proc->tty_fd));
	if (c->pidfd_socket)
		TRY(oci_send_fd(c->pidfd_socket, "standard", proc->pid_fd));
	if (receiver)
		TRY(oci_send_fd(receiver, "pidfd", proc->pid_fd));
	return oci_write_pid(c->pid_file, b->pid);
}

static FALLIBLE make(const struct oci_create *c, struct oci_box *b, bool foreground, unsigned preserve,
		     struct runtime_proc *out_proc)
{
	struct runtime_stdio io = { .fd = { 0, 1, 2 },
				    .null_streams = oci_null_streams(),
				    .preserve_fds = preserve,
				    .out_groups = b->groups };
	auto_fd int listen_fd = -1;
	struct plan *plan = NULL;
	struct err *e;

	if (!foreground) {
		TRY(listen_for_start(b, &listen_fd));
		io.listen_fd = listen_fd;
	}
	if (json_object_get(b->state, "scope")) {
		io.on_born = oci_cgroup_born;
		io.ctx = b;
	}
	TRY(oci_box_plan(b, &plan));
	e = runtime_create(plan, &io, -1, out_proc);
	plan_free(plan);
	TRY(e);
	e = announce(c, b, out_proc);
	if (e) {
		(void)sys_pid_fd_kill(out_proc->pid_fd, SIGKILL);
		(void)sys_pid_fd_wait(out_proc->pid_fd, false, NULL);
		runtime_proc_fini(out_proc);
	}
	return e;
}

static FALLIBLE create(const struct oci *o, const struct oci_create *c, const char *id, bool foreground,
		       struct oci_box *b, struct runtime_proc *proc)
{
	unsigned preserve;
	struct err *e;

	TRY(oci_preserve(c->preserve, &preserve));
	TRY(oci_box_new(o, id, b));
	b->groups = xnew(struct cgroup_set);
	e = prepare(o, c, b, foreground);
	if (!e && (e = make(c, b, foreground, preserve, proc)))
		err_free(oci_cgroup_remove(b));
	if (e)
		err_free(oci_box_remove(b));
	return e;
}

static struct err *run_create(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };

	(void)out_exit;
	TRY(create(o, conf, args[0], false, &b, &proc));
	runtime_proc_fini(&proc);
	return NULL;
}

/* Whether it is worth to compile the configuration once more. */
static bool has_hooks(const struct oci_box *b, const char *path)
{
	return json_array_size(json_at(b->config, path)) > 0;
}

static FALLIBLE poststart(const struct oci_box *b)
{
	struct plan *plan = NULL;
	struct err *e;

	if (!has_hooks(b, "hooks.poststart"))
		return NULL;
	TRY(oci_box_plan(b, &plan));
	e = runtime_hooks(plan, "poststart", "running", b->pid);
	plan_free(plan);
	return e;
}

static FALLIBLE start_box(struct oci_box *b)
{
	CLEANUP(oci_notify_fini) struct oci_notify notify = OCI_NOTIFY;
	auto_fd int sock = -1;
	enum oci_status status = oci_box_status(b);
	char path[64];
	struct err *e;

	if (status == OCI_STOPPED)
		return FAIL(ERR_CONFLICT, "cannot start a container that has stopped: \"%s\"", b->id);
	if (status != OCI_CREATED)
		return FAIL(ERR_CONFLICT, "cannot start an already running container: \"%s\" is %s", b->id,
			    oci_status_name(status));
	TRY(oci_notify_open(b, &notify));
	(void)snprintf(path, sizeof path, "/proc/self/fd/%d/start", b->dir_fd);
	if ((sock = sys_unix_connect(path)) < 0)
		return FAIL_OS(-sock, "reach the first process of \"%s\"", b->id);
	TRY(runtime_start_by(sock));
	(void)sys_unlink(b->dir_fd, "start");
	if ((e = poststart(b))) { /* runtime.md#lifecycle: the runtime must stop the container */
		(void)sys_pid_kill(b->pid, SIGKILL);
		return e;
	}
	return oci_notify_wait(&notify);
}

static struct err *run_start(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	struct err *e;

	(void)conf;
	(void)out_exit;
	TRY(oci_box_open(o, args[0], true, &b));
	e = start_box(&b);
	if (e &&
	    e->kind == ERR_CANCELLED) { /* by a hook; runtime.md#lifecycle: the container must be destroyed */
		err_free(oci_end(&b));
		err_free(oci_forget(o, &b));
	}
	return e;
}

FALLIBLE oci_forget(const struct oci *o, struct oci_box *b)
{
	struct plan *plan = NULL;
	struct err *e;

	TRY(oci_cgroup_remove(b));
	e = has_hooks(b, "hooks.poststop") ? oci_box_plan(b, &plan) : NULL;
	if (!e && plan)
		e = runtime_hooks(plan, "poststop", "stopped", 0);
	if (plan)
		rdt_remove(plan);
	plan_free(plan);
	if (e) /* runtime.md#lifecycle: a warning */
		(void)fprintf(stderr, "%s: warning: %s\n", o->program, e->msg);
	err_free(e);
	return oci_box_remove(b);
}

/* Starts it and stays until its end. */
static FALLIBLE foreground(struct oci_box *b, struct runtime_proc *proc, int *out_exit)
{
	CLEANUP(oci_notify_fini) struct oci_notify notify = OCI_NOTIFY;
	const int64_t begin = time_monotonic_ns(), groups_keep_ns = INT64_C(10000000000);
	auto_fd int sig_fd = oci_signals();
	struct err *e = sig_fd < 0 ? FAIL_OS(-sig_fd, "take over signals") : oci_notify_open(b, &notify),
		   *late;

	if (!e)
		e = runtime_start(proc);
	if (!e)
		e = poststart(b);
	if (e)
		(void)sys_pid_fd_kill(proc->pid_fd, SIGKILL);
	(void)sys_flock(b->dir_fd, LOCK_UN);
	b->locked = false;
	late = oci_wait(proc, sig_fd, &notify, out_exit);
	if (time_monotonic_ns() > begin + groups_keep_ns) /* mounts may have changed meanwhile */
		b->groups->n = 0;
	if (!e)
		return late;
	err_free(late);
	*out_exit = 1;
	return e;
}

static struct err *run_run(const struct oci *o, const void *conf, char *const args[], int *out_exit)
{
	auto_box struct oci_box b = OCI_BOX;
	struct runtime_proc proc = { .pid_fd = -1, .tty_fd = -1, .go_fd = -1 };
	const struct oci_create *c = conf;
	struct err *e, *late;

	TRY(create(o, c, args[0], !c->detach, &b, &proc));
	if (c->console) { /* the receiver has it now */
		own_close(&proc.tty_fd);
		proc.tty_fd = -1;
	}
	e = c->detach ? start_box(&b) : foreground(&b, &proc, out_exit);
	if (e && c->detach) {
		(void)sys_pid_fd_kill(proc.pid_fd, SIGKILL);
		(void)sys_pid_fd_wait(proc.pid_fd, false, NULL);
	}
	runtime_proc_fini(&proc);
	if (!e && (c->detach || c->keep))
		return NULL;
	late = oci_forget(o, &b);
	if (!e)
		return late;
	err_free(late);
	return e;
}

const struct oci_cmd oci_cmd_create = {
	.name = "create",
	.args = "CONTAINER",
	.summary = "Make a container, all but its program running",
	.opts = create_opts,
	.conf_size = sizeof(struct oci_create),
	.min_args = 1,
	.max_args = 1,
	.run = run_create,
};
const struct oci_cmd oci_cmd_start = {
	.name = "start",
	.args = "CONTAINER",
	.summary = "Run the program of a created container",
	.opts = NULL,
	.min_args = 1,
	.max_args = 1,
	.run = run_start,
};
const struct oci_cmd oci_cmd_run = {
	.name = "run",
	.args = "CONTAINER",
	.summary = "Create and start a container; wait for it and delete it unless detached",
	.opts = run_opts,
	.conf_size = sizeof(struct oci_create),
	.min_args = 1,
	.max_args = 1,
	.run = run_run,
};
