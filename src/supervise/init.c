/*
 * init.c - docker-init: process 1 of a container run with --init. Signals somebody sends us go to the child; those the
 * kernel sends (a terminal's Ctrl-C) reach it anyway. Everything that dies is reaped; its own end is our end.
 */
#include "supervise/keeper.h"
#include "base/own.h"
#include "sys/event.h"
#include "sys/spawn.h"
#include <stdio.h>

static const int forwarded[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM, SIGUSR1,  SIGUSR2,	 SIGCONT,
				 SIGTSTP, SIGTTIN, SIGTTOU, SIGALRM, SIGWINCH, SIGCHLD, 0 };

int init_main(char *argv[])
{
	auto_fd int sig = sys_signal_fd(forwarded);
	int pid, code;
	static const int std[3] = { 0, 1, 2 };

	if (argv[1] && strcmp(argv[1], "--") == 0)
		argv++;
	if (!argv[1])
		return 127;
	pid = sys_spawn_run(&(struct sys_spawn){ .path = argv[1], .argv = argv + 1, .fds = std, .n_fds = 3 }, NULL);
	if (pid < 0) {
		(void)fprintf(stderr, "docker-init: %s: %s\n", argv[1], strerror(-pid));
		return pid == -EACCES ? 126 : 127;
	}
	for (;;) {
		struct pollfd p = { .fd = sig, .events = POLLIN };
		int signo, dead;

		(void)sys_poll(&p, 1, -1);
		while ((signo = sys_signal_read(sig)) > 0)
			if (signo != SIGCHLD)
				(void)sys_pid_kill(pid, signo);
		while ((dead = sys_ended_child()) > 0) {
			code = sys_pid_wait(dead);
			if (dead == pid)
				return code;
		}
	}
}
