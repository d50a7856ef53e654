#include "supervise/health.h"
#include "state/record.h"
#include "supervise/program.h"
#include "sys/spawn.h"
#include <signal.h>

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

void health_run(struct health *h, const struct keeper_conf *c, int64_t now_ns)
{
	pid_t pid = program_run(c, "keeper-health", -1);

	h->pid = pid > 0 ? pid : 0;
	h->due_ns = pid > 0 ? 0 : now_ns + health_pause(h, c, now_ns); /* no process to be had now: later, perhaps */
}

/* Reaps the check; its exit status, -1: there was none. */
static int reap(struct health *h)
{
	int code = h->pid ? sys_pid_wait(h->pid) : -1;

	h->pid = 0;
	return code;
}

void health_ended(struct health *h, const struct keeper_conf *c, int64_t now_ns)
{
	if (reap(h) == 0)
		h->has_passed = true;
	h->due_ns = now_ns + health_pause(h, c, now_ns);
}

void health_stop(struct health *h)
{
	if (h->pid)
		(void)sys_pid_kill(h->pid, SIGKILL);
	(void)reap(h);
	h->due_ns = 0;
}
