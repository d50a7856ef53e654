/* hook.c - hooks (runtime-spec config.md#posix-platform-hooks): state JSON on stdin, in order, with a timeout. */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/event.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

/* Without an environment of its own a hook has ours (as in runc and crun), but inside the container none. */
static _Noreturn void hook_exec(const struct plan_hook *h, int in_fd)
{
	static char *none[] = { NULL };
	char **env = h->env ? h->env : h->is_inside ? none : environ;
	char *one[2] = { NULL, NULL };
	union {
		const char *in;
		char *out;
	} u = { .in = h->path };

	one[0] = u.out;
	(void)sys_prctl(1 /* PR_SET_PDEATHSIG */, SIGKILL, 0, 0);
	if (sys_dup2(in_fd, 0) >= 0 && sys_close_from(3) >= 0)
		(void)sys_execve(h->path, h->args && h->args[0] ? h->args : one, env);
	_exit(127);
}

int hook_run(const struct plan_hook *h, int state_fd)
{
	auto_fd int pid_fd = -1;
	int status = 0, r;
	pid_t pid;

	if ((r = (int)sys_lseek(state_fd, 0, SEEK_SET)) < 0)
		return r;
	pid = sys_clone(0, -1, &pid_fd);
	if (pid == 0)
		hook_exec(h, state_fd);
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

int hook_state(const struct plan *p, const char *status, pid_t pid, int fd)
{
	char digits[12], *at = digits + sizeof digits - 1;
	const char *parts[] = { p->state_head, ",\"status\":\"", status, "\",\"pid\":", NULL,
				",",           p->state_tail };
	unsigned v = (unsigned)pid;
	int r = 0;

	*at = 0;
	do
		*--at = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	parts[4] = at;
	for (size_t i = 0; i < LEN(parts) && r >= 0; i++)
		r = sys_write_all(fd, parts[i], strlen(parts[i]));
	return r;
}

int hook_run_all(const struct plan *p, enum hook_kind kind, const char *status, pid_t pid, int *out_result)
{
	auto_fd int fd = -1;

	if (p->hooks[kind].n == 0)
		return -1;
	/* a file, not a pipe: whatever its size it never blocks, and a hook that does not read costs no
	 * SIGPIPE */
	*out_result = fd = sys_memfd("state");
	if (fd >= 0)
		*out_result = hook_state(p, status, pid, fd);
	for (size_t i = 0; i < p->hooks[kind].n; i++)
		if (*out_result < 0 || (*out_result = hook_run(&p->hooks[kind].p[i], fd)) != 0)
			return (int)i;
	return -1;
}
