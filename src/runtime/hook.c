/* hook.c - hooks (runtime-spec config.md#posix-platform-hooks): state JSON on stdin, in order, with a timeout. */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/event.h"
#include "sys/mount.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* Without an environment of its own a hook has ours (as in runc and crun), but inside the container none. */
static _Noreturn void hook_exec(const struct plan_hook *h, int in_fd, const int out[2])
{
	sigset_t all_let_through;
	static char *none[] = { NULL };
	char **env = h->env ? h->env : h->is_inside ? none : environ;
	char *one[2] = { NULL, NULL };
	union {
		const char *in;
		char *out;
	} u = { .in = h->path };

	one[0] = u.out;
	sigemptyset(&all_let_through);
	(void)sigprocmask(SIG_SETMASK, &all_let_through, NULL);
	(void)sys_prctl(1 /* PR_SET_PDEATHSIG */, SIGKILL, 0, 0);
	if (h->dir)
		(void)sys_chdir(h->dir); /* as the peers; a hook that needs it will see */
	for (int i = 0; i < 2; i++)
		if (out[i] >= 0)
			(void)sys_dup2(out[i], i + 1);
	if (sys_dup2(in_fd, 0) >= 0 && sys_close_from(3) >= 0)
		(void)sys_execve(h->path, h->args && h->args[0] ? h->args : one, env);
	_exit(127);
}

int hook_run(const struct plan_hook *h, int state_fd, const int out[2])
{
	auto_fd int pid_fd = -1;
	int status = 0, r;
	pid_t pid;

	if ((r = (int)sys_lseek(state_fd, 0, SEEK_SET)) < 0)
		return r;
	pid = sys_clone(0, -1, &pid_fd);
	if (pid == 0)
		hook_exec(h, state_fd, out);
	if (pid < 0)
		return pid;
	if (h->timeout_s > 0) {
		struct pollfd f = { pid_fd, POLLIN, 0 };

		if (sys_poll(&f, 1, h->timeout_s * 1000) == 0) {
			(void)sys_pidfd_kill(pid_fd, SIGKILL);
			(void)sys_wait(pid, &status, 0);
			return -ETIMEDOUT;
		}
	}
	r = sys_wait(pid, &status, 0);
	return r < 0 ? r : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void hook_state(const struct plan *p, const char *status, pid_t pid, char digits[12],
		const char *out_parts[HOOK_STATE_PARTS])
{
	char *at = digits + 11;
	unsigned v = (unsigned)pid;
	const char *parts[HOOK_STATE_PARTS] = { p->state_head, ",\"status\":\"", status, "\",\"pid\":", NULL,
						",",           p->state_tail };

	*at = 0;
	do
		*--at = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	parts[4] = at;
	memcpy(out_parts, parts, sizeof parts);
}

int hook_open_out(const struct plan *p, int out[2], const char **out_path)
{
	const char *const paths[2] = { p->hook_out, p->hook_err };

	out[0] = out[1] = -1;
	for (int i = 0; i < 2; i++)
		if (paths[i] && (out[i] = sys_open(paths[i], O_CREAT | O_WRONLY | O_APPEND, 0700)) < 0) {
			*out_path = paths[i];
			return out[i];
		}
	return 0;
}

/* A file, not a pipe: whatever its size it never blocks, and a hook that does not read costs no SIGPIPE. */
static int state_file(const struct plan *p, const char *status, pid_t pid)
{
	const char *parts[HOOK_STATE_PARTS];
	char digits[12];
	auto_fd int fd = sys_memfd("state");
	int r = fd;

	hook_state(p, status, pid, digits, parts);
	for (size_t i = 0; i < LEN(parts) && r >= 0; i++)
		r = sys_write_all(fd, parts[i], strlen(parts[i]));
	return r < 0 ? r : TAKE_FD(fd);
}

int hook_run_from(const struct plan *p, enum hook_kind kind, size_t from, const char *status, pid_t pid,
		  const int out[2], int *out_result)
{
	auto_fd int fd = -1;

	if (from >= p->hooks[kind].n)
		return -1;
	*out_result = fd = state_file(p, status, pid);
	for (size_t i = from; i < p->hooks[kind].n; i++)
		if (fd < 0 || (*out_result = hook_run(&p->hooks[kind].p[i], fd, out)) != 0)
			return (int)i;
	return -1;
}

int hook_run_all(const struct plan *p, enum hook_kind kind, const char *status, pid_t pid, const int out[2],
		 int *out_result)
{
	return hook_run_from(p, kind, 0, status, pid, out, out_result);
}
