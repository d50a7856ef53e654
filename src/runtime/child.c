/* child.c - the new process: namespaces, root, credentials, filter, execve; see child.h. */
#include "runtime/child.h"
#include "base/own.h"
#include "sys/event.h"
#include "sys/mount.h"
#include "sys/netlink.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>

void child_cat(char *out, size_t size, const char *a, const char *b, const char *d)
{
	const char *parts[3] = { a, b, d };
	size_t n = 0;

	for (int i = 0; i < 3; i++)
		for (const char *s = parts[i]; s && *s && n + 1 < size; s++)
			out[n++] = *s;
	out[n] = 0;
}

/* The decimal digits of n at the end of text; returns where they begin. */
static char *decimal(unsigned n, char text[16])
{
	char *at = text + 15;

	*at = 0;
	do
		*--at = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	return at;
}

void child_fd_path(int fd, char out[40])
{
	char text[16];

	child_cat(out, 40, "/proc/self/fd/", decimal((unsigned)fd, text), NULL);
}

void child_drop(const int *fd)
{
	enum { LEFT_MAX = 128 }; /* where descriptors are few this leaves most of them */

	if (*fd >= LEFT_MAX)
		own_close(fd);
}

void child_fail(const struct child *c, int os, const char *what, const char *name)
{
	struct child_report r = { .kind = CHILD_ERROR, .os = os };

	child_cat(r.text, sizeof r.text, what, name && name[0] ? " " : NULL, name);
	(void)sys_write(c->sync, &r, sizeof r);
	_exit(125);
}

void child_refuse(const struct child *c, const char *kind, const struct plan_hook *h, int result)
{
	struct child_report r = { .kind = CHILD_REFUSED, .os = result };

	child_cat(r.text, sizeof r.text, kind, " ", h->path);
	(void)sys_write(c->sync, &r, sizeof r);
	_exit(125);
}

int child_need(const struct child *c, int r, const char *what, const char *name)
{
	if (r < 0)
		child_fail(c, -r, what, name);
	return r;
}

static void tell(const struct child *c, enum child_msg kind, int fd)
{
	struct child_report r = { .kind = (char)kind };

	child_need(c, (int)sys_send_fds(c->sync, &r, sizeof r, &fd, fd >= 0), "report to the parent", NULL);
}

/* The parent's next word; when it is gone so are we. */
static struct child_report hear(const struct child *c)
{
	struct child_report r;

	if (sys_read(c->sync, &r, sizeof r) != sizeof r)
		_exit(125);
	return r;
}

/* "go": what only the parent can tell. */
static void hear_go(struct child *c)
{
	struct child_report r = hear(c);

	c->pid = r.os;
	memcpy(&c->ignored, r.text, sizeof c->ignored);
}

/* What execve would hand on: ignored signals, and the mask. */
static void reset_signals(const struct child *c)
{
	sigset_t none;

	for (int i = 1; i < SIGRTMIN; i++)
		if (i != SIGKILL && i != SIGSTOP && c->ignored >> (i - 1) & 1)
			(void)signal(i, SIG_DFL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * v1: a thread that moves itself by "tasks" takes no lock that waits for an RCU grace period (several ms each
 * time the kernel has not moved anybody lately), as every write to cgroup.procs does. We have one thread.
 * Before anything of the host is out of sight.
 */
static void join_groups(const struct child *c)
{
	char path[CGROUP_PATH];

	for (size_t i = 0; c->joins && i < c->groups->n; i++) {
		child_fd int fd = -1;

		child_need(c, cgroup_name(&c->groups->h[i], c->p->cgroup, "tasks", path),
			   "join control group", path);
		fd = child_need(c, sys_open(path, O_WRONLY, 0), "join control group", path);
		child_need(c, (int)sys_write(fd, "0", 1), "join control group", path);
	}
}

static bool new_ns(const struct plan *p, int kind)
{
	for (size_t i = 0; i < p->ns.n; i++)
		if (p->ns.p[i].kind == kind)
			return !p->ns.p[i].path;
	return false;
}

/* The user namespace first: it gives the rights for the others. The pid namespace was entered by the parent.
 */
static void join_namespaces(struct child *c)
{
	const struct plan *p = c->p;

	for (int user = 1; user >= 0; user--)
		for (size_t i = 0; i < p->ns.n; i++) {
			int kind = p->ns.p[i].kind;

			if (!p->ns.p[i].path || kind == CLONE_NEWPID || (kind == CLONE_NEWUSER) != user)
				continue;
			child_need(c, sys_setns(c->ns_fds[i], kind), "join namespace", p->ns.p[i].path);
		}
	if (c->net_fd >= 0)
		child_need(c, sys_setns(c->net_fd, CLONE_NEWNET), "join the network namespace", NULL);
}

/* Any procfs shows the sysctls of the namespaces of who looks. */
static void set_sysctls(struct child *c)
{
	char path[256];

	for (size_t i = 0; i < c->p->sysctls.n; i++) {
		child_cat(path, sizeof path, "sys/", c->p->sysctls.p[i].key, NULL);
		child_proc_write(c, path, c->p->sysctls.p[i].value);
	}
}

static void set_oom_score(struct child *c)
{
	char text[16], *at;

	if (!c->p->has_oom_score)
		return;
	at = decimal((unsigned)(c->p->oom_score < 0 ? -c->p->oom_score : c->p->oom_score), text);
	if (c->p->oom_score < 0)
		*--at = '-';
	child_proc_write(c, "self/oom_score_adj", at);
}

static void set_names(const struct child *c)
{
	const struct plan *p = c->p;

	if (p->hostname)
		child_need(c, sys_sethostname(p->hostname, strlen(p->hostname)), "set the host name",
			   p->hostname);
	if (p->domainname)
		child_need(c, sys_setdomainname(p->domainname, strlen(p->domainname)), "set the domain name",
			   p->domainname);
}

/*
 * SECURITY: not the host's null device, whose mode and owner root of the container could then change; and the
 * container's only when it is one: what stands there may be any file that we may write and the program may
 * not.
 */
static int open_null(const struct child *c)
{
	child_fd int fd = sys_open_in_root(c->root_fd, "dev/null", O_RDWR | O_NOCTTY, 0);
	struct stat st;
	int r = fd < 0 ? fd : sys_fstat(fd, &st);

	if (r < 0)
		return r;
	return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) ? TAKE_FD(fd) : -ENODEV;
}

/* A descriptor for stream i that no placing of another overwrites: above 2, or in its place already. */
static int stream(const struct child *c, int i)
{
	int fd = c->tty_fd >= 0 ? c->tty_fd : c->stdio[i];

	if (fd < 0)
		return child_need(c, open_null(c), "open the container's null device", "/dev/null");
	if (c->tty_fd < 0 && (c->null_streams & 1u << i)) {
		int own = open_null(c);

		if (own >= 0)
			return own;
	}
	return fd > 2 || fd == i ? fd : child_need(c, sys_dup(fd), "copy standard streams", NULL);
}

static void set_stdio(struct child *c)
{
	int from[3];

	for (int i = 0; i < 3; i++) {
		struct stat st;

		from[i] = stream(c, i);
		/* so that /dev/stdout can be opened again by the user; a pipe or socket made for us, never a
		 * file of the host */
		if (c->p->uid && sys_fstat(from[i], &st) == 0 && (c->tty_fd >= 0 || S_ISFIFO(st.st_mode)))
			(void)sys_fchown(from[i], c->p->uid, c->tty_fd >= 0 ? (gid_t)-1 : c->p->gid);
	}
	for (int i = 0; i < 3; i++)
		if (from[i] != i)
			child_need(c, sys_dup2(from[i], i), "place standard streams", NULL);
	if (c->tty_fd >= 0 && !c->born)
		child_need(c, sys_ioctl(0, TIOCSCTTY, NULL), "take the terminal", NULL);
}

/*
 * SECURITY: the first moment at which processes of the container can see us, by number: with the rights of the program, no
 * more, so that who may trace us (CAP_SYS_PTRACE) gains nothing by it. Returns in the new process.
 */
static void be_born(const struct child *c)
{
	if (child_need(c, sys_clone_sibling(c->born), "make a process in the container", NULL) > 0)
		_exit(0);
	child_need(c, sys_setsid(), "start a session", NULL);
	if (c->tty_fd >= 0)
		child_need(c, sys_ioctl(0, TIOCSCTTY, NULL), "take the terminal", NULL);
	if (c->p->die_with_parent)
		child_need(c, sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0), "set the parent-death signal", NULL);
}

static void set_limits(const struct child *c)
{
	for (size_t i = 0; i < c->p->limits.n; i++)
		child_need(c, sys_setrlimit(c->p->limits.p[i].resource, &c->p->limits.p[i].limit),
			   "set a resource limit", NULL);
}

/*
 * SECURITY: a working directory by an fd of ours or of the caller (/proc/self/fd/7) is not followed, and what
 * lies outside of the root all the same the kernel says in its path (CVE-2024-21626). -ENOTDIR … as chdir.
 */
static int enter_cwd(const struct child *c)
{
	const char *path = c->p->cwd + strspn(c->p->cwd, "/");
	child_fd int root = -1, dir = -1;
	char now[PATH_MAX];
	int r;

	if (!*path)
		return sys_chdir("/");
	root = r = sys_open("/", O_PATH | O_DIRECTORY, 0);
	if (r >= 0)
		dir = r = sys_open_in_root(root, path, O_PATH | O_DIRECTORY, 0);
	if (r < 0)
		return r;
	if ((r = sys_fchdir(dir)) < 0)
		return r;
	if (sys_getcwd(now, sizeof now) < 0 || now[0] != '/')
		child_fail(c, ENOENT, "working directory is outside of the container:", c->p->cwd);
	return 0;
}

/* Once as root, who may enter where the user may not; returns true if the user must try. */
static bool cwd_is_left_to_user(const struct child *c)
{
	int r = enter_cwd(c);

	if (r == -EACCES || r == -EPERM) /* a file system that does not know our root */
		return true;
	child_need(c, r, "change to working directory", c->p->cwd);
	return false;
}

static void set_user(struct child *c)
{
	const struct plan *p = c->p;
	uint64_t effective, permitted;

	if (p->has_caps) {
		for (int i = 0; i < 64; i++) {
			int r = p->caps[0] >> i & 1 ? 0 : sys_prctl(PR_CAPBSET_DROP, (unsigned long)i, 0, 0);

			if (r == -EINVAL && i > CAP_CHECKPOINT_RESTORE)
				break; /* beyond the kernel's last; up to this one all kernels have them
					  since 5.9 */
			child_need(c, r, "drop a capability of the bounding set", NULL);
		}
	}
	if (p->uid) /* root that stays root keeps them */
		child_need(c, sys_prctl(PR_SET_KEEPCAPS, 1, 0, 0), "keep capabilities", NULL);
	if (!p->keep_groups) {
		int r = sys_setgroups(p->n_groups, p->groups);

		/* none wanted, and the namespace of a user without rights may not change them: they map to
		 * nobody */
		if (r != -EPERM || p->n_groups || !(c->no_rights || new_ns(p, CLONE_NEWUSER)))
			child_need(c, r, "set supplementary groups", NULL);
	}
	child_need(c, sys_setresgid(p->gid), "set the group", NULL);
	child_need(c, sys_setresuid(p->uid), "set the user", NULL);
	child_need(c, sys_capget(&effective, &permitted), "read capabilities", NULL);
	if (effective != permitted || !p->has_caps) /* else set_caps says the rest */
		child_need(c, sys_capset(permitted, permitted, 0), "raise capabilities", NULL);
	c->permitted = permitted;
}

static void set_caps(const struct child *c)
{
	const struct plan *p = c->p;
	const uint64_t have = c->permitted;
	uint64_t permitted;

	if (!p->has_caps)
		return;
	/* what we do not have cannot be given: as the specification wants, that is no error */
	permitted = p->caps[2] & have;
	child_need(c, sys_capset(p->caps[1] & permitted, permitted, p->caps[3] & (have | permitted)),
		   "set capabilities", NULL);
	for (int i = 0; i < 64; i++)
		if (p->caps[4] & permitted & p->caps[3] & UINT64_C(1) << i)
			(void)sys_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, (unsigned long)i, 0);
}

static void set_filter(const struct child *c)
{
	union {
		const struct sock_filter *in;
		struct sock_filter *out;
	} u = { .in = c->p->filter };
	struct sock_fprog f = { (unsigned short)c->p->n_filter, u.out };
	int r;

	if (f.len && c->agent >= 0) {
		r = sys_seccomp_listener(&f, c->p->filter_flags, c->agent, c->p->listener_text,
					 strlen(c->p->listener_text));
		if (r == -EINVAL && c->p->filter_flags & SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
			child_fail(c, EINVAL, "install the seccomp filter: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs Linux 5.19",
				   NULL);
		child_need(c, r, "install the seccomp filter and tell its agent", c->p->listener);
	} else if (f.len)
		child_need(c, sys_seccomp(&f, c->p->filter_flags), "install the seccomp filter", NULL);
}

/* The whole message for the seccomp agent, now that the pid is known. */
static void write_agent_text(const struct child *c)
{
	const struct plan *p = c->p;
	const char *state[HOOK_STATE_PARTS];
	char digits[12];
	size_t n = 0;

	hook_state(p, p->is_exec ? "running" : "creating", c->pid, digits, state);
	{
		const char *const parts[] = { p->listener_head,
					      ",\"pid\":",
					      state[4],
					      p->listener_metadata ? "," : "",
					      p->listener_metadata,
					      ",\"state\":",
					      state[0],
					      state[1],
					      state[2],
					      state[3],
					      state[4],
					      state[5],
					      state[6],
					      "}" };

		for (size_t i = 0; i < LEN(parts); i++) {
			child_cat(p->listener_text + n, p->listener_room - n, parts[i], NULL, NULL);
			n += strlen(p->listener_text + n);
		}
	}
}

static const char *env_path(const struct plan *p)
{
	for (char *const *e = p->env; e && *e; e++)
		if (strncmp(*e, "PATH=", 5) == 0)
			return *e + 5;
	return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
}

static int is_program(const char *path)
{
	struct stat st;
	int r = sys_fstatat(AT_FDCWD, path, &st, 0);

	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, path, X_OK, AT_EACCESS) < 0)
		return -EACCES;
	return 0;
}

/* As execvp finds it, with the PATH of the container. Told before "ready", because callers want to know at
 * create. */
static void find_program(const struct child *c, char out[4096])
{
	const char *name = c->p->args[0], *dir = env_path(c->p);
	int best = -ENOENT, r;

	if (strchr(name, '/') || !name[0]) {
		child_cat(out, 4096, name, NULL, NULL);
		if ((r = is_program(out)) < 0)
			child_fail(c, -r, "exec:", name);
		return;
	}
	for (const char *end = dir;; dir = end + 1) {
		char part[4096];
		size_t n;

		end = strchrnul(dir, ':');
		n = (size_t)(end - dir) < sizeof part - 1 ? (size_t)(end - dir) : sizeof part - 1;
		memcpy(part, dir, n);
		part[n] = 0;
		child_cat(out, 4096, n ? part : ".", "/", name);
		if ((r = is_program(out)) == 0)
			return;
		if (r == -EACCES)
			best = r;
		if (!*end)
			break;
	}
	child_fail(c, -best, best == -EACCES ? "exec:" : "exec: executable file not found in $PATH:", name);
}

/*
 * What we got from the parent by birth and what the set-up opened must not stay for as long as a created
 * container waits: a lock of the parent would stay locked, a directory of the host in reach. All goes but
 * what is needed until execve.
 */
static void close_others(const struct child *c)
{
	const int keep[] = { c->sync, c->listen_fd, c->agent, c->hook_out[0], c->hook_out[1], c->proc_fd };
	int from = 3 + (int)c->preserve_fds;

	for (;;) {
		int next = INT_MAX; /* the lowest of them from here on */

		for (size_t i = 0; i < LEN(keep); i++)
			if (keep[i] >= from && keep[i] < next)
				next = keep[i];
		if (next > from)
			child_need(c, sys_close_range(from, next - 1), "close descriptors", NULL);
		if (next == INT_MAX)
			return;
		from = next + 1;
	}
}

/*
 * SECURITY: until execve no process of the container may trace us or use our fds, whatever it shares with us.
 * After set_user, which sets this back to fs.suid_dumpable.
 */
static void make_untraceable(const struct child *c)
{
	child_need(c, sys_prctl(PR_SET_DUMPABLE, 0, 0, 0), "become untraceable", NULL);
}

static void wait_for_start(struct child *c)
{
	close_others(c);
	tell(c, CHILD_READY, -1);
	if (c->listen_fd > 0) {
		int fd = sys_unix_accept(c->listen_fd);

		if (fd < 0 || sys_nonblock(fd, false) < 0)
			_exit(125);
		(void)sys_close(c->sync);
		c->sync = fd;
	}
	if (hear(c).kind != CHILD_START)
		_exit(125);
}

static void start_hooks(const struct child *c)
{
	int r, i = hook_run_all(c->p, HOOK_START_CONTAINER, "created", c->pid, c->hook_out, &r);

	if (i >= 0)
		child_refuse(c, "startContainer", &c->p->hooks[HOOK_START_CONTAINER].p[i], r);
}

/* From here on the same for a container's first process and for exec. */
static _Noreturn void become(struct child *c)
{
	const struct plan *p = c->p;
	char program[4096];
	bool late_cwd;

	set_stdio(c);
	set_limits(c);
	if (!p->args) { /* the specification: a container without process can be created but not started */
		make_untraceable(c);
		wait_for_start(c);
		child_fail(c, EINVAL, "the configuration has no process to start", NULL);
	}
	child_policy(c);
	child_home(c);
	late_cwd = cwd_is_left_to_user(c);
	set_user(c);
	make_untraceable(c);
	if (late_cwd)
		child_need(c, enter_cwd(c), "change to working directory", c->p->cwd);
	(void)umask(p->umask >= 0 ? (mode_t)p->umask : 022);
	find_program(c, program);
	wait_for_start(c);
	start_hooks(c);
	if (c->agent >= 0)
		write_agent_text(c);
	if (p->die_with_parent)
		child_need(c, sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0), "set the parent-death signal",
			   NULL);
	/* SECURITY: no descriptor of ours reaches the program */
	child_need(c, sys_close_from(3 + (int)c->preserve_fds), "mark descriptors", NULL);
	child_labels(c);
	tell(c, CHILD_EXEC, -1);
	/* as little as can be between the filter and the program: a profile needs to allow execve, and
	 * without no_new_privs, when the kernel wants a capability for it, capset and prctl */
	if (!p->no_new_privs)
		set_filter(c);
	set_caps(c);
	if (c->born)
		be_born(c);
	if (p->no_new_privs) {
		child_need(c, sys_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0), "set no_new_privs", NULL);
		set_filter(c);
	}
	child_fail(c, -sys_execve(program, p->args, p->env), "exec:", program);
}

/* While the root can still be written: a read-only one comes with the pivot. */
static void make_cwd(const struct child *c)
{
	const char *cwd = c->p->cwd, *path = cwd + strspn(cwd, "/");
	child_fd int fd = *path ? sys_open_in_root(c->root_fd, path, O_PATH, 0) : -1;

	if (fd == -ENOENT)
		child_need(c, child_mkdirs(c->root_fd, cwd), "make the working directory", cwd);
}

static void create_hooks(const struct child *c)
{
	int r, i = hook_run_all(c->p, HOOK_CREATE_CONTAINER, "created", c->pid, c->hook_out, &r);

	if (i >= 0)
		child_refuse(c, "createContainer", &c->p->hooks[HOOK_CREATE_CONTAINER].p[i], r);
}

static void join_keyring(const struct child *c)
{
	int r = sys_join_keyring(c->p->id);

	if (r < 0 && r != -ENOSYS && r != -EPERM && r != -EDQUOT)
		child_fail(c, -r, "make a session keyring", NULL);
}

void child_run(struct child *c)
{
	const struct plan *p = c->p;

	if (p->die_with_parent)
		(void)sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0);
	/* SECURITY: in a pid namespace that others live in already (CVE-2016-9962) */
	if (!new_ns(p, CLONE_NEWPID) && !new_ns(p, CLONE_NEWUSER))
		make_untraceable(c);
	child_need(c, sys_setsid(), "start a session", NULL);
	join_groups(c);
	join_namespaces(c);
	if (new_ns(p, CLONE_NEWNET) && c->net_fd < 0)
		child_need(c, sys_loopback_up(), "set the loopback device up", NULL);
	child_clocks(c);
	if (c->has_apparmor || c->has_selinux)
		(void)child_proc(c);
	hear_go(c);
	reset_signals(c);
	if (new_ns(p, CLONE_NEWUSER)) {
		child_need(c, sys_setresgid(0), "become root of the user namespace", NULL);
		child_need(c, sys_setresuid(0), "become root of the user namespace", NULL);
	}
	if (new_ns(p, CLONE_NEWCGROUP))
		child_need(c, sys_unshare(CLONE_NEWCGROUP), "make a cgroup namespace", NULL);
	if (!p->no_keyring)
		join_keyring(c);
	(void)umask(0);
	child_rootfs(c);
	child_mounts(c);
	child_devices(c);
	if (p->terminal)
		child_console(c);
	make_cwd(c);
	set_sysctls(c);
	set_oom_score(c);
	child_masks(c);
	create_hooks(c);
	set_names(c);
	child_pivot(c);
	become(c);
}

static void open_exec_tty(struct child *c)
{
	c->root_fd = child_need(c, sys_open("/", O_PATH | O_DIRECTORY, 0), "open the root", NULL);
	if (c->p->terminal)
		child_console(c);
}

void child_run_exec(struct child *c)
{
	/* we were born in its pid namespace, or our sibling will be */
	const int ns = c->born ? c->target_ns : c->target_ns & ~CLONE_NEWPID;

	if (c->p->die_with_parent)
		(void)sys_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0);
	/* SECURITY: no process of the container may trace us once we are in its namespaces (CVE-2016-9962) */
	make_untraceable(c);
	set_oom_score(c);
	if (c->has_apparmor || c->has_selinux)
		(void)child_proc(c);
	join_groups(c);
	if (ns)
		child_need(c, sys_setns(c->target_fd, ns), "join the container", NULL);
	if (c->target_root >= 0) { /* its mounts are in our own namespace: only its root tells them apart */
		child_need(c, sys_fchdir(c->target_root), "enter the container's root", NULL);
		child_need(c, sys_chroot("."), "enter the container's root", NULL);
	}
	hear_go(c);
	reset_signals(c);
	if (!c->born)
		child_need(c, sys_setsid(), "start a session", NULL);
	(void)umask(0);
	open_exec_tty(c);
	become(c);
}

/* As root of the container: what is made belongs to its user namespace. */
void child_run_mounts(struct child *c)
{
	make_untraceable(c); /* SECURITY: we have rights that the container has not (CVE-2016-9962) */
	c->is_late = true;
	child_need(c, sys_setns(c->target_fd, c->target_ns & ~CLONE_NEWPID), "join the container", NULL);
	if (c->target_ns & CLONE_NEWUSER) {
		child_need(c, sys_setresgid(0), "become root of the user namespace", NULL);
		child_need(c, sys_setresuid(0), "become root of the user namespace", NULL);
		make_untraceable(c);
	}
	(void)umask(0);
	c->root_fd = child_need(c, sys_open("/", O_PATH | O_DIRECTORY, 0), "open the root", NULL);
	child_mounts(c);
	_exit(0); /* which says that it is done */
}
