/*
 * create.c - the parent's side: namespaces, maps, cgroup, then the child's reports.
 *
 *	clone3 ─▶ cgroup, id maps, hooks ─ "go" ─▶ child builds its root ─ "ready" ─▶ start ─ "start" ─▶
 *execve (socket ends)
 */
#include "base/log.h"
#include "base/own.h"
#include "runtime/launch.h"
#include "runtime/netdev.h"
#include "runtime/pid.h"
#include "runtime/rdt.h"
#include "sys/event.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

void launch_fini(struct launch *l)
{
	for (int i = 0; i < NS_MAX; i++)
		own_close(&l->ns_fds[i]);
	own_close(&l->sync);
	own_close(&l->child.sync);
	own_close(&l->child.agent);
	own_close(&l->child.target_root);
	own_close(&l->child.hook_out[0]);
	own_close(&l->child.hook_out[1]);
	own_close(&l->pid_fd);
	own_close(&l->tty_fd);
	sys_shared_free(l->child.born, sizeof *l->child.born);
	sources_fini(&l->sources);
}

void launch_init(struct launch *l, const struct plan *p, const struct runtime_stdio *io)
{
	l->p = p;
	l->io = io;
	l->groups.n = 0;
	l->groups.v2 = false;
	l->sync = l->pid_fd = l->tty_fd = -1;
	l->pid = 0;
	l->start_time = 0;
	l->has_group = false;
	l->sources = SOURCES;
	l->groups.v2 = false;
	l->groups.n = 0;
	for (int i = 0; i < NS_MAX; i++)
		l->ns_fds[i] = -1;
	l->child = (struct child){ .p = p,
				   .sync = -1,
				   .listen_fd = io->listen_fd,
				   .preserve_fds = io->preserve_fds,
				   .hook_out = { -1, -1 },
				   .agent = -1,
				   .net_fd = -1,
				   .target_fd = -1,
				   .target_root = -1,
				   .devices_fd = -1,
				   .ns_fds = l->ns_fds,
				   .groups = &l->groups,
				   .root_fd = -1,
				   .dev_fd = -1,
				   .proc_fd = -1,
				   .root_mount_fd = -1,
				   .tty_fd = -1 };
	memcpy(l->child.stdio, io->fd, sizeof io->fd);
	l->child.null_streams = io->null_streams;
}

static FALLIBLE open_namespaces(struct launch *l)
{
	for (size_t i = 0; i < l->p->ns.n && i < NS_MAX; i++) {
		const char *path = l->p->ns.p[i].path;

		if (path && (l->ns_fds[i] = sys_open(path, O_RDONLY, 0)) < 0)
			return FAIL_OS(-l->ns_fds[i], "open namespace %s", path);
	}
	return NULL;
}

/* result as of hook_run */
static void hook_error(struct buf *out, const char *kind, const char *path, int result)
{
	if (result == -ETIMEDOUT)
		buf_fmt(out, "%s hook timed out: %s", kind, path);
	else if (result < 0)
		buf_fmt(out, "%s hook failed: %s: %s", kind, path, strerror(-result));
	else
		buf_fmt(out, "%s hook failed with exit code %d: %s", kind, result, path);
}

static FALLIBLE refused(const char *kind, const char *path, int result)
{
	auto_buf struct buf b = BUF(8192);

	hook_error(&b, kind, path, result);
	return FAIL(ERR_CANCELLED, "%s", buf_text(&b));
}

static FALLIBLE report_refused(const struct child_report *r)
{
	const char *space = strchr(r->text, ' ');
	auto_free char *kind = xstrndup(r->text, space ? (size_t)(space - r->text) : 0);

	return refused(kind, space ? space + 1 : r->text, r->os);
}

FALLIBLE launch_error(const struct child_report *r)
{
	const char *text = r->text[0] ? r->text : "the container could not be started";

	if (r->kind == CHILD_REFUSED)
		return report_refused(r);
	return r->os ? FAIL_OS(r->os, "%.*s", (int)sizeof r->text, text)
		     : FAIL(ERR_INVALID, "%.*s", (int)sizeof r->text, text);
}

/* The next report; *out_n_fds descriptors with it. The end of the socket is kind 0. */
FALLIBLE launch_hear(int sync, struct child_report *out_r, int *out_fd)
{
	size_t n_fds = 0;
	int fd = -1;
	ssize_t n = sys_recv_fds(sync, out_r, sizeof *out_r, &fd, 1, &n_fds);

	*out_fd = n_fds ? fd : -1;
	if (n == -ECONNRESET) /* it ended without reading what we said; what it said itself comes after that */
		n = sys_recv_fds(sync, out_r, sizeof *out_r, &fd, 1, &n_fds);
	if (n == -ECONNRESET)
		n = 0;
	if (n < 0)
		return FAIL_OS((int)-n, "read the container's report");
	if (n == 0)
		out_r->kind = 0;
	out_r->text[sizeof out_r->text - 1] = 0;
	return NULL;
}

/* Until "ready". */
FALLIBLE launch_ready(struct launch *l)
{
	for (;;) {
		auto_fd int fd = -1;
		struct child_report r = { 0 };

		TRY(launch_hear(l->sync, &r, &fd));
		if (r.kind == CHILD_READY)
			return NULL;
		if (r.kind == CHILD_ERROR || r.kind == CHILD_REFUSED)
			return launch_error(&r);
		if (r.kind == 0)
			return FAIL(ERR_INTERNAL, "the container's first process ended before it was ready");
		if (r.kind == CHILD_TTY)
			l->tty_fd = TAKE_FD(fd);
	}
}

static FALLIBLE say(int sync, const struct child_report *r)
{
	int n = (int)sys_send_fds(sync, r, sizeof *r, NULL, 0);

	return n < 0 ? FAIL_OS(-n, "speak with the container's first process") : NULL;
}

/* One look at the child for us both: it has changed none of its signals yet. */
FALLIBLE launch_go(struct launch *l)
{
	struct child_report r = { .kind = CHILD_GO, .os = l->pid };
	struct pid_stat st;

	if (pid_stat(l->pid, &st) < 0)
		st = (struct pid_stat){ .ignored = UINT64_MAX };
	l->start_time = st.start;
	memcpy(r.text, &st.ignored, sizeof st.ignored);
	return say(l->sync, &r);
}

static FALLIBLE hooks_before(struct launch *l)
{
	static const enum hook_kind kinds[] = { HOOK_PRESTART, HOOK_CREATE_RUNTIME };
	int r = 0;

	for (size_t k = 0; k < LEN(kinds); k++) {
		int i = hook_run_all(l->p, kinds[k], "created", l->pid, l->child.hook_out, &r);

		if (i >= 0)
			return refused(k ? "createRuntime" : "prestart", l->p->hooks[kinds[k]].p[i].path, r);
	}
	return NULL;
}

/* On v2 the child is born in its group, if the kernel can; else it joins afterwards, or says why not. */
static pid_t clone_into(struct launch *l, uint64_t flags)
{
	auto_fd int group = l->has_group ? cgroup_fd(&l->groups, l->p->cgroup) : -1;
	pid_t pid = group < 0 ? group : sys_clone(flags, group, &l->pid_fd);

	l->in_group = pid >= 0;
	return pid >= 0 ? pid : sys_clone(flags, -1, &l->pid_fd);
}

/*
 * The child is born in the pid namespace of ns_fd (-1: in ours), which is entered by us, for the next child.
 * SECURITY: and born untraceable there, so that no process of that namespace can get at it before it is ready
 * (CVE-2016-9962).
 */
FALLIBLE launch_clone(struct launch *l, int ns_fd, pid_t (*clone)(struct launch *l, uint64_t flags),
			 uint64_t flags, void (*run)(struct child *c))
{
	auto_fd int own = -1;
	int r = 0, was = 0;

	if (ns_fd >= 0 && l->io->one_shot && l->child.target_ns & CLONE_NEWUSER) {
		/* who has no rights here has them in there, but cannot come back */
		if ((r = sys_setns(ns_fd, CLONE_NEWUSER | CLONE_NEWPID)) < 0)
			return FAIL_OS(-r, "join the user and pid namespaces");
		l->child.target_ns &= ~CLONE_NEWUSER;
		l->child.no_rights = true;
		r = sys_prctl(PR_SET_DUMPABLE, 0, 0, 0);
	} else if (ns_fd >= 0) {
		if ((own = sys_open("/proc/self/ns/pid", O_RDONLY, 0)) < 0)
			return FAIL_OS(-own, "open our pid namespace");
		if ((r = sys_setns(ns_fd, CLONE_NEWPID)) < 0)
			return FAIL_OS(-r, "join the pid namespace");
		was = sys_prctl(PR_GET_DUMPABLE, 0, 0, 0);
		r = sys_prctl(PR_SET_DUMPABLE, 0, 0, 0);
	}
	l->pid = r < 0 ? r : clone(l, flags);
	if (l->pid == 0) {
		(void)sys_close(l->sync);
		run(&l->child);
	}
	if (was == 1)
		(void)sys_prctl(PR_SET_DUMPABLE, 1, 0, 0);
	if (own >= 0 && (r = sys_setns(own, CLONE_NEWPID)) < 0 && (r = sys_setns(own, CLONE_NEWPID)) < 0)
		return FAIL_OS(-r, "return to our pid namespace");
	return l->pid < 0 ? FAIL_OS(-l->pid, "make a process in its namespaces") : NULL;
}

static FALLIBLE clone_child(struct launch *l, uint64_t flags)
{
	int pid_ns = -1;

	for (size_t i = 0; i < l->p->ns.n && i < NS_MAX; i++)
		if (l->p->ns.p[i].kind == CLONE_NEWPID)
			pid_ns = l->ns_fds[i];
	return launch_clone(l, pid_ns, clone_into, flags, child_run);
}

static uint64_t clone_flags(const struct plan *p, bool own_net)
{
	uint64_t flags = 0;

	for (size_t i = 0; i < p->ns.n; i++)
		if (!p->ns.p[i].path && p->ns.p[i].kind != CLONE_NEWCGROUP)
			flags |= (unsigned)p->ns.p[i].kind;
	if (p->time_offsets) /* the child makes it, for they must be set before anyone enters */
		flags &= ~(uint64_t)PLAN_NEWTIME;
	return own_net ? flags : flags & ~(uint64_t)CLONE_NEWNET;
}

FALLIBLE launch_pair(struct launch *l)
{
	int fds[2], r = sys_socketpair(SOCK_SEQPACKET, fds);

	if (r < 0)
		return FAIL_OS(-r, "make a socket pair");
	l->sync = fds[0];
	l->child.sync = fds[1];
	return NULL;
}

/* By us, who may more than the process. When it is ready, so that no hook inherits a policy that cannot fork.
 */
FALLIBLE launch_scheduling(const struct launch *l)
{
	const struct plan *p = l->p;
	int r;

	if (p->has_scheduler && (r = sys_sched_setattr(l->pid, &p->scheduler)) < 0)
		return FAIL_OS(-r, "set the scheduler (process.scheduler)");
	if (p->io_priority >= 0 && (r = sys_ioprio_set(l->pid, p->io_priority)) < 0)
		return FAIL_OS(-r, "set the I/O priority (process.ioPriority)");
	return NULL;
}

static bool file_says(const char *path, char what)
{
	auto_fd int fd = sys_open(path, O_RDONLY, 0);
	char c = 0;

	return fd >= 0 && sys_read(fd, &c, 1) == 1 && (c == what || !what);
}

/* A label for a security module that this kernel does not run is a warning, as in crun: the configuration is
 * for many hosts. */
void launch_labels(struct launch *l)
{
	const struct plan *p = l->p;

	l->child.has_apparmor = p->apparmor && file_says("/sys/module/apparmor/parameters/enabled", 'Y');
	l->child.has_selinux = (p->selinux || p->mount_label) && file_says("/sys/fs/selinux/enforce", 0);
	if (p->apparmor && !l->child.has_apparmor)
		log_warn("process.apparmorProfile \"%s\" has no effect: AppArmor is not enabled",
			 p->apparmor);
	if (p->selinux && !l->child.has_selinux)
		log_warn("process.selinuxLabel \"%s\" has no effect: SELinux is not enabled", p->selinux);
	if (p->mount_label && !l->child.has_selinux)
		log_warn("linux.mountLabel \"%s\" has no effect: SELinux is not enabled", p->mount_label);
}

/* config.md#linux-process: what cannot be granted is a warning. Root of a user namespace has them all there.
 */
static void check_caps(const struct plan *p)
{
	auto_buf struct buf names = BUF(4096);
	uint64_t effective, permitted;

	if (p->is_exec || (clone_flags(p, false) & CLONE_NEWUSER) || sys_capget(&effective, &permitted) < 0)
		return;
	for (int i = 0; runtime_cap_name(i); i++)
		if (p->caps[2] & ~permitted & UINT64_C(1) << i)
			buf_fmt(&names, " %s", runtime_cap_name(i));
	if (names.n)
		log_warn("process.capabilities: not ours to give:%s", buf_text(&names));
}

/* What the child cannot reach from inside any more. */
FALLIBLE launch_helpers(struct launch *l)
{
	const char *path = NULL;
	int r = hook_open_out(l->p, l->child.hook_out, &path);

	if (r < 0)
		return FAIL_OS(-r, "open %s for the hooks", path);
	launch_labels(l);
	check_caps(l->p);
	if (l->p->listener && (l->child.agent = sys_unix_connect_stream(l->p->listener)) < 0)
		return FAIL_OS(-l->child.agent, "connect to the seccomp agent %s", l->p->listener);
	return NULL;
}

static FALLIBLE move_devices(const struct launch *l, int net_fd)
{
	auto_fd int own = -1;
	char path[64];

	for (size_t i = 0; i < l->p->ns.n && i < NS_MAX && net_fd < 0; i++)
		if (l->p->ns.p[i].kind == CLONE_NEWNET && l->ns_fds[i] >= 0)
			net_fd = l->ns_fds[i];
	if (net_fd < 0) {
		(void)snprintf(path, sizeof path, "/proc/%d/ns/net", (int)l->pid);
		net_fd = own = sys_open(path, O_RDONLY, 0);
	}
	return net_fd < 0 ? FAIL_OS(-net_fd, "open the network namespace") : netdev_move_all(l->p, net_fd);
}

static FALLIBLE launch(struct launch *l, int net_fd)
{
	const struct plan *p = l->p;

	TRY(open_namespaces(l));
	TRY(launch_helpers(l));
	TRY(launch_pair(l));
	if (p->cgroup)
		TRY(cgroup_set_find(&l->groups));
	if (l->io->out_groups)
		*l->io->out_groups = l->groups;
	if (p->cgroup && !l->io->on_born) {
		TRY(cgroup_create(&l->groups, p));
		l->has_group = true;
	}
	TRY(sources_open(p, &l->sources));
	l->child.mount_fds = l->sources.fds;
	l->child.devices_fd = l->sources.devices;
	l->child.root_mount_fd = l->sources.root;
	l->child.net_fd = net_fd;
	l->child.joins = p->cgroup && !l->groups.v2 && !l->io->on_born && !p->hooks[HOOK_PRESTART].n &&
			 !p->hooks[HOOK_CREATE_RUNTIME].n; /* hooks look at it */
	TRY(clone_child(l, clone_flags(p, net_fd < 0)));
	own_close(&l->child.sync);
	l->child.sync = -1;
	if (l->io->on_born) {
		TRY(l->io->on_born(l->io->ctx, l->pid));
		TRY(cgroup_adopt(&l->groups, p));
		l->has_group = true;
	}
	if (clone_flags(p, false) & CLONE_NEWUSER)
		TRY(sources_write_maps(l->pid, (struct plan_idset){ p->uid_map.p, p->uid_map.n },
				       (struct plan_idset){ p->gid_map.p, p->gid_map.n }));
	if (p->cgroup && !l->in_group && !l->child.joins)
		TRY(cgroup_enter(&l->groups, p->cgroup, l->pid));
	TRY(rdt_apply(p, l->pid));
	l->has_rdt = p->rdt.on;
	if (p->netdevs.n)
		TRY(move_devices(l, net_fd));
	TRY(hooks_before(l));
	TRY(launch_go(l));
	TRY(launch_ready(l));
	return launch_scheduling(l);
}

void launch_hand_out(struct launch *l, struct runtime_proc *out_proc)
{
	*out_proc = (struct runtime_proc){ .pid = l->pid,
					   .start_time = l->start_time,
					   .pid_fd = TAKE_FD(l->pid_fd),
					   .tty_fd = TAKE_FD(l->tty_fd),
					   .go_fd = TAKE_FD(l->sync) };
}

/* What the child said while we failed at something else says more than our own error. */
FALLIBLE launch_better_error(struct launch *l, struct err *e)
{
	struct child_report r = { 0 };
	struct err *ours;
	int fd = -1;

	if (e->os != EPIPE && e->os != ESRCH)
		return e;
	ours = launch_hear(l->sync, &r, &fd);
	own_close(&fd);
	if (ours || (r.kind != CHILD_ERROR && r.kind != CHILD_REFUSED)) {
		err_free(ours);
		return e;
	}
	err_free(e);
	return launch_error(&r);
}

/* What a container without a mount namespace mounts stands in a tree of its own, which nothing else shows. */
static FALLIBLE hint(const struct plan *p, struct err *e)
{
	for (size_t i = 0; i < p->ns.n; i++)
		if (p->ns.p[i].kind == CLONE_NEWNS)
			return e;
	return e->os == EINVAL ? err_ctx(e, "a container without a mount namespace of its own needs Linux 6.15") : e;
}

void launch_kill(struct launch *l)
{
	int status;

	if (l->pid > 0) {
		(void)(l->pid_fd >= 0 ? sys_pidfd_kill(l->pid_fd, SIGKILL) : sys_kill(l->pid, SIGKILL));
		(void)sys_wait(l->pid, &status, 0);
	}
	if (l->child.born && *l->child.born > 0) { /* after the other has ended, which may just have made it */
		(void)sys_kill(*l->child.born, SIGKILL);
		(void)sys_wait(*l->child.born, &status, 0);
	}
}

static void warn(struct err *e)
{
	if (e)
		log_warn("%s", e->msg);
	err_free(e);
}

FALLIBLE runtime_create(const struct plan *p, const struct runtime_stdio *io, int net_fd,
			struct runtime_proc *out_proc)
{
	CLEANUP(launch_fini) struct launch l;
	struct err *e;

	launch_init(&l, p, io);
	e = launch(&l, net_fd);
	if (e) {
		if (l.pid > 0)
			e = hint(p, launch_better_error(&l, e));
		launch_kill(&l);
		if (l.has_group)
			err_free(runtime_cleanup(p));
		else if (l.has_rdt)
			rdt_remove(p);
		if (e->kind == ERR_CANCELLED) /* runtime.md#lifecycle: on to the step after the end */
			warn(runtime_hooks(p, "poststop", "stopped", 0));
		return e;
	}
	launch_hand_out(&l, out_proc);
	return NULL;
}

FALLIBLE runtime_start_by(int sync)
{
	bool execs = false;

	TRY(say(sync, &(struct child_report){ .kind = CHILD_START }));
	for (;;) {
		auto_fd int fd = -1;
		struct child_report r = { 0 };

		TRY(launch_hear(sync, &r, &fd));
		if (r.kind == CHILD_ERROR || r.kind == CHILD_REFUSED)
			return launch_error(&r);
		if (r.kind == 0)
			return execs ? NULL
				     : FAIL(ERR_INTERNAL,
					    "the container's first process ended before it was started");
		execs |= r.kind == CHILD_EXEC;
	}
}

FALLIBLE runtime_start(struct runtime_proc *proc)
{
	struct err *e = runtime_start_by(proc->go_fd);

	own_close(&proc->go_fd);
	proc->go_fd = -1;
	return e;
}

void runtime_proc_fini(struct runtime_proc *proc)
{
	own_close(&proc->pid_fd);
	own_close(&proc->tty_fd);
	own_close(&proc->go_fd);
	proc->pid_fd = proc->tty_fd = proc->go_fd = -1;
}

FALLIBLE runtime_cleanup(const struct plan *p)
{
	rdt_remove(p);
	return p->cgroup ? runtime_cgroup_remove(p->cgroup) : NULL;
}

FALLIBLE runtime_hooks(const struct plan *p, const char *which, const char *status, pid_t pid)
{
	enum hook_kind kind = strcmp(which, "poststop") == 0 ? HOOK_POSTSTOP : HOOK_POSTSTART;
	auto_buf struct buf failed = BUF(65536);
	int out[2], r, i;
	const char *file;

	if (p->hooks[kind].n == 0)
		return NULL;
	if ((r = hook_open_out(p, out, &file)) < 0)
		return FAIL_OS(-r, "open %s for the hooks", file);
	for (size_t from = 0; (i = hook_run_from(p, kind, from, status, pid, out, &r)) >= 0;
	     from = (size_t)i + 1) {
		if (failed.n)
			buf_str(&failed, "; ");
		hook_error(&failed, which, p->hooks[kind].p[i].path, r);
		if (kind == HOOK_POSTSTART) /* the container is to be stopped; after its end the others run
					       all the same */
			break;
	}
	own_close(&out[0]);
	own_close(&out[1]);
	return failed.n ? FAIL(ERR_CANCELLED, "%s", buf_text(&failed)) : NULL;
}
