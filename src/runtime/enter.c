/*
 * enter.c - the parent's side of what enters a running container: further processes (exec), and mounts.
 *
 *	clone3 ─▶ the container's group ─ "go" ─▶ child joins its namespaces, loses its rights ─ "ready" ─▶ "start" ─▶ [sibling ─▶] execve
 */
#include "base/own.h"
#include "runtime/filter.h"
#include "runtime/launch.h"
#include "runtime/pid.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* ---- exec ---- */

/* Namespaces of the container that are not ours: joining one's own user namespace is refused. SECURITY: one
 * that we cannot look at is an error, never left out. */
static FALLIBLE foreign_namespaces(pid_t pid, int *out_flags)
{
	static const struct {
		const char *name;
		int kind;
	} all[] = { { "user", CLONE_NEWUSER },     { "mnt", CLONE_NEWNS },  { "pid", CLONE_NEWPID },
		    { "net", CLONE_NEWNET },       { "ipc", CLONE_NEWIPC }, { "uts", CLONE_NEWUTS },
		    { "cgroup", CLONE_NEWCGROUP }, { "time", PLAN_NEWTIME } };

	*out_flags = 0;
	for (size_t i = 0; i < LEN(all); i++) {
		char theirs[64], ours[64];
		struct stat a, b;
		int r;

		(void)snprintf(theirs, sizeof theirs, "/proc/%d/ns/%s", (int)pid, all[i].name);
		(void)snprintf(ours, sizeof ours, "/proc/self/ns/%s", all[i].name);
		r = sys_fstatat(AT_FDCWD, ours, &b, 0);
		if (r == -ENOENT && sys_fstatat(AT_FDCWD, theirs, &a, 0) == -ENOENT)
			continue; /* this kernel has no such namespace */
		if (r < 0 || (r = sys_fstatat(AT_FDCWD, theirs, &a, 0)) < 0)
			return FAIL_OS(-r, "look at namespace %s of process %d", all[i].name, (int)pid);
		if (a.st_ino != b.st_ino)
			*out_flags |= all[i].kind;
	}
	return NULL;
}

static FALLIBLE set_cpus(const struct launch *l, const struct plan_bits *bits, const char *which)
{
	int r = bits->n ? sys_sched_setaffinity(l->pid, bits->p, bits->n) : 0;

	return r < 0 ? FAIL_OS(-r, "set CPU affinity (process.execCPUAffinity.%s)", which) : NULL;
}

/* SECURITY: the pid may have been given away; while its pidfd answers it was not. */
static FALLIBLE open_target_root(struct launch *l, pid_t pid, int pid_fd)
{
	char path[64];
	int r;

	(void)snprintf(path, sizeof path, "/proc/%d/root", (int)pid);
	l->child.target_root = sys_open_dir(path);
	if (l->child.target_root < 0)
		return FAIL_OS(-l->child.target_root, "open the root of process %d", (int)pid);
	r = sys_pidfd_kill(pid_fd, 0);
	return r < 0 ? FAIL_OS(-r, "process %d of the container", (int)pid) : NULL;
}

static pid_t clone_plain(struct launch *l, uint64_t flags)
{
	return sys_clone(flags, -1, &l->pid_fd);
}

/* By its bounding set: whether processes of the container can have CAP_SYS_PTRACE. */
static bool may_trace(pid_t pid)
{
	char text[4096], *at;

	(void)pid_text(pid, "status", text, sizeof text); /* who can't tell may */
	at = strstr(text, "CapBnd:");
	return !at || strtoull(at + 7, NULL, 16) >> CAP_SYS_PTRACE & 1;
}

/*
 * Whether the program's process is to be born when nothing but execve is left to do: where processes of the container could
 * trace it before. In a user namespace they cannot: there the kernel lets nobody trace who came from outside. And it cannot be
 * where what comes before is lost by a birth (the pid that a seccomp agent is told, labels, a deadline), or where the filter
 * forbids a birth.
 */
static bool is_born_last(const struct launch *l, pid_t container_pid)
{
	const struct plan *p = l->p;
	bool filtered = p->n_filter && !p->no_new_privs;
	const struct sock_filter *f = p->filter;
	size_t n = p->n_filter;

	if (!(l->child.target_ns & CLONE_NEWPID) || l->child.target_ns & CLONE_NEWUSER || l->io->one_shot || p->listener ||
	    l->child.has_apparmor || l->child.has_selinux || p->has_scheduler || !may_trace(container_pid))
		return false;
	return !filtered || (filter_passes(f, n, SYS_clone, CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, 0) &&
			     filter_passes(f, n, SYS_setsid, 0, 0) && filter_passes(f, n, SYS_exit_group, 0, 0) &&
			     (!p->terminal || filter_passes(f, n, SYS_ioctl, 0, TIOCSCTTY)) &&
			     (!p->die_with_parent || filter_passes(f, n, SYS_prctl, PR_SET_PDEATHSIG, SIGKILL)));
}

/* The set-up process has gone, and what it left us is the program's. A pid of ours that nobody has waited for is nobody else's. */
static FALLIBLE take_over(struct launch *l)
{
	int status;

	if (!l->child.born)
		return NULL;
	if (sys_wait(l->pid, &status, 0) < 0)
		(void)sys_wait(l->pid, &status, 0);
	own_close(&l->pid_fd);
	l->pid_fd = -1;
	l->pid = *l->child.born;
	*l->child.born = 0;
	if (!l->pid)
		return FAIL(ERR_INTERNAL, "the process ended before its program was started");
	l->pid_fd = sys_pidfd_open(l->pid);
	return l->pid_fd < 0 ? FAIL_OS(-l->pid_fd, "open process %d", (int)l->pid) : NULL;
}

static FALLIBLE exec_launch(struct launch *l, pid_t container_pid)
{
	auto_fd int target = sys_pidfd_open(container_pid);

	if (target < 0)
		return FAIL_OS(-target, "open process %d of the container", (int)container_pid);
	TRY(launch_helpers(l));
	TRY(launch_pair(l));
	l->child.target_fd = target;
	TRY(foreign_namespaces(container_pid, &l->child.target_ns));
	if (!(l->child.target_ns & CLONE_NEWNS))
		TRY(open_target_root(l, container_pid, target));
	if (l->p->cgroup) {
		TRY(cgroup_check_path(l->p->cgroup));
		TRY(cgroup_set_find(&l->groups));
		/* what is set before it joins, and who moves it on afterwards, want it joined by us */
		l->child.joins = !l->groups.v2 && !l->p->cpus_initial.n && !l->io->on_born;
	}
	if (is_born_last(l, container_pid))
		l->child.born = sys_shared_new(sizeof *l->child.born);
	TRY(launch_clone(l, l->child.target_ns & CLONE_NEWPID && !l->child.born ? target : -1, clone_plain, 0, child_run_exec));
	own_close(&l->child.sync);
	l->child.sync = -1;
	TRY(set_cpus(l, &l->p->cpus_initial, "initial"));
	if (l->p->cgroup && !l->child.joins)
		TRY(cgroup_enter(&l->groups, l->p->cgroup, l->pid));
	if (l->io->on_born)
		TRY(l->io->on_born(l->io->ctx, l->pid));
	TRY(set_cpus(l, &l->p->cpus_final, "final"));
	TRY(launch_go(l));
	TRY(launch_ready(l));
	TRY(launch_scheduling(l));
	TRY(runtime_start_by(l->sync));
	return take_over(l);
}

FALLIBLE runtime_exec(const struct plan *p, pid_t container_pid, const struct runtime_stdio *io,
		      struct runtime_proc *out_proc)
{
	CLEANUP(launch_fini) struct launch l;
	struct err *e;

	launch_init(&l, p, io);
	e = exec_launch(&l, container_pid);
	if (e) {
		if (l.pid > 0)
			e = launch_better_error(&l, e);
		launch_kill(&l);
		return e;
	}
	own_close(&l.sync);
	l.sync = -1;
	launch_hand_out(&l, out_proc);
	return NULL;
}

/* ---- mounts of a running container ---- */

/* A file system that shows the namespaces or ids of who makes it: the child does. All others name things of the host. */
static bool is_inner(const char *type)
{
	static const char *const inner[] = { "tmpfs", "ramfs", "proc", "sysfs", "mqueue", "devpts" };

	for (size_t i = 0; i < LEN(inner); i++)
		if (strcmp(type, inner[i]) == 0)
			return true;
	return false;
}

static FALLIBLE check_mount(const struct plan_mount *m)
{
	struct stat st;

	if (m->remount || m->is_cgroup)
		return FAIL(ERR_UNSUPPORTED, "mount %s: %s is not supported while a container runs", m->target,
			    m->remount ? "option \"remount\"" : "a mount of control groups");
	if (m->copy_link && sys_fstatat(AT_FDCWD, m->source, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode))
		return FAIL(ERR_UNSUPPORTED, "mount %s: option \"copy-symlink\" is not supported while a container runs",
			    m->target);
	return NULL;
}

static FALLIBLE last_word(struct launch *l)
{
	struct child_report r = { .kind = CHILD_READY };

	while (r.kind) {
		auto_fd int fd = -1;

		TRY(launch_hear(l->sync, &r, &fd));
		if (r.kind == CHILD_ERROR)
			return launch_error(&r);
	}
	return FAIL(ERR_INTERNAL, "the process that mounts ended before it was done");
}

/* That the mount stands is told by the exit status: a word about it could get lost. */
static FALLIBLE wait_mounted(struct launch *l)
{
	struct err *e = last_word(l);
	int status, os;

	if ((os = sys_wait(l->pid, &status, 0)) < 0 && (os = sys_wait(l->pid, &status, 0)) < 0)
		return e;
	l->pid = 0;
	if (status != 0)
		return e;
	err_free(e);
	return NULL;
}

static FALLIBLE mount_launch(struct launch *l, pid_t container_pid)
{
	bool is_proc = l->p->mounts.p->type && strcmp(l->p->mounts.p->type, "proc") == 0;
	auto_fd int target = sys_pidfd_open(container_pid);

	if (target < 0)
		return FAIL_OS(-target, "open process %d of the container", (int)container_pid);
	TRY(launch_pair(l));
	launch_labels(l);
	l->child.target_fd = target;
	TRY(foreign_namespaces(container_pid, &l->child.target_ns));
	if (!(l->child.target_ns & CLONE_NEWNS))
		return FAIL(ERR_UNSUPPORTED, "the container has no mount namespace of its own");
	TRY(sources_open(l->p, &l->sources));
	l->child.mount_fds = l->sources.fds;
	/* SECURITY: with all our rights, and so where the container cannot see it; but a procfs shows the pid namespace of who mounts it */
	TRY(launch_clone(l, is_proc && l->child.target_ns & CLONE_NEWPID ? target : -1, clone_plain, 0, child_run_mounts));
	own_close(&l->child.sync);
	l->child.sync = -1;
	return wait_mounted(l);
}

FALLIBLE runtime_mount(struct plan *p, size_t i, pid_t container_pid)
{
	struct plan one = { .id = p->id, .root = p->root, .ns = p->ns, .uid_map = p->uid_map, .gid_map = p->gid_map,
			    .mount_label = p->mount_label, .mount_context = p->mount_context };
	const struct runtime_stdio none = { .fd = { -1, -1, -1 } };
	struct plan_mount *m = &p->mounts.p[i];
	CLEANUP(launch_fini) struct launch l;
	struct err *e;

	launch_init(&l, &one, &none);
	TRY(check_mount(m));
	if (!m->type || !is_inner(m->type))
		m->by_parent = true;
	one.mounts.p = m;
	one.mounts.n = 1;
	e = mount_launch(&l, container_pid);
	if (e && l.pid > 0)
		e = launch_better_error(&l, e);
	launch_kill(&l);
	return e;
}
