#include "supervise/health.h"
#include "base/mem.h"
#include "state/record.h"
#include "sys/event.h"
#include "sys/proc.h"
#include "sys/spawn.h"
#include "sys/sys.h"
#include <signal.h>
#include <string.h>

#define MS INT64_C(1000000)

void health_begin(struct health *h, const struct keeper_conf *c, int64_t now_ns)
{
	static const char text[] = "{\"Status\":\"starting\",\"FailingStreak\":0,\"Log\":[]}\n";

	h->has_passed = false;
	h->started_ns = now_ns;
	h->due_ns = 0;
	if (!c->health_ms)
		return;
	err_free(record_write_volatile(KEEPER_FD_RUN, "health", text,
				       sizeof text - 1)); /* a full /run: the first check does */
	h->due_ns = now_ns + health_pause(h, c, now_ns);
}

int64_t health_left(const struct health *h, int64_t now_ns)
{
	if (!h->due_ns)
		return -1;
	return h->due_ns > now_ns ? h->due_ns - now_ns : 0;
}

int64_t health_pause(const struct health *h, const struct keeper_conf *c, int64_t now_ns)
{
	bool is_starting = !h->has_passed && now_ns - h->started_ns < (int64_t)c->health_period_ms * MS;

	return (int64_t)(is_starting ? c->health_start_ms : c->health_ms) * MS;
}

void health_run(struct health *h, const struct keeper_conf *c, int ep, uint64_t key, int64_t now_ns)
{
	union {
		const char *in;
		char *out;
	} u[7] = { { .in = c->hoy }, { .in = "--root" },        { .in = c->root }, { .in = "--run" },
		   { .in = c->run }, { .in = "keeper-health" }, { .in = c->id } };
	static const int null_fds[3] = { -1, -1, -1 };
	char *argv[8] = { NULL };

	for (size_t i = 0; i < LEN(u); i++)
		argv[i] = u[i].out;
	h->due_ns = 0;
	if (sys_spawn_run(&(struct sys_spawn){ .path = argv[0], .argv = argv, .fds = null_fds, .n_fds = 3 },
			  &h->pid_fd) < 0 ||
	    sys_epoll_set(ep, EPOLL_CTL_ADD, h->pid_fd, EPOLLIN, key) < 0) {
		health_stop(h, ep);
		h->due_ns =
		    now_ns + health_pause(h, c, now_ns); /* no process to be had now: later, perhaps */
	}
}

/* Reaps the check; its exit status, -1: there was none. */
static int reap(struct health *h, int ep)
{
	int code = -1;

	if (h->pid_fd < 0)
		return -1;
	(void)sys_epoll_set(ep, EPOLL_CTL_DEL, h->pid_fd, 0, 0);
	code = sys_pid_fd_wait(h->pid_fd, false, NULL);
	(void)sys_close(h->pid_fd);
	h->pid_fd = -1;
	return code;
}

void health_ended(struct health *h, const struct keeper_conf *c, int ep, int64_t now_ns)
{
	int code = reap(h, ep);

	if (code == 0)
		h->has_passed = true;
	h->due_ns = now_ns + health_pause(h, c, now_ns);
}

void health_stop(struct health *h, int ep)
{
	if (h->pid_fd >= 0)
		(void)sys_pid_fd_kill(h->pid_fd, SIGKILL);
	(void)reap(h, ep);
	h->due_ns = 0;
}
