/*
 * spawn.h - starting our own helper programs, pidfds, sessions, a fresh network namespace.
 *
 * Layer: sys.  Results: >= 0 or -errno.
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct sys_spawn {
	const char *path;	/* absolute, or searched in PATH when it has no slash */
	char *const *argv;
	char *const *envp;	/* NULL: ours */
	const int *fds;		/* fds[i] becomes fd i of the child (borrowed; -1: /dev/null); all others are closed */
	size_t n_fds;		/* at most 16 */
	bool new_session;	/* setsid, SIGHUP ignored */
};
/* The child's pid; *out_pid_fd (owned, may be NULL) its pidfd. -ENOENT and so on when the program could not be executed. */
int sys_spawn_run(const struct sys_spawn *s, int *out_pid_fd);
/*
 * Runs fn(arg) in a forked child that exits with its result (0..255); waits for it. For what must not happen in our own
 * process: unshare, setns. -EFAULT: the child crashed; -ECHILD: somebody killed it.
 */
int sys_spawn_call(int (*fn)(void *arg), void *arg);
int sys_pid_fd(pid_t pid);			    /* owned */
int sys_pid_fd_kill(int pid_fd, int signo);
/* Waits for a child: exit status as a shell has it (128 + signal). nohang: -EAGAIN while it lives. */
int sys_pid_fd_wait(int pid_fd, bool nohang, int *out_signal);
int sys_pid_kill(pid_t pid, int signo);
int sys_pid_wait(pid_t pid); /* the same for a child by its number */
/* A child that has ended and waits to be reaped, or 0. */
pid_t sys_ended_child(void);
int sys_become_subreaper(void);
int sys_pdeathsig(int signo);
/* A new network namespace, nobody inside. Owned fd. */
int sys_netns_new(void);
/* Calls each for every name but . and .. of a directory (borrowed fd); stops at the first non-zero result, returned. */
int sys_each_entry(int dir_fd, int (*each)(void *ctx, const char *name), void *ctx);
