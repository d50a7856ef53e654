/* hook.c - hooks (runtime-spec config.md#posix-platform-hooks): state JSON on stdin, in order, with a timeout. */
#include "base/own.h"
#include "runtime/child.h"
#include "sys/event.h"
#include "sys/proc.h"
#include "sys/sys.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>

static _Noreturn void hook_exec(const struct plan_hook *h, int in_fd)
{
	static char *const none[] = { NULL };
	char *one[2] = { NULL, NULL };
	union {
		const char *in;
		char *out;
	} u = { .in = h->path };

	one[0] = u.out;
	(void)sys_prctl(1 /* PR_SET_PDEATHSIG */, SIGKILL, 0, 0);
	if (sys_dup2(in_fd, 0) >= 0 && sys_close_from(3) >= 0)
		(void)sys_execve(h->path, h->args && h->args[0] ? h->args : one, h->env ? h->env : none);
	_exit(127);
}

int hook_run(const struct plan_hook *h, const char *state, size_t n)
{
	auto_fd int pid_fd = -1;
	int p[2], status = 0, r = sys_pipe(p);
	pid_t pid;

	if (r < 0)
		return r;
	pid = sys_clone(0, -1, &pid_fd);
	if (pid == 0)
		hook_exec(h, p[0]);
	(void)sys_close(p[0]);
	if (pid > 0)
		(void)sys_write(p[1], state, n); /* below a pipe's 64 KiB: never blocks; a hook may well not read it */
	(void)sys_close(p[1]);
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

static size_t add(char *out, size_t n, size_t size, const char *a, const char *b)
{
	child_cat(out + n, size - n, a, b, NULL);
	return n + strlen(out + n);
}

/* Ids and paths were checked to need no escape by the plan. */
static size_t state_text(const struct plan *p, const char *status, pid_t pid, char *out, size_t size)
{
	char digits[12], *at = digits + sizeof digits - 1;
	unsigned v = (unsigned)pid;
	size_t n = add(out, 0, size, "{\"ociVersion\":\"1.0.2\",\"id\":\"", p->id);

	*at = 0;
	do
		*--at = (char)('0' + v % 10);
	while ((v /= 10) > 0);
	n = add(out, n, size, "\",\"status\":\"", status);
	n = add(out, n, size, "\",\"pid\":", at);
	n = add(out, n, size, ",\"bundle\":\"", p->bundle);
	n = add(out, n, size, p->annotations ? "\",\"annotations\":" : "\"", p->annotations);
	return add(out, n, size, "}", NULL);
}

int hook_run_all(const struct plan *p, enum hook_kind kind, const char *status, pid_t pid, int *out_result)
{
	char state[16384];
	size_t n;

	if (p->hooks[kind].n == 0)
		return -1;
	n = state_text(p, status, pid, state, sizeof state);
	for (size_t i = 0; i < p->hooks[kind].n; i++)
		if ((*out_result = hook_run(&p->hooks[kind].p[i], state, n)) != 0)
			return (int)i;
	return -1;
}
