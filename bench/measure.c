/*
 * measure.c - measure FD COMMAND…: runs a command once and writes to FD what it took: wall ns, CPU us (user + system, with all waited-for children),
 * largest resident set in KiB. Small and static, so that its own memory is not the child's floor (a child's peak includes
 * that of the image it was forked from).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long us(struct timeval t)
{
	return (long long)t.tv_sec * 1000000 + t.tv_usec;
}

static long long now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

int main(int argc, char *argv[])
{
	long long start = now_ns(), end;
	struct rusage u;
	int status = 0;
	pid_t pid;

	if (argc < 3)
		return 2;
	pid = vfork();
	if (pid == 0) {
		(void)execvp(argv[2], argv + 2);
		_exit(127);
	}
	if (pid < 0 || wait4(pid, &status, 0, &u) != pid)
		return 1;
	end = now_ns();
	(void)dprintf(atoi(argv[1]), "%lld %lld %ld\n", end - start, us(u.ru_utime) + us(u.ru_stime), u.ru_maxrss);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
