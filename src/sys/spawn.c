/*
 * spawn.c - vfork + exec with an explicit list of fds. The child shares our memory until exec, so an exec error comes back
 * through a variable, without a pipe.
 */
#include "sys/spawn.h"
#include "base/own.h"
#include "sys/sys.h"
#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/close_range.h>

extern char **environ;

#define FDS_MAX 16

static int child_fds(const struct sys_spawn *s)
{
	int high[FDS_MAX];

	for (size_t i = 0; i < s->n_fds; i++) {
		int from = s->fds[i] < 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : s->fds[i];

		high[i] = from < 0 ? -1 : fcntl(from, F_DUPFD_CLOEXEC, 32); /* out of the way of the targets */
		if (high[i] < 0)
			return -1;
	}
	for (size_t i = 0; i < s->n_fds; i++)
		if (dup2(high[i], (int)i) < 0)
			return -1;
	return (int)syscall(SYS_close_range, (unsigned)s->n_fds, ~0u, CLOSE_RANGE_CLOEXEC);
}

static void child_signals(bool new_session)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL }, ign = { .sa_handler = SIG_IGN };
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		(void)sigaction(i, &dfl, NULL);
	if (new_session)
		(void)sigaction(SIGHUP, &ign, NULL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

int sys_spawn_run(const struct sys_spawn *s, int *out_pid_fd)
{
	volatile int failed = 0;
	sigset_t all, old;
	pid_t pid;

	SYS_FAULT("spawn");
	if (s->n_fds > FDS_MAX)
		return -EINVAL;
	sigfillset(&all);
	(void)sigprocmask(SIG_SETMASK, &all, &old); /* no handler of ours may run in the child */
	pid = vfork();
	if (pid == 0) {
		child_signals(s->new_session);
		if (s->new_session)
			(void)setsid();
		if (child_fds(s) == 0)
			(void)execvpe(s->path, s->argv, s->envp ? s->envp : environ);
		failed = errno;
		_exit(127);
	}
	(void)sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return -errno;
	if (failed) {
		(void)waitpid(pid, NULL, 0);
		return -failed;
	}
	if (out_pid_fd) {
		int fd = sys_pid_fd(pid);

		if (fd < 0)
			return fd;
		*out_pid_fd = fd;
	}
	return pid;
}

int sys_spawn_call(int (*fn)(void *arg), void *arg)
{
	int status;
	pid_t pid;

	SYS_FAULT("fork");
	pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0)
		_exit(fn(arg));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	switch (WTERMSIG(status)) {
	case SIGSEGV:
	case SIGBUS:
	case SIGABRT:
	case SIGILL:
	case SIGFPE:
		return -EFAULT;
	default:
		return -ECHILD;
	}
}

int sys_pid_fd(pid_t pid)
{
	SYS_FAULT("pidfd_open");
	return sys_ret(syscall(SYS_pidfd_open, pid, 0));
}

int sys_pid_fd_kill(int pid_fd, int signo)
{
	SYS_FAULT("pidfd_send_signal");
	return sys_ret(syscall(SYS_pidfd_send_signal, pid_fd, signo, NULL, 0));
}

static int shell_status(const siginfo_t *si, int *out_signal)
{
	bool was_killed = si->si_code == CLD_KILLED || si->si_code == CLD_DUMPED;

	if (out_signal)
		*out_signal = was_killed ? si->si_status : 0;
	return was_killed ? 128 + si->si_status : si->si_status;
}

static int wait_for(idtype_t kind, id_t id, bool nohang, int *out_signal)
{
	siginfo_t si = { 0 };

	while (waitid(kind, id, &si, WEXITED | (nohang ? WNOHANG : 0)) < 0)
		if (errno != EINTR)
			return -errno;
	if (si.si_pid == 0)
		return -EAGAIN;
	return shell_status(&si, out_signal);
}

int sys_pid_fd_wait(int pid_fd, bool nohang, int *out_signal)
{
	SYS_FAULT("waitid");
	return wait_for(P_PIDFD, (id_t)pid_fd, nohang, out_signal);
}

int sys_pid_wait(pid_t pid)
{
	SYS_FAULT("waitid");
	return wait_for(P_PID, (id_t)pid, false, NULL);
}

pid_t sys_ended_child(void)
{
	siginfo_t si = { 0 };

	SYS_FAULT("waitid");
	if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0)
		return errno == ECHILD ? 0 : -errno;
	return si.si_pid;
}

int sys_pid_kill(pid_t pid, int signo)
{
	SYS_FAULT("kill");
	return sys_ret(kill(pid, signo));
}

int sys_become_subreaper(void)
{
	SYS_FAULT("prctl");
	return sys_ret(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0));
}

int sys_pdeathsig(int signo)
{
	SYS_FAULT("prctl");
	return sys_ret(prctl(PR_SET_PDEATHSIG, signo, 0, 0, 0));
}

int sys_netns_new(void)
{
	auto_fd int old = -1;
	int fd, r;

	SYS_FAULT("netns");
	old = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (old < 0)
		return -errno;
	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	fd = sys_ret(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
	r = sys_ret(setns(old, CLONE_NEWNET));
	if (r < 0) { /* we cannot go on in a namespace that is not ours */
		if (fd >= 0)
			close(fd);
		return r;
	}
	return fd;
}

int sys_each_entry(int dir_fd, int (*each)(void *ctx, const char *name), void *ctx)
{
	int fd, r = 0;
	struct dirent *d;
	DIR *dir;

	SYS_FAULT("getdents");
	fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	dir = fdopendir(fd);
	if (!dir) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (d = readdir(dir)))
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = each(ctx, d->d_name);
	closedir(dir);
	return r;
}
